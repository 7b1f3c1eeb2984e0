package replay_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/replay"
)

func TestValidate(t *testing.T) {
	s := newShelf(t, t.TempDir())
	for _, c := range []struct {
		name   string
		change func(*replay.Spec)
		field  string // "" for none: valid
		want   string // in the error or its remedy
	}{
		{"everything", func(*replay.Spec) {}, "", ""},
		{"a lot", func(s *replay.Spec) {
			s.From, s.To, s.Order, s.Limit = "2h ago", "now", replay.OrderStream, 5
			s.Filter = event.Filter{Types: []string{"Order*"}, Where: "payload.total > 3"}
			s.Pace = replay.Pace{Factor: 0.1, MaxSilence: time.Second}
			s.BackPressure = replay.BackPressure{MaxLength: 1, Group: "g", MaxLag: 5}
			s.Failures.Retry = replay.RetryPolicy{Attempts: 1, Initial: 1, Max: 1}
		}, "", ""},
		{"no stream", func(s *replay.Spec) { s.Streams = nil }, "streams", "no stream is named"},
		{"a stream twice", func(s *replay.Spec) { s.Streams = []string{"a", "b", "a"} }, "streams", `"a": it is there twice`},
		{"a bad bound", func(s *replay.Spec) { s.From = "yesteryear" }, "from", `"2h ago"`},
		{"two bad bounds", func(s *replay.Spec) { s.From, s.To = "x", "y" }, "to", `"y"`},
		{"an impossible range", func(s *replay.Spec) { s.From, s.To = "5", "4" }, "from, to", "lies after"},
		{"an order", func(s *replay.Spec) { s.Order = "random" }, "order", `"random": it is not known`},
		{"follow with an end", func(s *replay.Spec) { s.Follow, s.To = true, "now" }, "to", "has no end"},
		{"follow without Redis", func(s *replay.Spec) { s.Follow = true }, "follow", "redis.url"},
		{"upcast without upcasters", func(s *replay.Spec) { s.Upcast = true }, "upcast", "replay.upcasters"},
		{"a typo in the condition", func(s *replay.Spec) { s.Filter.Where = "payload.total >> 3" }, "filter.where", "1:"},
		{"an unknown name", func(s *replay.Spec) { s.Filter.Where = "tennant == 'a'" }, "filter.where", "tennant"},
		{"an empty type", func(s *replay.Spec) { s.Filter.EventIDs = []string{""} }, "filter", "event_ids"},
		{"rate and factor", func(s *replay.Spec) { s.Pace = replay.Pace{Rate: 1, Factor: 1} }, "pace", "both are given"},
		{"a rate below zero", func(s *replay.Spec) { s.Pace.Rate = -1 }, "pace.rate", "-1"},
		{"a rate that is no number", func(s *replay.Spec) { s.Pace.Rate = math.NaN() }, "pace.rate", "NaN"},
		{"an endless factor", func(s *replay.Spec) { s.Pace.Factor = math.Inf(1) }, "pace.factor", "Inf"},
		{"silence without factor", func(s *replay.Spec) { s.Pace.MaxSilence = time.Second }, "pace.max_silence_ns", "it goes with factor"},
		{"lag without a group", func(s *replay.Spec) { s.BackPressure.MaxLag = 5 }, "back_pressure.max_lag", "needs a group"},
		{"pending without a group", func(s *replay.Spec) { s.BackPressure.MaxPending = 5 }, "back_pressure.max_pending", "needs a group"},
		{"a group without a bound", func(s *replay.Spec) { s.BackPressure.Group = "g" }, "back_pressure.group", "max_lag"},
		{"attempts", func(s *replay.Spec) { s.Failures.Retry.Attempts = -1 }, "failures.retry.attempts", "-1"},
		{"pauses", func(s *replay.Spec) { s.Failures.Retry = replay.RetryPolicy{Initial: 2, Max: 1} }, "failures.retry", "2ns"},
		{"a negative pause", func(s *replay.Spec) { s.Failures.Retry.Max = -1 }, "failures.retry.max_ns", "-1ns"},
		{"no sink", func(s *replay.Spec) { s.Sink = replay.SinkSpec{} }, "sink.type", "where to replay to"},
		{"an unknown sink", func(s *replay.Spec) { s.Sink.Type = "papre" }, "sink.type", "Did you mean paper? Known are: paper."},
		{"a strange sink", func(s *replay.Spec) { s.Sink.Type = "teleprinter" }, "sink.type", "Use one of: paper."},
		{"dead letters of nothing", func(s *replay.Spec) { s.DeadLetters = []string{"a"} }, "dead_letters", "dead_letters_of"},
		{"dead letters and streams", func(s *replay.Spec) { s.DeadLettersOf = "x" }, "streams", "does not go with dead_letters_of"},
		{"dead letters twice", func(s *replay.Spec) { s.Streams, s.DeadLettersOf, s.DeadLetters = nil, "x", []string{"a", "a"} }, "dead_letters", "twice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			spec := paper("orders")
			c.change(&spec)
			err := s.svc.Validate(&spec)
			if c.field == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			for _, e := range fieldErrors(err) {
				if e.Field == c.field && strings.Contains(e.Error()+" "+remedy.Of(e), c.want) {
					if !errors.Is(err, replay.ErrInvalid) || remedy.Of(e) == "" {
						t.Errorf("%v is no ErrInvalid, or has no remedy", err)
					}
					return
				}
			}
			t.Errorf("error %v, remedy %q", err, remedy.Of(err))
		})
	}
}

// fieldErrors takes joined errors apart.
func fieldErrors(err error) []*replay.FieldError {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []*replay.FieldError
		for _, e := range joined.Unwrap() {
			all = append(all, fieldErrors(e)...)
		}
		return all
	}
	var field *replay.FieldError
	if errors.As(err, &field) {
		return []*replay.FieldError{field}
	}
	return nil
}

// TestValidateFindsAll: one request, all mistakes.
func TestValidateFindsAll(t *testing.T) {
	spec := replay.Spec{From: "x", Order: "y", Pace: replay.Pace{Rate: -1}, Filter: event.Filter{Where: ")"}}
	if got := fieldErrors(spec.Validate(noon)); len(got) != 6 {
		t.Errorf("%d mistakes: %v", len(got), got)
	}
}
