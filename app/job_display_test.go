package app

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reservoirhq/reservoir/config"
	"github.com/reservoirhq/reservoir/jobs"
)

// displayed shows a rebuild of two phases, and gives what is then on the screen.
func displayed(t *testing.T, terminal, joined bool, later func(time.Duration)) string {
	t.Helper()
	var out bytes.Buffer
	a := newApp(Options{}, nil, nil, &out, nil)
	var err error
	if a.cfg, err = config.Load(config.Sources{}); err != nil {
		t.Fatal(err)
	}
	a.errTerminal = terminal
	d := a.newJobDisplay()
	d.joined = joined
	show := func(p jobs.Progress) { d.show(&jobs.Job{State: jobs.Running, Progress: p}) }
	show(jobs.Progress{Phase: "load", Total: 1000, Exact: true})
	later(62 * time.Second)
	show(jobs.Progress{Phase: "load", Done: 1000, Selected: 1000, Total: 1000, Exact: true})
	show(jobs.Progress{Phase: "catch-up"})
	later(3 * time.Second)
	show(jobs.Progress{Phase: "catch-up", Done: 50, Selected: 50})
	show(jobs.Progress{Phase: "verify", Unit: "rows", Done: 500, Total: 2000, Selected: 900})
	later(time.Second)
	d.close()
	return out.String()
}

// Off a terminal every phase has a line when it begins, and one with its time when it is over.
func TestPhasesInPlainText(t *testing.T) {
	for joined, want := range map[bool]string{
		false: `
load  running  0 of 1000 events
load  running  1000 of 1000 events
load  done in 1m2s  1000 events
catch-up  running  0 events
catch-up  done in 3s  50 events
verify  running  500 of at most 2000 rows
`,
		true: `
load  running  0 of 1000 events
load  running  1000 of 1000 events
load  done
catch-up  running  0 events
catch-up  done in 3s  50 events
verify  running  500 of at most 2000 rows
`,
	} {
		synctest.Test(t, func(t *testing.T) {
			got := displayed(t, false, joined, func(d time.Duration) { <-time.After(d) })
			got = "\n" + regexp.MustCompile(`(?m)^\d\d:\d\d:\d\d `).ReplaceAllString(got, "")
			if got != want {
				t.Errorf("joined %v: the display says%swant%s", joined, got, want)
			}
		})
	}
}

// On a terminal every phase has a bar of its own: those of finished phases stay.
func TestBarPerPhase(t *testing.T) {
	got := displayed(t, true, false, func(time.Duration) { <-time.After(3 * displayEvery) })
	for _, bar := range []string{
		`load       \[-*>?\] *running  0 of 1000 events`,
		`load       \[=+\] *done in [\d.]+m?s  1000 events`,
		`catch-up   \[=+\] *done in [\d.]+m?s  50 events`,
		`verify     \[=*>?-*\] *running  500 of at most 2000 rows`,
	} {
		if !regexp.MustCompile(bar).MatchString(got) {
			t.Errorf("there is no bar %s in %q", bar, got)
		}
	}
	last := got[max(strings.LastIndex(got, "load "), 0):]
	if !strings.Contains(last, "done in") || !strings.Contains(last, "catch-up   [==") || strings.Contains(last, "verify") {
		t.Errorf("at the end there is %q", last)
	}
}
