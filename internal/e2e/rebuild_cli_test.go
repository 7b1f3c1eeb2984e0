package e2e_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/internal/stack"
)

// The statuses that commands end with.
const (
	foundNothing   = 0
	foundSomething = 1
	misused        = 2
	failed         = 3
)

// operator is a person who has the program, and nothing else.
type operator struct {
	*kitchen
	env []string
}

// newOperator has a world in which a projection is defined and nothing is built.
func newOperator(t *testing.T, names ...string) *operator {
	t.Helper()
	k := newKitchen(t, 10*time.Second, stack.ClickHouseOptions{}, names...)
	for _, lane := range laneNames {
		if err := k.publish(t.Context(), lane, 400); err != nil {
			t.Fatal(err)
		}
	}
	mustReservoir(t, k.env, "archive", "--once")
	return &operator{k, k.with([]string{
		"RESERVOIR_CLICKHOUSE_URL=" + k.ch.URL(), "RESERVOIR_PROJECTIONS_DIR=" + k.defs, "RESERVOIR_PROJECTIONS_STATE=" + t.TempDir(),
		"RESERVOIR_JOBS_POLL=100ms", "RESERVOIR_USER=anna", "RESERVOIR_LOG_FORMAT=json", "RESERVOIR_LOG_LEVEL=debug", "RESERVOIR_ARCHIVE_ROLL_AGE=2s",
	})}
}

// does runs a command, wants its status, and gives what it printed.
func (o *operator) does(t *testing.T, status int, args ...string) string {
	t.Helper()
	r := reservoir(t, o.env, args...)
	if r.status != status {
		t.Fatalf("reservoir %s: status %d, want %d\n%s\n%s", strings.Join(args, " "), r.status, status, r.stdout, tail(r.stderr))
	}
	if status > foundSomething && !strings.Contains(r.stderr, "\n  ") && !strings.Contains(r.stderr, "hint") && !strings.Contains(r.stderr, "remedy") {
		t.Logf("reservoir %s says nothing of what to do:\n%s", strings.Join(args, " "), r.stderr)
	}
	if status > foundSomething {
		return r.stderr
	}
	return r.stdout
}

// asks is does with --json, of which it reads what it prints.
func asks[T any](t *testing.T, o *operator, status int, args ...string) T {
	t.Helper()
	text := o.does(t, status, append(args, "--json")...)
	var out T
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatalf("reservoir %s printed no JSON: %v\n%s", strings.Join(args, " "), err, text)
	}
	return out
}

// shownJob is what people's programs read of a job.
type shownJob struct {
	ID          string `json:"id"`
	State       string `json:"state"`
	StateReason string `json:"state_reason"`
	Target      string `json:"target"`
	CreatedBy   string `json:"created_by"`
	Progress    struct {
		Phase string `json:"phase"`
	} `json:"progress"`
	Verification *shownVerification `json:"verification"`
}

type shownVerification struct {
	Chunks     int    `json:"chunks"`
	Events     uint64 `json:"events"`
	Rows       uint64 `json:"rows"`
	Difference *struct {
		Added   uint64 `json:"added"`
		Removed uint64 `json:"removed"`
		Changed uint64 `json:"changed"`
		Same    uint64 `json:"same"`
	} `json:"difference"`
}

// TestRebuildCommands does with the program what a person does with a projection, from
// its definition to a rollback, and looks at what each command prints and ends with.
func TestRebuildCommands(t *testing.T) {
	t.Parallel()
	o := newOperator(t, "timeline")
	t.Run("migrate", o.migrates)
	t.Run("projections", o.looksAtProjections)
	start(t, o.env, "worker").mustSay(t, working, 0)
	t.Run("first build", o.buildsFirst)
	start(t, o.env, "projector", "--batch", "50ms")
	t.Run("rebuild", o.rebuilds)
	t.Run("hold", o.holdsBack)
	t.Run("mistakes", o.errs)
	o.settled(t, "timeline")
}

