package httpapi

import (
	"fmt"
	"slices"
	"strings"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/rebuild"
)

// scope is what a caller may see: everything but what it is restricted to. All
// handlers of narrowed operations ask it, and nothing else.
type scope struct {
	streamPatterns []string // empty: all streams
	tenants        []string // empty: all tenants
}

func (s scope) restricted() bool { return len(s.streamPatterns)+len(s.tenants) > 0 }

// byTenant reports whether it is restricted to tenants: then no number may count the
// events of others.
func (s scope) byTenant() bool { return len(s.tenants) > 0 }

// stream reports whether the caller may see a stream.
func (s scope) stream(name string) bool {
	return len(s.streamPatterns) == 0 || slices.ContainsFunc(s.streamPatterns, func(p string) bool { return event.MatchPattern(p, name) })
}

// pattern reports whether the caller may see every stream that a pattern could ever
// select. Where that is not plain it is false.
func (s scope) pattern(p string) bool {
	if len(s.streamPatterns) == 0 || slices.Contains(s.streamPatterns, p) {
		return true
	}
	head, rest := literalHead(p)
	if rest == "" {
		return s.stream(head)
	}
	return slices.ContainsFunc(s.streamPatterns, func(allowed string) bool {
		prefix, rest := literalHead(allowed)
		return rest == "*" && strings.HasPrefix(head, prefix)
	})
}

// patterns is pattern for several. No patterns mean all streams.
func (s scope) patterns(list []string) bool {
	if len(s.streamPatterns) == 0 {
		return true
	}
	return len(list) > 0 && !slices.ContainsFunc(list, func(p string) bool { return !s.pattern(p) })
}

// allows reports whether all of some tenants are the caller's. No tenants mean all.
func (s scope) allows(tenants []string) bool {
	if len(s.tenants) == 0 {
		return true
	}
	return len(tenants) > 0 && !slices.ContainsFunc(tenants, func(t string) bool { return !slices.Contains(s.tenants, t) })
}

// letter reports whether the caller may see a dead letter of a rebuild. Those of older
// versions do not say whose event it is.
func (s scope) letter(l *rebuild.Letter) bool {
	return s.stream(l.Stream) && (len(s.tenants) == 0 || l.Tenant != "" && slices.Contains(s.tenants, l.Tenant))
}

// narrow restricts tenants that are asked for to the caller's: without any they are
// these, and others are refused.
func (s scope) narrow(field string, tenants []string) ([]string, error) {
	if len(s.tenants) == 0 {
		return tenants, nil
	}
	if len(tenants) == 0 {
		return s.tenants, nil
	}
	if !s.allows(tenants) {
		return nil, restrictedToken.field(field, strings.Join(tenants, ","), fmt.Sprintf("the token may see %s only", strings.Join(s.tenants, ", ")), "")
	}
	return tenants, nil
}

// mustSee refuses streams that the caller may not see. The answer is the same whether
// they exist or not.
func (s scope) mustSee(stream string) error {
	if s.stream(stream) {
		return nil
	}
	return notFound.problem(fmt.Sprintf("stream %q is not in the archive", stream))
}

// literalHead gives the text that every name begins with that a pattern fits, and the
// rest of the pattern: "" where that text is the only name.
func literalHead(pattern string) (head, rest string) {
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		switch pattern[i] {
		case '*', '?', '[':
			return b.String(), pattern[i:]
		case '\\':
			if i+1 < len(pattern) {
				i++
			}
		}
		b.WriteByte(pattern[i])
	}
	return b.String(), ""
}
