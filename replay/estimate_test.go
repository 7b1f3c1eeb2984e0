package replay_test

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/replay"
)

// selectedEvent is an event that the naive scan selects.
type selectedEvent struct {
	stream      string
	streamIndex int
	incarnation int
	ms          uint64 // by which it merges
	kind        string
	tenant      string
	event       event.Event
}

// oneLife is an incarnation of a stream.
type oneLife [][]event.Event // segments

// drawStream draws the incarnations of a stream: segments within hours.
func drawStream(t *rapid.T, name string) []oneLife {
	lives := make([]oneLife, rapid.IntRange(1, 2).Draw(t, name+" lives"))
	for l := range lives {
		hour := rapid.IntRange(1, 30).Draw(t, "first hour")
		last := event.ID{}
		for range rapid.IntRange(1, 4).Draw(t, "segments") {
			var segment []event.Event
			base := uint64(noon.Add(-48 * time.Hour).Add(time.Duration(hour) * time.Hour).UnixMilli())
			offset := uint64(rapid.IntRange(0, 100).Draw(t, "offset"))
			for range rapid.IntRange(1, 8).Draw(t, "events") {
				id := event.ID{Ms: base + offset, Seq: uint64(rapid.IntRange(0, 2).Draw(t, "seq"))}
				offset += uint64(rapid.IntRange(0, 200_000).Draw(t, "silence"))
				if !last.Less(id) {
					id = last.Next()
				}
				if id.Ms >= base+3_600_000 {
					break
				}
				last = id
				segment = append(segment, made(id, rapid.SampledFrom([]string{"A", "B", "Bee"}).Draw(t, "type"),
					rapid.SampledFrom([]string{"t1", "t2"}).Draw(t, "tenant"), rapid.IntRange(0, 9).Draw(t, "total")))
			}
			lives[l] = append(lives[l], segment)
			hour += rapid.IntRange(1, 3).Draw(t, "hours")
		}
	}
	return lives
}

func drawFilter(t *rapid.T) event.Filter {
	return event.Filter{
		Types:      rapid.SampledFrom([][]string{nil, nil, {"A"}, {"B*"}, {"C"}}).Draw(t, "types"),
		Tenants:    rapid.SampledFrom([][]string{nil, nil, {"t1"}, {"t1", "t2"}}).Draw(t, "tenants"),
		Aggregates: rapid.SampledFrom([][]string{nil, nil, nil, {"3"}}).Draw(t, "aggregates"),
		Where:      rapid.SampledFrom([]string{"", "", "", "payload.total > 5"}).Draw(t, "where"),
	}
}

// drawBound draws the text of a bound near the events.
func drawBound(t *rapid.T, name string) string {
	if rapid.Bool().Draw(t, name+" open") {
		return ""
	}
	return fmt.Sprint(noon.Add(-48*time.Hour).UnixMilli() + int64(rapid.IntRange(0, 40*3_600_000).Draw(t, name)))
}

// naive selects by looking at every event.
func naive(t *rapid.T, streams map[string][]oneLife, spec *replay.Spec) []selectedEvent {
	within, err := event.ParseRange(spec.From, spec.To, noon)
	if err != nil {
		t.Fatal(err)
	}
	matcher, err := spec.Filter.Compile()
	if err != nil {
		t.Fatal(err)
	}
	var out []selectedEvent
	names := []string{}
	for name := range streams {
		names = append(names, name)
	}
	slices.Sort(names)
	x := event.Mapping{}.Extractor()
	var env event.Envelope
	for index, name := range names {
		floor := uint64(0)
		for l, life := range streams[name] {
			last := event.ID{}
			for _, segment := range life {
				for i := range segment {
					e := &segment[i]
					last = e.ID
					x.Extract(e, &env)
					if ok, err := matcher.Match(e, &env); err != nil {
						t.Fatal(err)
					} else if ok && within.Contains(e.ID) {
						kind, _ := e.Get("type")
						tenant, _ := e.Get("tenant")
						out = append(out, selectedEvent{name, index, l, max(e.ID.Ms, floor), string(kind), string(tenant), *e})
					}
				}
			}
			floor = max(floor, last.Ms)
		}
	}
	slices.SortStableFunc(out, func(a, b selectedEvent) int {
		c := 0
		if spec.Order != replay.OrderStream {
			c = cmp.Compare(a.ms, b.ms)
		}
		return cmp.Or(c, cmp.Compare(a.streamIndex, b.streamIndex), cmp.Compare(a.incarnation, b.incarnation), a.event.ID.Compare(b.event.ID))
	})
	return out
}

