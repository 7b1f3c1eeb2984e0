package upcast

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// path names a place in JSON: customer.address.city, items[].sku for the sku of
// every element of items, "a.b".c where a name needs quotes.
type path struct {
	text string
	// groups are the names between the wildcards: items[].sku has two of one
	// name each. All but the last lead to lists.
	groups [][]key
}

// key is the name of a member.
type key struct {
	name   string
	quoted []byte // as JSON
}

func newKey(name string) key {
	return key{name, appendText(nil, name)}
}

// last is the group after the last wildcard.
func (p *path) last() []key { return p.groups[len(p.groups)-1] }

func (p *path) String() string { return p.text }

// parsePath reads a path.
func parsePath(text string) (*path, error) {
	p := &path{text: text, groups: [][]key{nil}}
	rest := text
	for first := true; rest != "" || first; first = false {
		if !first {
			if rest[0] != '.' {
				return nil, fmt.Errorf("%q: want a dot before %q", text, rest)
			}
			rest = rest[1:]
		}
		if !first || !strings.HasPrefix(rest, "[]") {
			name, after, err := pathName(rest)
			if err != nil {
				return nil, fmt.Errorf("%q: %w", text, err)
			}
			rest = after
			at := len(p.groups) - 1
			p.groups[at] = append(p.groups[at], newKey(name))
		}
		for strings.HasPrefix(rest, "[]") {
			rest = rest[2:]
			p.groups = append(p.groups, nil)
		}
	}
	return p, nil
}

// pathName reads one name, in quotes or without.
func pathName(text string) (name, rest string, err error) {
	if strings.HasPrefix(text, `"`) {
		dec := json.NewDecoder(strings.NewReader(text))
		if err := dec.Decode(&name); err != nil {
			return "", "", fmt.Errorf("a name in quotes is not a JSON string: %w", err)
		}
		return name, text[dec.InputOffset():], nil
	}
	end := strings.IndexAny(text, ".[")
	if end < 0 {
		end = len(text)
	}
	name, rest = text[:end], text[end:]
	switch {
	case name == "":
		return "", "", errors.New("a name is empty: an empty name needs quotes")
	case strings.HasPrefix(rest, "[") && !strings.HasPrefix(rest, "[]"):
		return "", "", errors.New("want [], which means every element; a name with a bracket needs quotes")
	case strings.ContainsAny(name, `]"`):
		return "", "", fmt.Errorf("the name %s needs quotes", name)
	default:
		return name, rest, nil
	}
}

// sameElement reports whether both paths speak of places in the same element,
// whatever list it is in.
func (p *path) sameElement(other *path) bool {
	n := len(p.groups) - 1
	return slices.EqualFunc(p.groups[:n], other.groups[:len(other.groups)-1], sameKeys)
}

// sameParent reports whether both paths name members of one object.
func (p *path) sameParent(other *path) bool {
	a, b := p.last(), other.last()
	return p.sameElement(other) && len(a) > 0 && len(b) > 0 && sameKeys(a[:len(a)-1], b[:len(b)-1])
}

// within reports whether p is other or lies inside of it.
func (p *path) within(other *path) bool {
	a, b := p.last(), other.last()
	return p.sameElement(other) && len(a) >= len(b) && sameKeys(a[:len(b)], b)
}

func sameKeys(a, b []key) bool {
	return slices.EqualFunc(a, b, func(x, y key) bool { return x.name == y.name })
}
