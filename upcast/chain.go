package upcast

import "strings"

// Chain is rules that follow one another, up to the version of today.
type Chain []*Rule

// Chains returns the chains from every oldest version that has a rule, by type.
// Where two chains run together both have the rules that they share.
func (s *Set) Chains() []Chain {
	if s == nil {
		return nil
	}
	follows := make(map[*Rule]bool)
	for _, r := range s.order {
		follows[s.next(r)] = true
	}
	var chains []Chain
	for _, r := range s.order {
		if follows[r] {
			continue
		}
		var c Chain
		for ; r != nil; r = s.next(r) {
			c = append(c, r)
		}
		chains = append(chains, c)
	}
	return chains
}

// String shows the versions that an event goes through: "v1 → v2 → Paid v3".
func (c Chain) String() string {
	if len(c) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString(versionText(c[0].From))
	for _, r := range c {
		b.WriteString(" → ")
		if r.toType() != r.Type {
			b.WriteString(r.toType() + " ")
		}
		b.WriteString(versionText(r.toVersion()))
	}
	return b.String()
}

// Samples returns the samples that were recorded for the rule's version.
func (r *Rule) Samples() []Sample { return r.samples }
