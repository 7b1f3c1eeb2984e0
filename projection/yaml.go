package projection

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// reader reads the documents of one YAML file and collects what is wrong there.
type reader struct {
	file  string
	found problems
	// Of the document that is read: the lines of its fields, and its first; and how
	// many lines after its field a block text begins.
	lines  map[string]int
	offset map[string]int
	first  int
}

// badf notes a problem at a node.
func (r *reader) badf(n *yaml.Node, field, remedy, format string, args ...any) {
	r.found = append(r.found, Problem{File: r.file, Line: n.Line, Field: field, What: fmt.Sprintf(format, args...), Remedy: remedy})
}

// handlers read the members of a mapping by their keys.
type handlers map[string]func(n *yaml.Node, field string)

// members calls read for the members of a mapping, in their order.
func (r *reader) members(n *yaml.Node, field string, read func(name, value *yaml.Node, field string)) {
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		r.badf(n, field, "", "want a mapping, not %s", nodeKind(n))
		return
	}
	seen := make(map[string]bool)
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		inner := name.Value
		if field != "" {
			inner = field + "." + inner
		}
		if seen[name.Value] {
			r.badf(name, inner, "remove one", "it is there twice")
			continue
		}
		seen[name.Value] = true
		r.lines[inner] = name.Line
		read(name, value, inner)
	}
}

// object calls the handlers for the members of a mapping.
func (r *reader) object(n *yaml.Node, field string, h handlers) {
	r.members(n, field, func(name, value *yaml.Node, inner string) {
		if read := h[name.Value]; read != nil {
			read(value, inner)
			return
		}
		remedy := didYouMean(name.Value, maps.Keys(h))
		if remedy == "" {
			remedy = "want one of " + strings.Join(slices.Sorted(maps.Keys(h)), ", ")
		}
		r.badf(name, inner, remedy, "there is no such field")
	})
}

// list calls read for the elements of a sequence.
func (r *reader) list(n *yaml.Node, field string, read func(n *yaml.Node, field string)) {
	n = resolve(n)
	if n.Kind != yaml.SequenceNode {
		r.badf(n, field, "", "want a list, not %s", nodeKind(n))
		return
	}
	for i, element := range n.Content {
		inner := fmt.Sprintf("%s[%d]", field, i)
		r.lines[inner] = element.Line
		read(element, inner)
	}
}

// text reads a scalar as it is written, without spaces around it.
func (r *reader) text(into *string) func(n *yaml.Node, field string) {
	return func(n *yaml.Node, field string) {
		n = resolve(n)
		if n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" {
			r.badf(n, field, "", "want a text, not %s", nodeKind(n))
			return
		}
		if strings.TrimSpace(n.Value) == "" {
			r.badf(n, field, "leave it out, or give a text", "it is empty")
			return
		}
		*into = strings.TrimSpace(n.Value)
		if n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
			r.offset[field] = 1 + strings.Count(n.Value[:strings.Index(n.Value, *into)], "\n")
		}
	}
}

// texts reads a list of texts; a text alone is a list of one.
func (r *reader) texts(into *[]string) func(n *yaml.Node, field string) {
	return func(n *yaml.Node, field string) {
		add := func(n *yaml.Node, field string) {
			var text string
			r.text(&text)(n, field)
			if text != "" {
				*into = append(*into, text)
			}
		}
		if n = resolve(n); n.Kind == yaml.ScalarNode {
			add(n, field)
			return
		}
		r.list(n, field, add)
	}
}

// flag reads true or false.
func (r *reader) flag(into *bool) func(n *yaml.Node, field string) {
	return func(n *yaml.Node, field string) {
		if n = resolve(n); n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" || n.Decode(into) != nil {
			r.badf(n, field, "", "want true or false, not %s", nodeKind(n))
		}
	}
}

// number reads a whole number from 0 on.
func (r *reader) number(into *uint64) func(n *yaml.Node, field string) {
	return func(n *yaml.Node, field string) {
		n = resolve(n)
		v, err := strconv.ParseUint(n.Value, 10, 64)
		if n.Kind != yaml.ScalarNode || err != nil {
			r.badf(n, field, "", "want a whole number from 0 on, not %s", nodeKind(n))
			return
		}
		*into = v
	}
}

// resolve follows aliases.
func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func nodeKind(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.ShortTag() == "!!null":
		return "nothing"
	default:
		return fmt.Sprintf("%.60q", n.Value)
	}
}

// documents calls read for the documents of a file; empty ones are left out.
func (r *reader) documents(in io.Reader, read func(root *yaml.Node)) {
	dec := yaml.NewDecoder(in)
	for {
		var root yaml.Node
		err := dec.Decode(&root)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			r.found = append(r.found, notYAML(r.file, err))
			return
		}
		if content := root.Content[0]; content.Kind != yaml.ScalarNode || content.ShortTag() != "!!null" {
			r.lines, r.offset, r.first = make(map[string]int), make(map[string]int), content.Line
			read(content)
		}
	}
}

// notYAML gives an error of the YAML library our form. It names every line but
// the first.
func notYAML(file string, err error) Problem {
	p := Problem{File: file, Line: 1, What: "not YAML: " + strings.TrimPrefix(err.Error(), "yaml: ")}
	if rest, ok := strings.CutPrefix(err.Error(), "yaml: line "); ok {
		if number, what, ok := strings.Cut(rest, ": "); ok {
			if line, err := strconv.Atoi(number); err == nil {
				p.Line, p.What = line, "not YAML: "+what
			}
		}
	}
	return p
}