// migrates goes up, down and up again.
func (o *operator) migrates(t *testing.T) {
	type list struct {
		Migrations []struct {
			Version int  `json:"version"`
			Applied bool `json:"applied"`
		} `json:"migrations"`
	}
	applied := func(l list) (n int) {
		for _, m := range l.Migrations {
			if m.Applied {
				n++
			}
		}
		return n
	}
	before := asks[list](t, o, foundSomething, "migrate", "status")
	if len(before.Migrations) == 0 || applied(before) != 0 {
		t.Errorf("before it: %+v", before)
	}
	all := len(before.Migrations)
	for range 2 { // the second time it has nothing to do
		asks[list](t, o, foundNothing, "migrate", "up")
	}
	if l := asks[list](t, o, foundNothing, "migrate", "status"); applied(l) != all {
		t.Errorf("after up: %+v", l)
	}
	o.does(t, misused, "migrate", "down")
	asks[list](t, o, foundNothing, "migrate", "down", "--yes")
	if l := asks[list](t, o, foundSomething, "migrate", "status"); applied(l) >= all {
		t.Errorf("after down: %+v", l)
	}
	asks[list](t, o, foundNothing, "migrate", "up")
}

// looksAtProjections lists, shows, validates and tests definitions.
func (o *operator) looksAtProjections(t *testing.T) {
	type listed struct {
		Projections []struct {
			Name   string `json:"name"`
			Kind   string `json:"kind"`
			Passed bool   `json:"passed"`
		} `json:"projections"`
	}
	if l := asks[listed](t, o, foundNothing, "projections", "list"); len(l.Projections) != 1 || l.Projections[0].Name != "timeline" || l.Projections[0].Kind != "sql" {
		t.Errorf("listed: %+v", l)
	}
	if text := o.does(t, foundNothing, "projections", "show", "timeline"); !strings.Contains(text, "MergeTree") || !strings.Contains(text, "lane") {
		t.Errorf("shown:\n%s", text)
	}
	o.does(t, foundNothing, "projections", "validate")
	o.define(t, "wrong", strings.Replace(kitchenTables["timeline"], "JSONExtractUInt", "JSONExtractUnit", 1))
	if text := o.does(t, foundSomething, "projections", "validate"); !strings.Contains(text, "wrong.yaml") {
		t.Errorf("of a definition that is wrong:\n%s", text)
	}
	if err := os.Remove(filepath.Join(o.defs, "wrong.yaml")); err != nil {
		t.Fatal(err)
	}
	events := o.does(t, foundNothing, "events", "--stream", laneNames[0], "--limit", "8", "-o", "jsonl")
	rows := filepath.Join(o.defs, "timeline.rows.jsonl")
	if err := os.WriteFile(filepath.Join(o.defs, "timeline.events.jsonl"), []byte(events), 0o600); err != nil {
		t.Fatal(err)
	}
	o.does(t, foundNothing, "projections", "test", "--update")
	if l := asks[listed](t, o, foundNothing, "projections", "test"); len(l.Projections) != 1 || !l.Projections[0].Passed {
		t.Errorf("tested: %+v", l)
	}
	text, err := os.ReadFile(rows)
	if err == nil {
		err = os.WriteFile(rows, []byte(strings.Replace(string(text), "Paid", "Pald", 1)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if l := asks[listed](t, o, foundSomething, "projections", "test", "timeline"); len(l.Projections) != 1 || l.Projections[0].Passed {
		t.Errorf("tested with other rows: %+v", l)
	}
}

// buildsFirst builds a table that there is not, with a look at the rows before.
func (o *operator) buildsFirst(t *testing.T) {
	type rows struct {
		Read     int `json:"read"`
		Selected int `json:"selected"`
		Rows     struct {
			Rows [][]json.RawMessage `json:"rows"`
		} `json:"rows"`
	}
	if r := asks[rows](t, o, foundNothing, "rebuild", "dry-run", "timeline", "--events", "10"); r.Read != 20 || r.Selected != 16 || len(r.Rows.Rows) == 0 {
		t.Errorf("the dry run gives %+v", r)
	}
	job := asks[shownJob](t, o, foundSomething, "rebuild", "create", "timeline", "--watch", "--reason", "it is new")
	if job.State != "paused" || job.Progress.Phase != "approval" || !strings.Contains(job.StateReason, "approve "+job.ID) {
		t.Fatalf("created: %+v", job)
	}
	shown := asks[shownJob](t, o, foundNothing, "rebuild", "show", job.ID)
	if v := shown.Verification; v == nil || v.Events != 800 || v.Rows != 600 || v.Difference != nil {
		t.Errorf("shown: %+v", shown.Verification)
	}
	o.does(t, foundNothing, "rebuild", "diff", job.ID) // there is nothing to differ from
	if _, err := o.ch.Query(t.Context(), "SELECT count() FROM timeline"); err == nil {
		t.Error("the table is there before anybody has approved of it")
	}
	asks[shownJob](t, o, foundNothing, "rebuild", "approve", job.ID)
	if job := asks[shownJob](t, o, foundNothing, "rebuild", "watch", job.ID); job.State != "succeeded" {
		t.Errorf("watched: %+v", job)
	}
	if _, err := o.exact(t.Context(), "timeline", "timeline"); err != nil {
		t.Error(err)
	}
}

// rebuilds swaps a table for another one, sees the difference before, and takes it back.
func (o *operator) rebuilds(t *testing.T) {
	o.define(t, "timeline", strings.Replace(kitchenTables["timeline"], "tenant, type, concat", "tenant, if(n % 100 = 0, 'Lost', type) AS type, concat", 1))
	job := asks[shownJob](t, o, foundSomething, "rebuild", "run", "timeline")
	if job.State != "paused" || job.Progress.Phase != "approval" {
		t.Fatalf("run: %+v", job)
	}
	v := asks[shownVerification](t, o, foundSomething, "rebuild", "diff", job.ID)
	if d := v.Difference; d == nil || d.Changed != 6 || d.Added != 0 || d.Removed != 0 || d.Same != 594 {
		t.Errorf("the difference is %+v", v.Difference)
	}
	if text := o.does(t, foundSomething, "rebuild", "diff", job.ID); !strings.Contains(text, "6 changed") || !strings.Contains(text, "Lost") {
		t.Errorf("the difference reads\n%s", text)
	}
	o.does(t, foundNothing, "rebuild", "approve", job.ID)
	o.does(t, foundNothing, "rebuild", "watch", job.ID)
	if text, err := o.ch.Query(t.Context(), "SELECT countIf(type = 'Lost') FROM timeline"); err != nil || strings.TrimSpace(text) != "6" {
		t.Errorf("the new table has %s of them, %v", text, err)
	}
	type document struct {
		Live struct {
			Generation int `json:"generation"`
		} `json:"live"`
	}
	if d := asks[document](t, o, foundNothing, "rebuild", "rollback", "timeline"); d.Live.Generation != 1 {
		t.Errorf("after the rollback: %+v", d)
	}
	if _, err := o.exact(t.Context(), "timeline", "timeline"); err != nil {
		t.Error(err)
	}
	o.define(t, "timeline", kitchenTables["timeline"])
	// What is written now comes by way of the projector.
	if err := o.publish(t.Context(), laneNames[0], 40); err != nil {
		t.Fatal(err)
	}
	o.awaitAll(t, "timeline")
	list := asks[struct {
		Rebuilds []shownJob `json:"rebuilds"`
	}](t, o, foundNothing, "rebuild", "list", "--all", "--projection", "timeline")
	if len(list.Rebuilds) != 2 || list.Rebuilds[0].Target != "projection:timeline" || list.Rebuilds[0].CreatedBy != "anna" {
		t.Errorf("listed: %+v", list)
	}
}

// holdsBack pauses, resumes and cancels.
func (o *operator) holdsBack(t *testing.T) {
	job := asks[shownJob](t, o, foundNothing, "rebuild", "create", "timeline", "--paused", "--idempotency-key", "once")
	if again := asks[shownJob](t, o, foundNothing, "rebuild", "create", "timeline", "--paused", "--idempotency-key", "once"); again.ID != job.ID || job.State != "paused" {
		t.Errorf("created %+v, and again %+v", job, again)
	}
	if j := asks[shownJob](t, o, foundNothing, "rebuild", "resume", job.ID); j.State != "pending" {
		t.Errorf("resumed: %+v", j)
	}
	if j := asks[shownJob](t, o, foundSomething, "rebuild", "watch", job.ID); j.Progress.Phase != "approval" {
		t.Errorf("watched: %+v", j)
	}
	o.does(t, failed, "rebuild", "pause", job.ID) // it waits already
	asks[shownJob](t, o, foundNothing, "rebuild", "cancel", job.ID, "--reason", "not needed")
	if j := asks[shownJob](t, o, foundSomething, "rebuild", "watch", job.ID); j.State != "cancelled" {
		t.Errorf("cancelled: %+v", j)
	}
	if text, err := o.ch.Query(t.Context(), "SELECT count() FROM system.tables WHERE name = 'timeline__g3'"); err != nil || strings.TrimSpace(text) != "0" {
		t.Errorf("its table is there still: %s, %v", text, err)
	}
	slow := asks[shownJob](t, o, foundNothing, "rebuild", "create", "timeline", "--rate", "1")
	// It may have come to its approval already, and then cannot be paused.
	if r := reservoir(t, o.env, "rebuild", "pause", slow.ID); r.status != foundNothing && !strings.Contains(r.stderr, "is paused and cannot be paused") {
		t.Errorf("paused: status %d\n%s", r.status, r.stderr)
	}
	if j := asks[shownJob](t, o, foundNothing, "rebuild", "show", slow.ID); j.State != "paused" {
		t.Errorf("paused: %+v", j)
	}
	o.does(t, foundNothing, "rebuild", "cancel", slow.ID)
	if j := asks[shownJob](t, o, foundSomething, "rebuild", "watch", slow.ID); j.State != "cancelled" {
		t.Errorf("cancelled: %+v", j)
	}
}

// errs asks for what cannot be.
func (o *operator) errs(t *testing.T) {
	const nobody = "01KAJ4M5N6P7Q8R9S0T1V2W3X4"
	for _, c := range []struct {
		status int
		want   string
		args   []string
	}{
		{misused, "timelin", []string{"rebuild", "create", "timelin"}},
		{misused, "approval", []string{"rebuild", "create", "timeline", "--approval", "perhaps"}},
		{misused, "aggregate", []string{"rebuild", "create", "timeline", "--aggregate", "o1"}},
		{misused, "", []string{"rebuild", "show", "17"}},
		{failed, nobody, []string{"rebuild", "show", nobody}},
		{failed, nobody, []string{"rebuild", "diff", nobody}},
		{failed, nobody, []string{"rebuild", "approve", nobody}},
		{failed, nobody, []string{"rebuild", "watch", nobody}},
		{misused, "", []string{"rebuild", "rollback", "nothing"}},
	} {
		if r := reservoir(t, o.env, c.args...); r.status != c.status || !strings.Contains(r.stderr, c.want) || r.stdout != "" {
			t.Errorf("reservoir %s: status %d, want %d\n%s\n%s", strings.Join(c.args, " "), r.status, c.status, r.stdout, r.stderr)
		}
	}
}

// TestProjectorBuilds: with --build the projector has new definitions built, and feeds
// their tables from there.
func TestProjectorBuilds(t *testing.T) {
	t.Parallel()
	o := newOperator(t, "timeline", "totals")
	start(t, o.env, "worker").mustSay(t, working, 0)
	start(t, o.env, "projector", "--build", "--batch", "50ms")
	stop := o.writing(t, 5, 20*time.Millisecond)
	o.appears(t, "timeline", "totals")
	o.define(t, "orders", kitchenTables["orders"]) // while it runs
	o.appears(t, "orders")
	stop()
	for _, name := range []string{"timeline", "totals", "orders"} {
		o.settled(t, name)
		if doc := o.document(t, name); doc.Live.Generation != 1 {
			t.Errorf("%s was built %d times", name, doc.Live.Generation)
		}
	}
	list := asks[struct {
		Rebuilds []shownJob `json:"rebuilds"`
	}](t, o, foundNothing, "rebuild", "list", "--all")
	if len(list.Rebuilds) != 3 {
		t.Errorf("%d rebuilds, want one of each projection: %+v", len(list.Rebuilds), list.Rebuilds)
	}
}

// appears waits until tables are there that nobody has built by hand. What is there is
// right from the first moment.
func (k *kitchen) appears(t *testing.T, names ...string) {
	t.Helper()
	waits := patient(time.Minute)
	for _, name := range names {
		for {
			at, err := k.exact(t.Context(), name, name)
			if err == nil && at[laneNames[0]] > 0 {
				break
			}
			if err != nil && !errors.Is(err, errLook) || waits.over() {
				t.Fatalf("%s is at %v: %v", name, at, err)
			}
			pause(t, 50*time.Millisecond, nil)
		}
	}
}
