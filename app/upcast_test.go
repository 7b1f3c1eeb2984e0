package app

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const testUpcasters = `
upcasters:
  - type: T1
    to: "2"
    steps:
      - rename: {path: n, to: number}
      - expr: {path: half, is: "payload.number % 3 == 0 ? int('x') : payload.number / 2"}
    samples:
      - name: five
        in: {"n": 5}
        out: {"number": 5, "half": 2.5}
  - type: T1
    from: "2"
    to: "3"
  - type: T0
    to: "3"
    steps: [{type: T9}]
`

func upcasters(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "rules.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestUpcastSamples(t *testing.T) {
	t.Chdir(t.TempDir())
	dir := upcasters(t, testUpcasters)
	if got := works(t, "upcast", "test", dir); !strings.Contains(got, "untested: T0 (no version) → T9 v3 (") ||
		!strings.HasSuffix(got, "1 samples: 1 passed, 0 failed; 1 rules untested\n") {
		t.Error(got)
	}
	t.Setenv("RESERVOIR_REPLAY_UPCASTERS", dir)
	if got := works(t, "upcast", "list"); !strings.Contains(got, "(no version) → v2 → v3") || !strings.Contains(got, "(no version) → T9 v3") {
		t.Error(got)
	}
	var listed struct {
		Digest string
		Chains []listedChain
	}
	if err := json.Unmarshal([]byte(works(t, "upcast", "list", "--json")), &listed); err != nil || len(listed.Digest) != 64 || len(listed.Chains) != 2 {
		t.Errorf("%+v, %v", listed, err)
	}

	wrong := upcasters(t, strings.Replace(testUpcasters, `"half": 2.5`, `"halves": [2]`, 1))
	status, stdout, _ := command(t, "upcast", "test", wrong)
	for _, want := range []string{
		`failed: T1 without a version, sample "five" (` + wrong + `/rules.yaml:9)`,
		"  half\n    want nothing\n    got  2.5\n  halves\n    want [2]\n    got  nothing\n", "0 passed, 1 failed",
	} {
		if status != exitProblems || !strings.Contains(stdout, want) {
			t.Errorf("status %d: %s\nwant %s", status, stdout, want)
		}
	}
	status, stdout, _ = command(t, "upcast", "test", wrong, "--json")
	var report sampleReport
	if err := json.Unmarshal([]byte(stdout), &report); err != nil || status != exitProblems || report.Failed != 1 || len(report.Samples[0].Differences) != 2 {
		t.Errorf("status %d: %s %v", status, stdout, err)
	}
	fails(t, exitUsage, "rules.yaml:3: upcasters[0].typ: it is not known", "upcast", "test", upcasters(t, strings.Replace(testUpcasters, "type", "typ", 1)))
	fails(t, exitUsage, "no such file", "upcast", "list", "none")
	fails(t, exitUsage, "give --stream as well", "upcast", "test", "--limit", "3")
	fails(t, exitUsage, "want test or list", "upcast")
	t.Setenv("RESERVOIR_REPLAY_UPCASTERS", "")
	fails(t, exitUsage, "which upcasters?", "upcast", "test")
}

func TestUpcastArchive(t *testing.T) {
	s := newSite(t)
	s.add(t, "orders", 1, 60)
	works(t, "archive", "--once")
	dir := upcasters(t, testUpcasters)
	status, stdout, _ := command(t, "upcast", "test", dir, "--stream", "ord*")
	for _, want := range []string{"60 events: 50 changed, 10 failed, 0 have no rule", "orders  T1             20       10", "failed: orders: upcast event 3-1 by T1 (no version) → v2"} {
		if status != exitProblems || !strings.Contains(stdout, want) {
			t.Errorf("status %d: %s\nwant %s", status, stdout, want)
		}
	}
	if n := strings.Count(stdout, "failed: "); n != shownErrors {
		t.Errorf("%d errors are shown", n)
	}
	var got trial
	if err := json.Unmarshal([]byte(works(t, "upcast", "test", dir, "--stream", "orders", "--limit", "2", "--json")), &got); err != nil {
		t.Fatal(err)
	}
	if got.Events != 2 || got.Changed != 2 || got.Failed != 0 || len(got.Types) != 2 {
		t.Errorf("%+v", &got)
	}
	fails(t, exitFailure, "nothing in the archive matches", "upcast", "test", dir, "--stream", "none")
}
