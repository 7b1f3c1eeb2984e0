package upcast

import (
	"fmt"
	"maps"
	"slices"

	"github.com/reservoirhq/reservoir/event"
)

// Report is what became of the samples.
type Report struct {
	Samples []SampleResult
	Failed  int // samples
	// Untested are the rules that no sample went through.
	Untested []*Rule
}

// SampleResult is what became of one sample.
type SampleResult struct {
	Sample Sample
	Rule   *Rule // the first of its chain
	// Differences are where the result is not what the sample says, and Err is why
	// there is no result. Without either the sample passed.
	Differences []Difference
	Err         error
}

// Passed reports whether the result is what the sample says.
func (r *SampleResult) Passed() bool { return r.Err == nil && len(r.Differences) == 0 }

// Check takes every sample through the whole chain from its version on.
func (s *Set) Check() *Report {
	report := &Report{}
	if s == nil {
		return report
	}
	tested := make(map[*Rule]bool)
	u := s.Upcaster(event.Mapping{})
	for _, r := range s.order {
		for _, sample := range r.samples {
			result := SampleResult{Sample: sample, Rule: r}
			result.Differences, result.Err = u.try(r, &sample)
			report.Samples = append(report.Samples, result)
			if !result.Passed() {
				report.Failed++
			}
			for on := r; on != nil; on = s.next(on) {
				tested[on] = true
			}
		}
	}
	for _, r := range s.order {
		if !tested[r] {
			report.Untested = append(report.Untested, r)
		}
	}
	return report
}

// The fields of the entry that a sample stands for.
const (
	typeField    = "event_type"
	versionField = "schema_version"
	payloadField = "payload"
)

// try makes an event of a sample, and compares what becomes of it.
func (u *Upcaster) try(r *Rule, sample *Sample) ([]Difference, error) {
	e := event.Event{ID: event.ID{Ms: 1}}
	add := func(name, value string) {
		e.Fields = append(e.Fields, event.Field{Name: []byte(name), Value: []byte(value)})
	}
	add(typeField, r.Type)
	if r.From != "" {
		add(versionField, r.From)
	}
	for _, name := range slices.Sorted(maps.Keys(sample.Fields)) {
		add(name, sample.Fields[name])
	}
	if sample.In != nil {
		add(payloadField, string(sample.In))
	}
	x := event.Mapping{}.Extractor()
	var env event.Envelope
	shape := x.Extract(&e, &env)
	if first := u.set.rule(&env); first != r {
		return nil, fmt.Errorf("its fields give it another type or version than %s %s", r.Type, versionText(r.From))
	}
	var out event.Batch
	if _, err := u.Apply(&e, &env, shape, &out); err != nil {
		return nil, err
	}
	out.Event(0, &e)
	x.Extract(&e, &env)
	payload, _ := env.Get(event.Payload)
	diffs := compareJSON(sample.Out, payload)
	return append(diffs, compareFields(sample, &e)...), nil
}

// compareFields compares the fields beside type, version and payload.
func compareFields(sample *Sample, e *event.Event) (diffs []Difference) {
	want := sample.OutFields
	if want == nil {
		want = sample.Fields
	}
	got := make(map[string]string)
	for _, f := range e.Fields {
		switch name := string(f.Name); name {
		case typeField, versionField, payloadField:
		default:
			got[name] = string(f.Value)
		}
	}
	all := maps.Clone(got)
	maps.Copy(all, want)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		wanted, inWant := want[name]
		found, inGot := got[name]
		if inWant != inGot || wanted != found {
			diffs = append(diffs, Difference{Path: fmt.Sprintf("field %q", name), Want: quoteIf(wanted, inWant), Got: quoteIf(found, inGot)})
		}
	}
	return diffs
}

// quoteIf gives the JSON of a text that is there.
func quoteIf(text string, there bool) string {
	if !there {
		return ""
	}
	return string(appendText(nil, text))
}
