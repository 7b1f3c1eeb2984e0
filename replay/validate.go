package replay

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/remedy"
)

// ErrInvalid is what every FieldError is.
var ErrInvalid = errors.New("invalid replay")

// FieldError is one mistake in a Spec.
type FieldError struct {
	Field string // its path in the Spec's JSON: "pace.rate"
	Value string // what it holds, as text
	Err   error  // what is wrong with it
	Want  string // what would be right: the remedy
}

// Error names the field, the value and what is wrong.
func (e *FieldError) Error() string {
	if e.Value == "" {
		return fmt.Sprintf("%s: %v", e.Field, e.Err)
	}
	return fmt.Sprintf("%s: %s: %v", e.Field, e.Value, e.Err)
}

// Unwrap returns what is wrong.
func (e *FieldError) Unwrap() error { return e.Err }

// Is makes errors.Is(err, ErrInvalid) true.
func (e *FieldError) Is(target error) bool { return target == ErrInvalid }

// Remedy says what would be right.
func (e *FieldError) Remedy() string {
	if e.Want == "" {
		return remedy.Of(e.Err)
	}
	return e.Want
}

// Validate returns every mistake in the spec that can be seen without looking
// anywhere, joined; each is a *FieldError. now is the present, from which ages
// such as "2h ago" count.
func (s *Spec) Validate(now time.Time) error {
	v := &validation{}
	v.selection(s, now)
	v.filter(&s.Filter)
	v.pace(&s.Pace)
	v.backPressure(&s.BackPressure)
	v.retry(&s.Failures.Retry)
	if s.Sink.Type == "" {
		v.wrong("sink.type", "", "it is empty", "Say where to replay to.")
	}
	return errors.Join(v.errs...)
}

// Validate is Spec.Validate, and looks as well at what this Service has: kinds of
// sinks, upcasters, a Redis to follow.
func (s *Service) Validate(spec *Spec) error {
	var v validation
	if kind := spec.Sink.Type; kind != "" && s.kinds[kind] == nil {
		known := slices.Sorted(maps.Keys(s.kinds))
		want := "Use one of: " + strings.Join(known, ", ") + "."
		if near := nearest(kind, slices.Values(known)); near != "" {
			want = fmt.Sprintf("Did you mean %s? Known are: %s.", near, strings.Join(known, ", "))
		}
		v.wrong("sink.type", strconv.Quote(kind), "there is no such sink", want)
	}
	if spec.Upcast && s.opts.Upcasters.Len() == 0 {
		v.wrong("upcast", "", "no upcasters are configured", "Set replay.upcasters to a file or directory with upcasters, or leave upcast out.")
	}
	if spec.Follow && s.opts.Redis == nil {
		v.wrong("follow", "", "there is no Redis to follow into", "Set redis.url to the Redis that holds the streams, or leave follow out.")
	}
	return errors.Join(spec.Validate(s.opts.Clock()), errors.Join(v.errs...))
}

// validation collects mistakes.
type validation struct{ errs []error }

func (v *validation) wrong(field, value, problem, want string) {
	v.errs = append(v.errs, &FieldError{field, value, errors.New(problem), want})
}

const wantBound = `Give an ID, a time as "2026-11-21T07:30:00Z", a day as "2026-11-21", or an age as "2h ago"; leave it empty for an open end.`

// selection checks which events are wanted, and in which order.
func (v *validation) selection(s *Spec, now time.Time) {
	if s.DeadLettersOf != "" {
		v.deadLetters(s)
	} else {
		if len(s.Streams) == 0 {
			v.wrong("streams", "", "no stream is named", `Name streams of the archive, or patterns: "orders", "shop:*", "*" for all.`)
		}
		if len(s.DeadLetters) > 0 {
			v.wrong("dead_letters", "", "it goes with dead_letters_of", "Name the replay whose dead letters these are in dead_letters_of.")
		}
	}
	v.duplicates("streams", s.Streams)
	v.duplicates("dead_letters", s.DeadLetters)
	if s.Order != "" && s.Order != OrderTime && s.Order != OrderStream {
		v.wrong("order", strconv.Quote(string(s.Order)), "it is not known", `Use "time" (streams merged by the time of their IDs) or "stream" (one after the other).`)
	}
	v.bounds(s, now)
	if s.Follow && s.To != "" {
		v.wrong("to", strconv.Quote(s.To), "a replay that follows has no end", "Leave out either to or follow.")
	}
}

