package event

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"unicode/utf8"
)

// Filter selects events. An event passes when it passes every list that is not
// empty, and Where; the zero Filter lets everything pass. An event passes a
// list when one of its entries fits. An attribute that an event does not have
// counts as empty; one that is not valid UTF-8 fits the pattern "*" only.
type Filter struct {
	// Types are event types or patterns of them (see MatchPattern): "Order*".
	Types []string `json:"types,omitempty" yaml:"types,omitempty" koanf:"types"`
	// Tenants are tenants, whole.
	Tenants []string `json:"tenants,omitempty" yaml:"tenants,omitempty" koanf:"tenants"`
	// AggregateTypes are types of aggregates, whole.
	AggregateTypes []string `json:"aggregate_types,omitempty" yaml:"aggregate_types,omitempty" koanf:"aggregate_types"`
	// Aggregates are IDs of aggregates, "4711", or type and ID, "order/4711".
	// One with a slash means both: an ID that contains it fits as well.
	Aggregates []string `json:"aggregates,omitempty" yaml:"aggregates,omitempty" koanf:"aggregates"`
	// EventIDs are event IDs as producers gave them, whole.
	EventIDs []string `json:"event_ids,omitempty" yaml:"event_ids,omitempty" koanf:"event_ids"`
	// Where is a predicate in the language of expr-lang.org; see Predicate.
	Where string `json:"where,omitempty" yaml:"where,omitempty" koanf:"where"`
}

// IsZero reports whether the filter lets everything pass.
func (f *Filter) IsZero() bool {
	return len(f.Types)+len(f.Tenants)+len(f.AggregateTypes)+len(f.Aggregates)+len(f.EventIDs) == 0 && f.Where == ""
}

// Compile makes the filter's Matcher. An error names the list or the position
// in Where, and what is wrong there.
func (f *Filter) Compile() (*Matcher, error) {
	var errs []error
	list := func(key string, values []string, empty bool) set {
		for _, value := range values {
			switch {
			case value == "" && !empty:
				errs = append(errs, fmt.Errorf("%s: an empty text: want one that an event can have", key))
			case !utf8.ValidString(value):
				errs = append(errs, fmt.Errorf("%s: %q is not valid UTF-8: select such events with another attribute", key, value))
			}
		}
		return newSet(values)
	}
	m := &Matcher{
		tenants:        list("tenants", f.Tenants, true),
		aggregateTypes: list("aggregate_types", f.AggregateTypes, true),
		aggregates:     list("aggregates", f.Aggregates, false),
		eventIDs:       list("event_ids", f.EventIDs, false),
	}
	m.types = list("types", f.Types, true)
	for pattern := range m.types {
		if isPattern(pattern) {
			if unclosed(pattern) {
				errs = append(errs, fmt.Errorf("types: %q: a set is not closed: write ] at its end, or \\[ for a bracket", pattern))
			}
			m.typePatterns = append(m.typePatterns, pattern)
			delete(m.types, pattern)
		}
	}
	if f.Where != "" {
		var err error
		if m.where, err = CompilePredicate(f.Where); err != nil {
			errs = append(errs, fmt.Errorf("where: %w", err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("invalid filter: %w", err)
	}
	return m, nil
}

// Matcher is a compiled Filter. Any number of goroutines may use it at once.
type Matcher struct {
	types          set // nil: every type; what is no pattern
	typePatterns   []string
	tenants        set
	aggregateTypes set
	aggregates     set
	eventIDs       set
	where          *Predicate // nil: none
}

// set is a set of texts; nil holds everything.
type set map[string]struct{}

func newSet(values []string) set {
	if len(values) == 0 {
		return nil
	}
	s := make(set, len(values))
	for _, value := range values {
		s[value] = struct{}{}
	}
	return s
}

func (s set) holds(value []byte) bool {
	if s == nil {
		return true
	}
	_, ok := s[string(value)]
	return ok
}

// Match reports whether an event passes. env is the envelope of e. An error
// comes from Where only, and names the event's ID.
func (m *Matcher) Match(e *Event, env *Envelope) (bool, error) {
	get := func(a Attribute) []byte {
		value, _ := env.Get(a)
		return value
	}
	if !m.MatchType(get(Type)) || !m.MatchTenant(get(Tenant)) || !m.aggregateTypes.holds(get(AggregateType)) ||
		!m.eventIDs.holds(get(EventID)) || !m.matchAggregate(get(AggregateType), get(AggregateID)) {
		return false, nil
	}
	if m.where == nil {
		return true, nil
	}
	return m.where.Match(e, env)
}

// MatchType reports whether events of that type may pass; empty stands for
// events without a type.
func (m *Matcher) MatchType(value []byte) bool {
	if m.types.holds(value) {
		return true
	}
	return slices.ContainsFunc(m.typePatterns, func(pattern string) bool {
		return pattern == "*" || matchPattern(pattern, value) && utf8.Valid(value)
	})
}

// MatchTenant is MatchType for tenants.
func (m *Matcher) MatchTenant(value []byte) bool { return m.tenants.holds(value) }

// MatchAggregateType is MatchType for the types of aggregates.
func (m *Matcher) MatchAggregateType(value []byte) bool { return m.aggregateTypes.holds(value) }

func (m *Matcher) matchAggregate(aggregateType, id []byte) bool {
	if m.aggregates == nil {
		return true
	}
	if len(id) == 0 {
		return false
	}
	if m.aggregates.holds(id) {
		return true
	}
	var scratch [128]byte
	whole := append(scratch[:0], aggregateType...)
	whole = append(whole, '/')
	whole = append(whole, id...)
	return m.aggregates.holds(whole)
}

// CountTypes returns how many events at most may pass, of a segment whose
// events have these types so often. Nil means that the types are not known:
// then it returns the highest number.
func (m *Matcher) CountTypes(counts map[string]uint64) uint64 {
	return count(counts, m.types == nil, m.MatchType)
}

// CountTenants is CountTypes for tenants.
func (m *Matcher) CountTenants(counts map[string]uint64) uint64 {
	return count(counts, m.tenants == nil, m.MatchTenant)
}

func count(counts map[string]uint64, all bool, match func([]byte) bool) uint64 {
	if counts == nil || all {
		return math.MaxUint64
	}
	var n uint64
	for value, events := range counts {
		if match([]byte(value)) {
			n += events
		}
	}
	return n
}

// EventIDs returns the event IDs of which a passing event has one, in order;
// nil when it may have any or none. It is what to ask a Bloom filter.
func (m *Matcher) EventIDs() []string {
	if m.eventIDs == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(m.eventIDs))
}

// AggregateIDs is EventIDs for the IDs of aggregates: of "order/4711" both the
// whole and "4711".
func (m *Matcher) AggregateIDs() []string {
	if m.aggregates == nil {
		return nil
	}
	ids := set{}
	for id := range m.aggregates {
		ids[id] = struct{}{}
		for i := range len(id) {
			if id[i] == '/' && i+1 < len(id) {
				ids[id[i+1:]] = struct{}{}
			}
		}
	}
	return slices.Sorted(maps.Keys(ids))
}

// Tenants is EventIDs for tenants.
func (m *Matcher) Tenants() []string {
	if m.tenants == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(m.tenants))
}

// NeedsPayload reports whether Match looks at the payload or at the event's
// fields; else the other attributes of the envelope are enough for it.
func (m *Matcher) NeedsPayload() bool { return m.where != nil && m.where.payload }
