package replay_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/replay"
)

// placed is an event with its place, as one who reads everything would see it.
type placed struct {
	at    replay.Position
	event event.Event
}

// scan gives what a spec selects of all events, the slow way.
func scan(t *rapid.T, spec *replay.Spec, all []placed) []placed {
	m, err := spec.Filter.Compile()
	if err != nil {
		t.Fatal(err)
	}
	r, err := event.ParseRange(spec.From, spec.To, noon)
	if err != nil {
		t.Fatal(err)
	}
	x := event.Mapping{}.Extractor()
	var env event.Envelope
	var out []placed
	for _, n := range all {
		x.Extract(&n.event, &env)
		if ok, err := m.Match(&n.event, &env); err != nil || !ok || !r.Contains(n.event.ID) {
			continue
		}
		if spec.Order == replay.OrderStream {
			n.at.Ms = 0
		}
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b placed) int { return a.at.Compare(b.at) })
	if spec.Limit > 0 {
		out = out[:min(uint64(len(out)), spec.Limit)]
	}
	return out
}

// Whatever is selected, in whatever order, is what a scan of everything finds;
// also when the replay fails at any write and goes on.
func TestSelectionsAgainstScan(t *testing.T) {
	b := newBench(t)
	var all []placed
	for i, stream := range []string{"a", "b", "c", "d"} {
		add := func(incarnation int, floor uint64, events []event.Event) {
			for _, e := range events {
				all = append(all, placed{replay.Position{Ms: max(floor, e.ID.Ms), Stream: i, Incarnation: incarnation, ID: e.ID}, e})
			}
		}
		first := b.fill(stream, 400+100*i, time.Hour, time.Duration(i+1)*500*time.Millisecond)
		add(1, 0, first)
		if i%2 == 1 {
			b.seal(stream)
			add(2, first[len(first)-1].ID.Ms, b.fill(stream, 300, 65*time.Minute, 4*time.Second))
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		some := func(name string, of ...string) []string {
			return rapid.SliceOfNDistinct(rapid.SampledFrom(of), 0, 2, rapid.ID[string]).Draw(rt, name)
		}
		spec := replay.Spec{
			Filter: event.Filter{
				Types: some("types", "Paid", "Se*", "Lost"), Tenants: some("tenants", "t0", "t1", "t4"), Aggregates: some("aggregates", "1", "6"),
				Where: rapid.SampledFrom([]string{"", "", "payload.total % 3 == 0", `tenant == "t1" || ms % 2 == 0`}).Draw(rt, "where"),
			},
			From:  rapid.SampledFrom([]string{"", "58m ago", "64m ago"}).Draw(rt, "from"),
			To:    rapid.SampledFrom([]string{"", "55m ago"}).Draw(rt, "to"),
			Limit: rapid.SampledFrom([]uint64{0, 0, 1, 150, 1001}).Draw(rt, "limit"),
			Order: rapid.SampledFrom([]replay.Order{replay.OrderTime, replay.OrderStream}).Draw(rt, "order"),
			Pace:  replay.Pace{Rate: rapid.SampledFrom([]float64{0, 30_000}).Draw(rt, "rate")},
		}
		want := scan(rt, &spec, all)
		*b.target = target{records: rapid.Bool().Draw(rt, "records")}
		if fail := rapid.IntRange(0, 4).Draw(rt, "fail"); fail > 0 {
			b.target.fault = func(n int, after bool) error {
				if n == fail && !after {
					return errors.New("broken")
				}
				return nil
			}
		}
		spec.Streams, spec.Sink = []string{"*"}, replay.SinkSpec{Type: "memory"}
		job, err := b.svc.Create(t.Context(), spec, replay.CreateOptions{})
		if errors.Is(err, replay.ErrNothing) && len(want) == 0 {
			return
		}
		if err != nil {
			rt.Fatal(err)
		}
		if job = b.run(job.ID); job.State == jobs.Failed {
			if _, err := b.jobs.Retry(t.Context(), job.ID, jobs.Change{}); err != nil {
				rt.Fatal(err)
			}
			job = b.run(job.ID)
		}
		if job.State != jobs.Succeeded || job.Progress.Selected != uint64(len(want)) {
			rt.Fatalf("it is %s: %v, %d selected, want %d", job.State, job.LastError, job.Progress.Selected, len(want))
		}
		for i, got := range b.target.got {
			if i >= len(want) || got.Position != want[i].at || !got.event.Equal(&want[i].event) {
				rt.Fatalf("event %d is %s", i, got.Position)
			}
		}
		if len(b.target.got) != len(want) {
			rt.Fatalf("%d events, want %d", len(b.target.got), len(want))
		}
	})
}

func TestPositionText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := replay.Position{
			Ms: rapid.Uint64().Draw(t, "ms"), Stream: rapid.IntRange(0, 1<<31-1).Draw(t, "stream"), Incarnation: rapid.IntRange(0, 1<<31-1).Draw(t, "incarnation"),
			ID: event.ID{Ms: rapid.Uint64().Draw(t, "id ms"), Seq: rapid.Uint64().Draw(t, "seq")},
		}
		if got, err := replay.ParsePosition(p.String()); err != nil || got != p {
			t.Errorf("%s became %s, %v", p, got, err)
		}
	})
	for _, text := range []string{"", "1/2/3", "1/2/3/4-5/6", "-1/0/0/1-1", "1/x/0/1-1", "1/0/0/one"} {
		if p, err := replay.ParsePosition(text); !errors.Is(err, replay.ErrInvalidPosition) {
			t.Errorf("%q is %s, %v", text, p, err)
		}
	}
}
