package replay_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/replay"
)

// TestRestoresWhatWasLast: a restore reads of the earlier incarnations what the last
// one's history has in common with them, and that only.
func TestRestoresWhatWasLast(t *testing.T) {
	for _, test := range []struct {
		name  string
		order replay.Order
		bases []int // for each seal, how many of the events so far the next incarnation has
		warns string
	}{
		{"made anew", "", []int{0}, "was deleted and made anew: it is restored as it was last, without up to 100 events"},
		{"after a failover", "", []int{60}, "went back to an older state"},
		{"after a failover that lost nothing", replay.OrderStream, []int{100}, ""},
		{"after three", replay.OrderStream, []int{60, 65, 30}, "went back to an older state"},
		{"after three, merged", replay.OrderTime, []int{60, 65, 30}, "went back to an older state"},
		{"made anew before a failover", "", []int{0, 4}, "went back to an older state"},
		{"made anew after a failover", "", []int{90, 0}, "was deleted and made anew"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t)
			b.target.restores = true
			want := b.fill("a", 100, 59*time.Minute, time.Second)
			other := b.fill("b", 50, 59*time.Minute, 2*time.Second)
			for i, n := range test.bases {
				var base event.Event
				if n > 0 {
					base = want[n-1]
				}
				b.sealAt("a", base, uint64(n))
				want = append(want[:n:n], b.fill("a", 5, time.Duration(50-5*i)*time.Minute, time.Second)...)
			}
			job := b.replay(replay.Spec{Order: test.order})
			var got []event.Event
			for i := range b.target.got {
				if b.target.got[i].Stream == "a" {
					got = append(got, b.target.got[i].event)
				}
			}
			if !slices.EqualFunc(got, want, func(x, y event.Event) bool { return x.Equal(&y) }) || len(b.target.got) != len(want)+len(other) {
				t.Errorf("%d events of the stream, want %d, and %d in all", len(got), len(want), len(b.target.got))
			}
			if job.Progress.Done != uint64(len(want)+len(other)) {
				t.Errorf("progress %+v", job.Progress)
			}
			plan, err := b.svc.Plan(t.Context(), job.ID)
			if err != nil || plan.Events < uint64(len(want)+len(other)) {
				t.Errorf("%+v, %v", plan, err)
			}
			if warned := fmt.Sprint(plan.Warnings); test.warns == "" && len(plan.Warnings) > 0 || !strings.Contains(warned, test.warns) {
				t.Errorf("warnings %s", warned)
			}
		})
	}
}
