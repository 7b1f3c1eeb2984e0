package projection

import (
	"fmt"
	"strings"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/event"
)

// MatchesStream reports whether a stream is one of the source's.
func (s *Source) MatchesStream(stream string) bool {
	for _, pattern := range s.Streams {
		if event.MatchPattern(pattern, stream) {
			return true
		}
	}
	return false
}

// Filter gives the source's types as the filter of a plan or a tail.
func (s *Source) Filter() event.Filter { return event.Filter{Types: s.Types} }

// TypeCondition gives the source's types as a condition of SQL on a column, "1"
// when any type will do.
func (s *Source) TypeCondition(column string) string {
	var whole, parts []string
	for _, t := range s.Types {
		switch {
		case t == "*":
			return "1"
		case strings.Contains(t, "*"):
			pattern := strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`, `*`, `%`).Replace(t)
			parts = append(parts, column+" LIKE "+chstore.Literal(pattern))
		default:
			whole = append(whole, chstore.Literal(t))
		}
	}
	if len(whole) > 0 {
		parts = append(parts, fmt.Sprintf("%s IN (%s)", column, strings.Join(whole, ", ")))
	}
	switch len(parts) {
	case 0:
		return "1"
	case 1:
		return parts[0]
	default:
		return "(" + strings.Join(parts, " OR ") + ")"
	}
}

// Usable gives what Require demands as one condition of SQL over the relation
// events, never NULL; "1" when that is nothing.
func (d *Definition) Usable() string {
	if len(d.Require) == 0 {
		return "1"
	}
	parts := make([]string, len(d.Require))
	for i, q := range d.Require {
		parts[i] = q.condition()
	}
	return strings.Join(parts, " AND ")
}

func (q *Requirement) condition() string { return "ifNull(toBool(" + q.SQL + "\n), false)" }

// Unusable gives an expression of SQL over the relation events that says why an
// event cannot be used: the reason of the first of Require that it does not meet,
// and ” for one that can be used.
func (d *Definition) Unusable() string {
	if len(d.Require) == 0 {
		return "''"
	}
	var b strings.Builder
	b.WriteString("multiIf(")
	for _, q := range d.Require {
		fmt.Fprintf(&b, "NOT %s, %s, ", q.condition(), chstore.Literal(q.Reason))
	}
	b.WriteString("'')")
	return b.String()
}