// bounds checks both ends of the range, each by itself and against the other.
func (v *validation) bounds(s *Spec, now time.Time) {
	good := true
	bound := func(field, text string) {
		if _, err := event.ParseBound(text, now); err != nil {
			good = false
			v.errs = append(v.errs, &FieldError{Field: field, Err: err, Want: wantBound})
		}
	}
	bound("from", s.From)
	bound("to", s.To)
	if !good {
		return
	}
	if _, err := event.ParseRange(s.From, s.To, now); err != nil {
		v.errs = append(v.errs, &FieldError{Field: "from, to", Err: err, Want: "Give a range that begins before it ends; both ends belong to it."})
	}
}

// deadLetters checks a replay of dead letters: they are what is selected.
func (v *validation) deadLetters(s *Spec) {
	for _, field := range []struct {
		name string
		set  bool
	}{
		{"streams", len(s.Streams) > 0},
		{"from", s.From != ""},
		{"to", s.To != ""},
		{"filter", !s.Filter.IsZero()},
		{"limit", s.Limit > 0},
		{"follow", s.Follow},
	} {
		if field.set {
			v.wrong(field.name, "", "it does not go with dead_letters_of, which selects dead letters", "Leave it out, or name single dead letters in dead_letters.")
		}
	}
}

func (v *validation) duplicates(field string, values []string) {
	seen := map[string]bool{}
	for _, value := range values {
		if seen[value] {
			v.wrong(field, strconv.Quote(value), "it is there twice", "Name it once.")
		}
		seen[value] = true
	}
}

// filter checks the lists, and the predicate apart from them.
func (v *validation) filter(f *event.Filter) {
	lists := *f
	lists.Where = ""
	if _, err := lists.Compile(); err != nil {
		v.errs = append(v.errs, &FieldError{Field: "filter", Err: err, Want: "Correct the list that is named."})
	}
	if f.Where != "" {
		if _, err := event.CompilePredicate(f.Where); err != nil {
			v.errs = append(v.errs, &FieldError{
				Field: "filter.where", Err: err,
				Want: "Correct it at the position shown. It may speak of id, ms, type, tenant, aggregate_type, aggregate_id, event_id, version, occurred_at, payload and fields.",
			})
		}
	}
}

func (v *validation) pace(p *Pace) {
	v.number("pace.rate", p.Rate, "Give the events a second, such as 500; leave it out for as fast as possible.")
	v.number("pace.factor", p.Factor, "Give a multiple of the original speed, such as 10 or 0.5; leave it out for as fast as possible.")
	if p.Rate > 0 && p.Factor > 0 {
		v.wrong("pace", fmt.Sprintf("rate %v, factor %v", p.Rate, p.Factor), "both are given", "Give either rate or factor.")
	}
	v.duration("pace.max_silence_ns", p.MaxSilence)
	if p.MaxSilence > 0 && p.Factor == 0 {
		v.wrong("pace.max_silence_ns", p.MaxSilence.String(), "it goes with factor", "Give factor too: 1 is the original speed.")
	}
}

func (v *validation) number(field string, n float64, want string) {
	if n < 0 || math.IsNaN(n) || math.IsInf(n, 0) {
		v.wrong(field, strconv.FormatFloat(n, 'g', -1, 64), "it is not a number above 0", want)
	}
}

func (v *validation) duration(field string, d time.Duration) {
	if d < 0 {
		v.wrong(field, d.String(), "it is below 0", "Give a duration above 0, or leave it out.")
	}
}

func (v *validation) backPressure(b *BackPressure) {
	if b.Group == "" {
		for field, bound := range map[string]uint64{"back_pressure.max_lag": b.MaxLag, "back_pressure.max_pending": b.MaxPending} {
			if bound > 0 {
				v.wrong(field, strconv.FormatUint(bound, 10), "it needs a group", "Name the consumer group of the target stream in back_pressure.group.")
			}
		}
	} else if b.MaxLag == 0 && b.MaxPending == 0 {
		v.wrong("back_pressure.group", strconv.Quote(b.Group), "it has no bound", "Give max_lag or max_pending too.")
	}
}

func (v *validation) retry(r *RetryPolicy) {
	if r.Attempts < 0 {
		v.wrong("failures.retry.attempts", strconv.Itoa(r.Attempts), "it is below 0", "Give 1 to try once, or leave it out for 8.")
	}
	v.duration("failures.retry.initial_ns", r.Initial)
	v.duration("failures.retry.max_ns", r.Max)
	if r.Max > 0 && r.Initial > r.Max {
		v.wrong("failures.retry", fmt.Sprintf("initial %s, max %s", r.Initial, r.Max), "the first pause is longer than the longest", "Give an initial pause up to max.")
	}
}
