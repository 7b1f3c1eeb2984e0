package examples

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/reservoirhq/reservoir/projection"
)

// trace is the state of a trace.
type trace struct {
	Tenant string `json:"tenant"`
	ID     string `json:"id"`
	Spans  []span `json:"spans"` // by time and ID
}

// span is one of its spans.
type span struct {
	ID     string    `json:"id"`
	Parent string    `json:"parent,omitempty"`
	Name   string    `json:"name"`
	Stream string    `json:"stream"`
	At     time.Time `json:"at"`
}

// traces makes traces of spans: events with a correlation ID, which is the trace,
// and a causation ID, which is the parent. Spans of one trace come from several
// streams, between which there is no order: so the state is a set, which is the
// same whatever came first.
func traces() projection.Function {
	return projection.NewFold("traces", projection.Folds[trace]{
		Key: func(e *projection.Event) string {
			if e.CorrelationID == "" {
				return ""
			}
			return e.Tenant + "\x00" + e.CorrelationID
		},
		Apply: func(t trace, e *projection.Event) (trace, error) {
			if e.EventID == "" {
				return t, errors.New("a span has no ID")
			}
			s := span{ID: e.EventID, Parent: e.CausationID, Name: e.Type, Stream: e.Stream, At: e.OccurredAt}
			at, _ := slices.BinarySearchFunc(t.Spans, s, compareSpans)
			t.Tenant, t.ID = e.Tenant, e.CorrelationID
			t.Spans = slices.Insert(t.Spans, at, s)
			return t, nil
		},
		Rows: func(_ string, t trace) ([]projection.Row, error) { return []projection.Row{t.row()}, nil },
	})
}

func compareSpans(a, b span) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.ID, b.ID)) }

// row makes the row of a trace.
func (t *trace) row() projection.Row {
	root, depth := "", 0
	parents := make(map[string]string, len(t.Spans))
	byName := make(map[string]uint32)
	spans := make([]any, len(t.Spans))
	for i, s := range t.Spans {
		parents[s.ID] = s.Parent
		byName[s.Name]++
		spans[i] = []any{s.ID, s.Parent, s.Name, s.Stream, s.At}
		if s.Parent == "" && root == "" {
			root = s.Name
		}
	}
	for _, s := range t.Spans {
		depth = max(depth, chain(parents, s.ID))
	}
	first, last := t.Spans[0].At, t.Spans[len(t.Spans)-1].At
	return projection.Row{
		"tenant": t.Tenant, "trace_id": t.ID, "root": root, "started_at": first, "duration_ms": last.Sub(first).Milliseconds(),
		"depth": depth, "span_count": len(t.Spans), "by_name": byName, "spans": spans,
	}
}

// chain counts the spans from one up to the root, as far as they are known.
func chain(parents map[string]string, id string) int {
	n := 0
	for n <= len(parents) { // or they go round
		parent, known := parents[id]
		if !known {
			break
		}
		n++
		id = parent
	}
	return min(n, len(parents))
}