// TestEstimateAgainstScan: what is said to be exact is, a bound is one, and the
// first and last events are those.
func TestEstimateAgainstScan(t *testing.T) {
	exact, tries, root := 0, 0, t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		tries++
		s := newShelf(t, filepath.Join(root, fmt.Sprint(tries)))
		streams := map[string][]oneLife{}
		for i := range rapid.IntRange(1, 3).Draw(rt, "streams") {
			name := fmt.Sprintf("s%d", i)
			streams[name] = drawStream(rt, name)
			for l, life := range streams[name] {
				if l > 0 {
					s.seal(name)
				}
				for _, segment := range life {
					s.put(name, segment...)
				}
			}
		}
		spec := paper()
		spec.From, spec.To, spec.Filter = drawBound(rt, "from"), drawBound(rt, "to"), drawFilter(rt)
		spec.Order = rapid.SampledFrom([]replay.Order{replay.OrderTime, replay.OrderStream}).Draw(rt, "order")
		if _, err := event.ParseRange(spec.From, spec.To, noon); err != nil {
			rt.Skip("an impossible range")
		}
		want := naive(rt, streams, &spec)
		sample := rapid.Bool().Draw(rt, "sample")
		est, err := s.svc.Estimate(context.Background(), spec, replay.EstimateOptions{Sample: sample})
		if err != nil {
			if strings.Contains(err.Error(), replay.ErrNothing.Error()) && len(want) == 0 {
				return
			}
			rt.Fatal(err)
		}
		if sample && est.Total.Precision != replay.Exact {
			rt.Errorf("everything was read, and the total is %v", est.Total)
		}
		if est.Total.Precision == replay.Exact {
			exact++
		}
		wantCounts(rt, want, est)
		wantEnds(rt, want, est)
	})
	if exact == 0 {
		t.Error("nothing was ever exact")
	}
}

// wantCounts compares counts with the events that are selected.
func wantCounts(t *rapid.T, want []selectedEvent, est *replay.Estimate) {
	check := func(what string, got replay.Count, n int) {
		t.Helper()
		if got.Precision == replay.Exact && got.Events != uint64(n) || got.Events < uint64(n) {
			t.Errorf("%s: estimated %v, there are %d", what, got, n)
		}
	}
	count := func(by func(e *selectedEvent) string) map[string]int {
		counts := map[string]int{}
		for i := range want {
			counts[by(&want[i])]++
		}
		return counts
	}
	check("total", est.Total, len(want))
	streams := count(func(e *selectedEvent) string { return e.stream })
	for _, st := range est.Streams {
		check("stream "+st.Stream, st.Count, streams[st.Stream])
	}
	for name, dim := range map[string]struct {
		breakdown replay.Breakdown
		counts    map[string]int
	}{
		"type":   {est.Types, count(func(e *selectedEvent) string { return e.kind })},
		"tenant": {est.Tenants, count(func(e *selectedEvent) string { return e.tenant })},
		"day": {est.Days, count(func(e *selectedEvent) string {
			return time.UnixMilli(int64(e.event.ID.Ms)).UTC().Format(time.DateOnly)
		})},
	} {
		if dim.breakdown.Other != nil {
			t.Errorf("%s: others %v", name, dim.breakdown.Other)
		}
		for _, b := range dim.breakdown.Buckets {
			check(name+" "+b.Name, b.Count, dim.counts[b.Name])
			delete(dim.counts, b.Name)
		}
		if len(dim.counts) > 0 {
			t.Errorf("%s: not estimated: %v", name, dim.counts)
		}
	}
}

