package e2e_test

import (
	"regexp"
	"strings"
	"testing"
)

// away is a person who has the program, the address of a server and a token, and reaches
// neither the bucket nor Redis nor ClickHouse.
type away struct {
	*operator
	there *operator
}

// newAway serves what an operator has.
func newAway(t *testing.T, o *operator) *away {
	t.Helper()
	text := strings.TrimSpace(mustReservoir(t, o.env, "token", "create", "--name", "anna", "--role", "operator", "--quiet").stdout)
	served := newOutside(t, start(t, append(o.env, "RESERVOIR_SERVER_LISTEN=127.0.0.1:0"), "serve", "--project"))
	return &away{o, &operator{o.kitchen, []string{"RESERVOIR_SERVER=" + served.url, "RESERVOIR_TOKEN=" + text}}}
}

// Texts of two runs of a command that differ: IDs of jobs that each made, and times.
var madeApart = regexp.MustCompile(`\b[0-7][0-9A-HJKMNP-TV-Z]{25}\b|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?`)

// both runs a command here and through the server, and wants the same of both.
func (a *away) both(t *testing.T, args ...string) string {
	t.Helper()
	here, there := reservoir(t, a.env, args...), reservoir(t, a.there.env, args...)
	problem := func(r run) string {
		_, text, _ := strings.Cut(r.stderr, "error: ")
		return madeApart.ReplaceAllString(text, "-")
	}
	if here.status != there.status || madeApart.ReplaceAllString(here.stdout, "-") != madeApart.ReplaceAllString(there.stdout, "-") || problem(here) != problem(there) {
		t.Errorf("reservoir %s\non the bucket: status %d\n%s%s\nthrough the server: status %d\n%s%s",
			strings.Join(args, " "), here.status, here.stdout, problem(here), there.status, there.stdout, problem(there))
	}
	return there.stdout
}

// TestRebuildsThroughServer: somebody who reaches a server only does with rebuilds what one
// at the bucket does, and reads the same.
func TestRebuildsThroughServer(t *testing.T) {
	t.Parallel()
	o := newOperator(t, "timeline")
	a := newAway(t, o)

	first := asks[shownJob](t, a.there, foundNothing, "rebuild", "create", "timeline", "--approval", "automatic", "--reason", "first", "--name", "one")
	if first.CreatedBy != "anna" {
		t.Errorf("created: %+v", first)
	}
	a.there.does(t, foundNothing, "rebuild", "watch", first.ID)
	o.define(t, "timeline", strings.Replace(kitchenTables["timeline"], "tenant, type, concat", "tenant, if(n % 100 = 0, 'Lost', type) AS type, concat", 1))
	second := asks[shownJob](t, a.there, foundSomething, "rebuild", "create", "timeline", "--approval", "required", "--watch")
	if second.State != "paused" || second.Progress.Phase != "approval" {
		t.Fatalf("watched: %+v", second)
	}
	for _, args := range []string{
		"show " + first.ID, "show " + first.ID + " --json", "show " + second.ID, "show " + second.ID + " --json",
		"diff " + first.ID, "diff " + second.ID, "diff " + second.ID + " --json", "watch " + first.ID, "watch " + second.ID, "watch " + second.ID + " --json",
		"list", "list --all", "list --all --json", "list --state paused --json", "list --all --projection timeline", "list --all --projection nothing", "list --all --limit 1",
		"retry " + second.ID, "pause " + second.ID, "approve " + first.ID, "create timeline --paused", "create timeline --paused --json",
		"create timelin", "create timeline --aggregate o1", "create timeline --from 2026-11-02 --to 2026-11-01",
		"show 17", "show 01KAJ4M5N6P7Q8R9S0T1V2W3X4", "diff 01KAJ4M5N6P7Q8R9S0T1V2W3X4", "approve 01KAJ4M5N6P7Q8R9S0T1V2W3X4", "watch 01KAJ4M5N6P7Q8R9S0T1V2W3X4",
		"rollback timeline --to 9",
	} {
		a.both(t, append([]string{"rebuild"}, strings.Fields(args)...)...)
	}
	for _, args := range []string{"create timeline --approval perhaps", "rollback nothing"} { // in other words
		a.does(t, misused, append([]string{"rebuild"}, strings.Fields(args)...)...)
		a.there.does(t, misused, append([]string{"rebuild"}, strings.Fields(args)...)...)
	}
	if text := a.there.does(t, foundSomething, "rebuild", "diff", second.ID); !strings.Contains(text, "6 changed") || !strings.Contains(text, "Lost") {
		t.Errorf("the difference reads\n%s", text)
	}
	if text := a.there.does(t, foundNothing, "__complete", "rebuild", "create", ""); !strings.Contains(text, "timeline") {
		t.Errorf("projections are completed to\n%s", text)
	}
	if text := a.there.does(t, foundNothing, "__complete", "rebuild", "approve", ""); !strings.Contains(text, second.ID) || strings.Contains(text, first.ID) {
		t.Errorf("rebuilds to approve are completed to\n%s", text)
	}
	a.there.does(t, foundNothing, "rebuild", "approve", second.ID)
	a.there.does(t, foundNothing, "rebuild", "watch", second.ID)
	if text, err := o.ch.Query(t.Context(), "SELECT countIf(type = 'Lost') FROM timeline"); err != nil || strings.TrimSpace(text) != "6" {
		t.Errorf("the new table has %s of them, %v", text, err)
	}
	if text := a.there.does(t, foundNothing, "rebuild", "rollback", "timeline"); text != "generation 1 of timeline is live\n" {
		t.Errorf("rolled back: %s", text)
	}
	a.both(t, "rebuild", "rollback", "timeline") // not twice
	a.both(t, "rebuild", "rollback", "timeline", "--to", "1", "--json")
	a.both(t, "rebuild", "show", second.ID)
	for _, args := range []string{"rebuild run timeline", "rebuild dry-run timeline", "replay run --stream lane:a --into redis:x"} {
		if text := a.there.does(t, misused, strings.Fields(args)...); !strings.Contains(text, "RESERVOIR_SERVER names") {
			t.Errorf("%s says %s", args, text)
		}
	}
	a.does(t, foundSomething, "rebuild", "diff", second.ID)
}
