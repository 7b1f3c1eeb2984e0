package e2e_test

import (
	"os/exec"
	"strings"
	"testing"
)

// TestOutsideCaller runs what the README shows of the API, word by word, with curl and a
// shell: a rebuild is created, and created again, followed, looked at and approved, and
// an analyst who may only read queries its table.
func TestOutsideCaller(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"bash", "curl", "jq"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%v: scripts/install-tools.sh installs it", err)
		}
	}
	const count = 500
	w := newServeWorld(t, count)
	server := start(t, w.env, "serve", "--archive", "--project")
	o := newOutside(t, server)
	o.token = w.newToken(t, "operator")
	o.archived(count)
	// There is a table already, which lacks what comes now.
	first := o.job(o.want(201, "POST", "/v1/rebuilds", `{"spec":{"projection":"orders","approval":"automatic"}}`))
	if j, _ := o.follow(first.ID, hasEnded); j.State != "succeeded" {
		t.Fatalf("the first build: %+v", j)
	}

	_, script, found := strings.Cut(readFile(t, "README.md"), "```sh\nAPI=http://127.0.0.1:8080\n")
	script, _, closed := strings.Cut(script, "```")
	if !found || !closed {
		t.Fatal("the README shows nothing of the API")
	}
	script = strings.ReplaceAll(script, "http://127.0.0.1:8123/?user=analyst", w.ch.HTTPURL()+"/?user=reader")
	cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir, cmd.Env = t.TempDir(), environ("API="+o.url, "TOKEN="+o.token)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, stderr.String())
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	t.Logf("it printed\n%s", out)
	if len(lines) < 4 || lines[0] != lines[1] || len(lines[0]) != 26 {
		t.Fatalf("a repeat made another job:\n%s", out)
	}
	for _, want := range []string{`"same":40`, `"added":0`} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the difference does not say %s", want)
		}
	}
	if last := lines[len(lines)-1]; last != "40" {
		t.Errorf("the analyst reads %q", last)
	}
	if jobs := o.list("?kind=rebuild&state=succeeded"); len(jobs) != 2 || jobs[0].ID != lines[0] {
		t.Errorf("the rebuilds: %+v", jobs)
	}
}
