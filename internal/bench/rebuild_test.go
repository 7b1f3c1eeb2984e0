package main

import (
	"bytes"
	"strings"
	"testing"
)

// The benchmark of rebuilds runs, and every way makes the table that is made by hand.
func TestRebuildRound(t *testing.T) {
	s := startServers(t)
	var out bytes.Buffer
	b, err := newRebuildBench(t.Context(), s, options{events: 20_000, rounds: 1, out: &out})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.engine.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := b.archiveAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	r, err := b.round(t.Context(), rebuildSteps())
	if err != nil {
		t.Fatal(err)
	}
	if len(r) != len(rebuildSteps()) {
		t.Fatalf("%d steps were measured", len(r))
	}
	for name, r := range r {
		if r.span <= 0 || r.phases["load"] <= 0 || r.peak <= 0 || r.cpu <= 0 {
			t.Errorf("%s: not measured: %+v", name, r.childRun)
		}
		if !strings.HasPrefix(r.sum, "20000 rows") {
			t.Errorf("%s: %s", name, r.sum)
		}
	}
	if d := r[againStep].Verification.Difference; d == nil || !d.Equal() {
		t.Errorf("the second rebuild differs from the first: %+v", d)
	}
	table := newTable(&out)
	b.printRounds(table, []rebuildRound{r})
	if err := b.scoped(t.Context(), table); err != nil {
		t.Error(err)
	}
	if err := b.fold(t.Context(), table); err != nil {
		t.Error(err)
	}
	t.Log(out.String())
}
