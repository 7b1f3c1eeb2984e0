package replay

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/event"
)

// How many events a second are assumed where nothing limits a replay: rough
// numbers of one ordinary machine, good for telling minutes from hours.
const (
	readBytes = 50 << 20 // bytes of segments, read and filtered
	fastRate  = 100_000  // sent to Redis, a file, standard output
	brokerage = 30_000   // sent to a broker
	httpRate  = 2_000    // sent over HTTP, one by one
)

// assumedRate is how many events a second a sink is assumed to take.
func assumedRate(sink string) float64 {
	switch sink {
	case "http":
		return httpRate
	case "kafka", "nats":
		return brokerage
	default:
		return fastRate
	}
}

// duration reckons how long a replay takes; nil when it has no end.
func duration(spec *Spec, est *Estimate, span *span) *DurationEstimate {
	if spec.Follow {
		return nil
	}
	selected := float64(est.Total.Events)
	rate := assumedRate(spec.Sink.Type)
	free := seconds(max(selected/rate, float64(est.Bytes)/readBytes))
	d := &DurationEstimate{free, Estimated, fmt.Sprintf("assuming %.0f events a second: rough", rate)}
	switch {
	case spec.Pace.Rate > 0:
		if paced := seconds(selected / spec.Pace.Rate); paced > free {
			*d = DurationEstimate{paced, est.Total.Precision, fmt.Sprintf("at %v events a second", spec.Pace.Rate)}
		}
	case spec.Pace.Factor > 0 && span != nil:
		length := span.length(spec.Pace.MaxSilence)
		if paced := seconds(length.Seconds() / spec.Pace.Factor); paced > free {
			*d = DurationEstimate{paced, AtMost, fmt.Sprintf("%s of events at %v times their speed", length.Round(time.Second), spec.Pace.Factor)}
		}
	}
	return d
}

// seconds makes a duration, the longest one where it is too long.
func seconds(s float64) time.Duration {
	if s >= math.MaxInt64/float64(time.Second) {
		return math.MaxInt64
	}
	return time.Duration(s * float64(time.Second))
}

// span is the time that a replay's events spread over, hour by hour.
type span struct {
	apart bool // one stream after the other, each with its own time
	hours map[uint64]msRange
	done  []msRanges // of the streams before, when apart
}

type msRange struct{ first, last uint64 }

type msRanges []msRange

func newSpan(apart bool) *span { return &span{apart: apart, hours: map[uint64]msRange{}} }

func (s *span) beginStream() {
	if s.apart && len(s.hours) > 0 {
		s.done = append(s.done, s.sorted())
		s.hours = map[uint64]msRange{}
	}
}

// add takes in what the range has of a segment.
func (s *span) add(within event.Range, seg *archive.PlannedSegment) {
	first, last := max(seg.First.Ms, within.From.Ms), seg.Last.Ms
	if !within.To.IsZero() {
		last = min(last, within.To.Ms)
	}
	hour := archive.Hour(seg.First)
	if have, ok := s.hours[hour]; ok {
		first, last = min(first, have.first), max(last, have.last)
	}
	s.hours[hour] = msRange{first, last}
}

func (s *span) sorted() msRanges {
	return slices.SortedFunc(maps.Values(s.hours), func(a, b msRange) int { return cmp.Compare(a.first, b.first) })
}

// length returns how long the events take at their original speed, silences cut
// to maxSilence where it is above 0: an upper bound, because silences within an
// hour do not show.
func (s *span) length(maxSilence time.Duration) time.Duration {
	ms := 0.0
	for _, ranges := range append(slices.Clone(s.done), s.sorted()) {
		for i, r := range ranges {
			ms += float64(r.last - r.first)
			if i == 0 {
				continue
			}
			silence := float64(r.first - ranges[i-1].last)
			if maxSilence > 0 {
				silence = min(silence, float64(maxSilence)/float64(time.Millisecond))
			}
			ms += silence
		}
	}
	return seconds(ms / 1000)
}
