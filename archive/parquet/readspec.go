package parquet

import (
	"encoding/json"
	"fmt"

	"github.com/reservoirhq/reservoir/event"
)

// ReadSpec says which events of a file are wanted.
type ReadSpec struct {
	// Range bounds the IDs. A Reader gives events of the Range only.
	Range event.Range
	// Matcher, when set, lets a Reader leave out events that it does not match.
	// A Reader gives all that it matches and may give others: ask it again.
	Matcher *event.Matcher
	// Mapping is the one by which the Matcher's envelopes are made. Where the
	// file was written by another one the Matcher is of no use to a Reader.
	Mapping event.Mapping
	// Attributes, when set, lets a Reader leave out fields of events, and not read their columns:
	// those that the Mapping does not need to find these attributes. It gives all events.
	Attributes event.Attributes
	// Memory, when set, lends a Reader its buffers and takes them back.
	Memory *Memory
}

// Reader returns a Reader of the wanted events. The caller closes it.
func (f *File) Reader(spec ReadSpec) *Reader {
	r := &Reader{file: f, span: spec.Range}
	spec.Memory.lend(r)
	for column := range r.active {
		r.active[column] = spec.Attributes == 0
	}
	if spec.Attributes != 0 {
		r.plans.attributes, r.plans.extractor = spec.Attributes, spec.Mapping.Extractor()
		for _, column := range []int{colIDMs, colIDSeq, colLayout, colRest} {
			r.active[column] = true
		}
	}
	if spec.Matcher == nil {
		return r
	}
	mapping, err := json.Marshal(spec.Mapping)
	if err != nil {
		r.err = fmt.Errorf("compare mappings: %w", err)
		return r
	}
	if string(mapping) == f.metadata.mapping {
		r.tests = testsOf(spec.Matcher)
	}
	return r
}

// testsOf returns what the matcher demands of columns.
func testsOf(m *event.Matcher) []test {
	var tests []test
	if t, ok := listTest(colEventID, m.EventIDs()); ok {
		tests = append(tests, t)
	}
	if t, ok := listTest(colAggregateID, m.AggregateIDs()); ok {
		tests = append(tests, t)
	}
	tenants, ok := listTest(colTenant, m.Tenants())
	if !ok {
		tenants = test{column: colTenant, may: m.MatchTenant}
	}
	for _, t := range []test{
		tenants,
		{column: colEventType, may: m.MatchType},
		{column: colAggregateType, may: m.MatchAggregateType},
	} {
		// Filters consist of text: what this passes, everything does.
		if notText := []byte{0xFF}; !t.may(notText) {
			tests = append(tests, t)
		}
	}
	return tests
}

// overlaps reports whether there may be IDs with milliseconds in [low, high]
// in the range.
func overlaps(span event.Range, low, high uint64) bool {
	return span.Overlaps(event.ID{Ms: low}, event.ID{Ms: high, Seq: event.MaxID.Seq})
}

// covers reports whether all IDs with milliseconds in [low, high] are in the
// range.
func covers(span event.Range, low, high uint64) bool {
	return span.Contains(event.ID{Ms: low}) && span.Contains(event.ID{Ms: high, Seq: event.MaxID.Seq})
}