// wantEnds compares the first and last events.
func wantEnds(t *rapid.T, want []selectedEvent, est *replay.Estimate) {
	texts := func(views []event.View) (out []string) {
		for _, v := range views {
			out = append(out, v.Stream+" "+v.ID.String())
		}
		return out
	}
	names := func(events []selectedEvent) (out []string) {
		for _, e := range events {
			out = append(out, e.stream+" "+e.event.ID.String())
		}
		return out
	}
	if got, want := texts(est.First), names(want[:min(3, len(want))]); !slices.Equal(got, want) {
		t.Errorf("first %v, want %v", got, want)
	}
	if got, want := texts(est.Last), names(want[max(0, len(want)-3):]); !slices.Equal(got, want) {
		t.Errorf("last %v, want %v", got, want)
	}
	if est.Partial {
		t.Error("partial")
	}
}

func TestEstimate(t *testing.T) {
	s := shop(t)
	spec := paper()
	spec.Pace.Rate, spec.Limit = 2, 4
	est, err := s.svc.Estimate(t.Context(), spec, replay.EstimateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if est.Total != (replay.Count{Events: 4, Precision: replay.Exact}) || !est.Limited || est.Segments != 4 || est.Bytes == 0 {
		t.Errorf("estimate %+v", est)
	}
	if d := est.Duration; d == nil || d.Expected != 2*time.Second || d.Precision != replay.Exact || !strings.Contains(d.Basis, "2 events a second") {
		t.Errorf("duration %+v", est.Duration)
	}
	if est.Target == nil || est.Target.Guarantee != replay.AtLeastOnce || !slices.Contains(est.Warnings, "paper burns") {
		t.Errorf("target %+v, warnings %q", est.Target, est.Warnings)
	}
	s.wantNoJobs(t)

	spec = paper("shop:orders")
	spec.Pace = replay.Pace{Factor: 60}
	if est, err = s.svc.Estimate(t.Context(), spec, replay.EstimateOptions{Events: -1}); err != nil {
		t.Fatal(err)
	}
	if est.Duration.Expected != 2*time.Minute || len(est.First) > 0 {
		t.Errorf("duration %+v", est.Duration)
	}
	spec.Pace.MaxSilence = time.Minute // 10 minutes within an hour, then at most one
	if est, err = s.svc.Estimate(t.Context(), spec, replay.EstimateOptions{}); err != nil || est.Duration.Expected != 11*time.Second {
		t.Errorf("duration %+v, %v", est, err)
	}
	spec = paper("shop:orders")
	spec.Sink = replay.SinkSpec{}
	if est, err = s.svc.Estimate(t.Context(), spec, replay.EstimateOptions{}); err != nil || est.Target != nil || est.Total.Events != 3 {
		t.Errorf("without a sink: %+v, %v", est, err)
	}
	spec.Filter.Where = "payload.total > 'x'"
	if est, err = s.svc.Estimate(t.Context(), spec, replay.EstimateOptions{Sample: true}); err != nil || len(est.Warnings) != 1 || !strings.Contains(est.Warnings[0], "dead letters") {
		t.Errorf("a condition that cannot be evaluated: %+v, %v", est, err)
	}
}

// TestEstimateExtrapolates: of a large segment only a part is read.
func TestEstimateExtrapolates(t *testing.T) {
	s := newShelf(t, t.TempDir())
	var events []event.Event
	for i := range 250_000 {
		events = append(events, made(event.ID{Ms: uint64(noon.UnixMilli()), Seq: uint64(i)}, "A", fmt.Sprintf("t%d", i%4), i%10))
	}
	s.put("s", events...)
	spec := paper()
	spec.Filter.Where = "payload.total < 3"
	est, err := s.svc.Estimate(t.Context(), spec, replay.EstimateOptions{Sample: true})
	if err != nil {
		t.Fatal(err)
	}
	if est.Total.Precision != replay.Estimated || est.Total.Events < 74_000 || est.Total.Events > 76_000 || est.Sampled != 200_000 || len(est.Tenants.Buckets) != 4 {
		t.Errorf("estimate %+v", est)
	}
	if len(est.Last) != 3 || est.Last[2].ID.Seq != 249_992 {
		t.Errorf("last %v", est.Last)
	}
}
