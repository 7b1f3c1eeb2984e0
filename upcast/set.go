package upcast

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"

	"github.com/reservoirhq/reservoir/event"
)

// Set is upcasters, checked and chained. A nil Set has none. It does not change:
// any number of goroutines may use it at once.
type Set struct {
	rules  map[string][]*Rule // by type; a type has a few versions
	sizes  uint64             // a bit for each length of a type, of 64
	order  []*Rule            // by type, then as they follow one another
	digest string
}

// New makes a Set of rules. Its error joins everything that is wrong with them:
// two rules for the same type and version, a cycle, a chain that ends before
// another one of its type does.
func New(rules ...Rule) (*Set, error) {
	s := &Set{rules: make(map[string][]*Rule)}
	rules = slices.Clone(rules)
	for i := range rules {
		s.order = append(s.order, &rules[i])
	}
	if err := s.link(); err != nil {
		return nil, err
	}
	slices.SortStableFunc(s.order, func(a, b *Rule) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), s.left(b)-s.left(a), cmp.Compare(a.From, b.From))
	})
	s.digest = digestOf(s.order)
	return s, nil
}

// Len returns the number of rules.
func (s *Set) Len() int {
	if s == nil {
		return 0
	}
	return len(s.order)
}

// Wants reports whether there is a rule for events of that type and schema
// version. It allocates nothing.
func (s *Set) Wants(env *event.Envelope) bool {
	return s.rule(env) != nil
}

// rule returns the rule for an event.
func (s *Set) rule(env *event.Envelope) *Rule {
	if s == nil {
		return nil
	}
	name, _ := env.Get(event.Type)
	if s.sizes>>(len(name)%64)&1 == 0 {
		return nil // as most events
	}
	versions, ok := s.rules[string(name)]
	if !ok {
		return nil
	}
	version, _ := env.Get(event.SchemaVersion) // none is as good as an empty one
	for _, r := range versions {
		if r.From == string(version) {
			return r
		}
	}
	return nil
}

// next returns the rule that follows r, or nil.
func (s *Set) next(r *Rule) *Rule { return s.find(r.toType(), r.toVersion()) }

// find returns the rule for a type and version, or nil.
func (s *Set) find(eventType, version string) *Rule {
	for _, r := range s.rules[eventType] {
		if r.From == version {
			return r
		}
	}
	return nil
}

// left counts the rules from r to the end of its chain.
func (s *Set) left(r *Rule) int {
	n := 0
	for ; r != nil; r = s.next(r) {
		n++
	}
	return n
}

// Digest identifies what the rules do: two Sets with the same digest change
// events in the same way. It is hex, and "" for a nil Set and one without rules.
// A Go function counts by its name.
func (s *Set) Digest() string {
	if s == nil {
		return ""
	}
	return s.digest
}

// canonicalRule is what the digest of a rule covers.
type canonicalRule struct {
	Type    string          `json:"type"`
	From    string          `json:"from"`
	To      string          `json:"to"`
	NewType string          `json:"new_type"`
	Func    string          `json:"func,omitempty"`
	Steps   []canonicalStep `json:"steps,omitempty"`
}

// canonicalStep is what the digest of a step covers.
type canonicalStep struct {
	Op    string `json:"op"`
	At    string `json:"at"`
	To    string `json:"to,omitempty"`
	Value string `json:"value,omitempty"`
}

// digestVersion changes when the same rules begin to do something else.
const digestVersion = "reservoir upcasters 1\n"

func digestOf(rules []*Rule) string {
	if len(rules) == 0 {
		return ""
	}
	sorted := slices.SortedFunc(slices.Values(rules), func(a, b *Rule) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.From, b.From))
	})
	canonical := make([]canonicalRule, 0, len(sorted))
	for _, r := range sorted {
		c := canonicalRule{Type: r.Type, From: r.From, To: r.toVersion(), NewType: r.toType(), Func: r.Name}
		for _, st := range r.steps {
			c.Steps = append(c.Steps, st.canonical())
		}
		canonical = append(canonical, c)
	}
	text, err := json.Marshal(canonical)
	if err != nil { // texts always have JSON
		return ""
	}
	sum := sha256.Sum256(append([]byte(digestVersion), text...))
	return hex.EncodeToString(sum[:])
}
