package app

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/projection/examples"
)

// exampleDir writes the examples to a directory.
func exampleDir(t *testing.T) string {
	t.Helper()
	dir, files := t.TempDir(), examples.Files()
	if err := os.CopyFS(dir, files); err != nil {
		t.Fatal(err)
	}
	return dir
}

func replaceIn(t *testing.T, file, old, with string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(text), old) {
		t.Fatalf("%s holds no %q, %v", file, old, err)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(text), old, with, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestProjectionCommands(t *testing.T) {
	engine := stacktest.ClickHouse(t, stack.ClickHouseOptions{})
	t.Chdir(t.TempDir())
	dir := exampleDir(t)
	t.Setenv("RESERVOIR_PROJECTIONS_DIR", dir)
	if got := works(t, "projections", "validate"); got != "5 projections are valid; ClickHouse was not asked\n" {
		t.Error(got)
	}
	t.Setenv("RESERVOIR_CLICKHOUSE_URL", engine.URL())
	if got := works(t, "projections", "validate"); got != "5 projections are valid, and ClickHouse takes them\n" {
		t.Error(got)
	}
	if got := works(t, "projections", "test"); !strings.HasSuffix(got, "5 projections, 0 failed\n") || !strings.Contains(got, "cannot be used") {
		t.Error(got)
	}
	if got := works(t, "projections", "list"); !strings.Contains(got, "AggregatingMergeTree") || !strings.Contains(got, "unknown") {
		t.Error(got)
	}
	t.Setenv("RESERVOIR_STORE_URL", "file://"+t.TempDir())
	var shown listedProjection
	if err := json.Unmarshal([]byte(works(t, "projections", "show", "orders", "--json")), &shown); err != nil || shown.State != stateNotBuilt || len(shown.Digest) != 64 {
		t.Errorf("%+v, %v", shown, err)
	}
	if got := works(t, "projections", "show", "traces"); !strings.Contains(got, "fold") || !strings.Contains(got, "tenant, trace_id") {
		t.Error(got)
	}
	if status, _, stderr := command(t, "projections", "show", "ordres"); status != exitUsage || !strings.Contains(stderr, `did you mean "orders"?`) {
		t.Error(status, stderr)
	}
}

// TestProjectionCommandsFindMistakes: what is wrong is shown where it is.
func TestProjectionCommandsFindMistakes(t *testing.T) {
	engine := stacktest.ClickHouse(t, stack.ClickHouseOptions{})
	t.Chdir(t.TempDir())
	dir := exampleDir(t)
	t.Setenv("RESERVOIR_PROJECTIONS_DIR", dir)
	t.Setenv("RESERVOIR_CLICKHOUSE_URL", engine.URL())
	orders := filepath.Join(dir, "orders.yaml")

	replaceIn(t, filepath.Join(dir, "orders.rows.jsonl"), `"status":"`, `"status":"un`)
	replaceIn(t, filepath.Join(dir, "revenue.rows.jsonl"), "{", "{\"nonsense\":1,")
	status, stdout, _ := command(t, "projections", "test")
	for _, want := range []string{"failed: orders", "      status\n        want \"un", "      nonsense\n        want 1\n        got  nothing", "2 failed"} {
		if status != exitProblems || !strings.Contains(stdout, want) {
			t.Errorf("%d, no %q in %s", status, want, stdout)
		}
	}
	if got := works(t, "projections", "test", "--update"); !strings.HasSuffix(got, "0 failed\n") {
		t.Error(got)
	}

	replaceIn(t, orders, "p.channel AS channel", "p.channle AS channel")
	status, stdout, _ = command(t, "projections", "validate")
	if status != exitProblems || !strings.Contains(stdout, "orders.yaml:") || !strings.Contains(stdout, "channle") {
		t.Error(status, stdout)
	}
	replaceIn(t, orders, "p.channle AS channel", "p.channel AS chanel")
	replaceIn(t, orders, "p.item.quantity AS quantity", "toInt64(p.item.quantity) AS quantity")
	status, stdout, _ = command(t, "projections", "validate")
	for _, want := range []string{`did you mean "channel"?`, "table.columns.channel: the SELECT does not give it", "CAST(… AS UInt32) AS quantity", "3 problems\n"} {
		if status != exitProblems || !strings.Contains(stdout, want) {
			t.Errorf("%d, no %q in %s", status, want, stdout)
		}
	}
	replaceIn(t, orders, "approval: required", "approvl: required")
	var out validated
	status, stdout, _ = command(t, "projections", "validate", "--json")
	if err := json.Unmarshal([]byte(stdout), &out); err != nil || status != exitProblems || len(out.Problems) != 1 || out.Problems[0].Remedy != `did you mean "approval"?` {
		t.Errorf("%d %+v %v", status, out, err)
	}
}
