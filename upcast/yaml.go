package upcast

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// document reads one YAML file and collects what is wrong with it.
type document struct {
	file string
	errs []error
}

// failf notes a mistake at a node. field names it from the top of the rule.
func (d *document) failf(n *yaml.Node, field, format string, args ...any) {
	if field != "" {
		field += ": "
	}
	d.errs = append(d.errs, fmt.Errorf("%s:%d: %s%w", d.file, n.Line, field, fmt.Errorf(format, args...)))
}

// handlers read the members of a mapping by their keys.
type handlers map[string]func(n *yaml.Node, field string)

// object calls the handlers for the members of a mapping.
func (d *document) object(n *yaml.Node, field string, h handlers) {
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		d.failf(n, field, "want a mapping, not %s", nodeKind(n))
		return
	}
	seen := make(map[string]bool)
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		inner := join(field, name.Value)
		read := h[name.Value]
		switch {
		case read == nil:
			d.failf(name, inner, "it is not known: want %s", oneOf(h))
		case seen[name.Value]:
			d.failf(name, inner, "it is there twice")
		default:
			read(value, inner)
		}
		seen[name.Value] = true
	}
}

// list calls read for the elements of a sequence.
func (d *document) list(n *yaml.Node, field string, read func(n *yaml.Node, field string)) {
	n = resolve(n)
	if n.Kind != yaml.SequenceNode {
		d.failf(n, field, "want a list, not %s", nodeKind(n))
		return
	}
	for i, element := range n.Content {
		read(element, fmt.Sprintf("%s[%d]", field, i))
	}
}

// text reads a scalar as it is written: 1.0 is "1.0".
func (d *document) text(into *string) func(n *yaml.Node, field string) {
	return func(n *yaml.Node, field string) {
		n = resolve(n)
		if n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" {
			d.failf(n, field, "want a text, not %s", nodeKind(n))
			return
		}
		*into = n.Value
	}
}

// json reads any value as JSON.
func (d *document) json(into *[]byte) func(n *yaml.Node, field string) {
	return func(n *yaml.Node, field string) {
		text, err := appendJSON(nil, n, 0)
		if err != nil {
			d.failf(n, field, "%w", err)
			return
		}
		*into = text
	}
}

func join(field, name string) string {
	if field == "" {
		return name
	}
	return field + "." + name
}

func oneOf(h handlers) string {
	names := make([]string, 0, len(h))
	for name := range h {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
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
		return fmt.Sprintf("%q", n.Value)
	}
}

// Bounds on a value, which aliases could make endless.
const (
	maxValueDepth = 500
	maxValueBytes = 16 << 20
)

// appendJSON appends the JSON of a node: members in their order, and numbers
// with the digits that they are written with.
func appendJSON(dst []byte, n *yaml.Node, depth int) ([]byte, error) {
	n = resolve(n)
	if depth > maxValueDepth || len(dst) > maxValueBytes {
		return dst, errors.New("it is too large, or nested too deeply")
	}
	var err error
	switch n.Kind {
	case yaml.MappingNode:
		dst = append(dst, '{')
		for i := 0; i+1 < len(n.Content); i += 2 {
			name := resolve(n.Content[i])
			if name.Kind != yaml.ScalarNode || name.ShortTag() == "!!merge" {
				return dst, fmt.Errorf("line %d: want a text as the name of a member", name.Line)
			}
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(appendText(dst, name.Value), ':')
			if dst, err = appendJSON(dst, n.Content[i+1], depth+1); err != nil {
				return dst, err
			}
		}
		return append(dst, '}'), nil
	case yaml.SequenceNode:
		dst = append(dst, '[')
		for i, element := range n.Content {
			if i > 0 {
				dst = append(dst, ',')
			}
			if dst, err = appendJSON(dst, element, depth+1); err != nil {
				return dst, err
			}
		}
		return append(dst, ']'), nil
	default:
		return appendScalar(dst, n)
	}
}

func appendScalar(dst []byte, n *yaml.Node) ([]byte, error) {
	const quoted = yaml.SingleQuotedStyle | yaml.DoubleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle | yaml.TaggedStyle
	if n.Style&quoted == 0 && isNumber(n.Value) {
		return append(dst, n.Value...), nil
	}
	var value any
	switch n.ShortTag() {
	case "!!null":
		return append(dst, "null"...), nil
	case "!!bool", "!!int", "!!float":
		if err := n.Decode(&value); err != nil {
			return dst, fmt.Errorf("line %d: %w", n.Line, err)
		}
		if f, ok := value.(float64); ok && (math.IsInf(f, 0) || math.IsNaN(f)) {
			return dst, fmt.Errorf("line %d: JSON has no %s", n.Line, n.Value)
		}
		text, err := json.Marshal(value)
		return append(dst, text...), err
	default: // texts, and what JSON has no other word for
		return appendText(dst, n.Value), nil
	}
}

// isNumber reports whether text is a number of JSON.
func isNumber(text string) bool {
	return text != "" && (text[0] == '-' || '0' <= text[0] && text[0] <= '9') && json.Valid([]byte(text))
}

// decodeYAML reads the only document of a file.
func (d *document) decodeYAML(r io.Reader) (*yaml.Node, bool) {
	dec := yaml.NewDecoder(r)
	var root yaml.Node
	switch err := dec.Decode(&root); {
	case errors.Is(err, io.EOF):
		d.errs = append(d.errs, fmt.Errorf("%s: it is empty: want upcasters", d.file))
		return nil, false
	case err != nil:
		d.errs = append(d.errs, yamlError(d.file, err))
		return nil, false
	}
	var more yaml.Node
	switch err := dec.Decode(&more); {
	case err == nil:
		d.failf(&more, "", "a file holds one document: put this one into another file")
		return nil, false
	case !errors.Is(err, io.EOF):
		d.errs = append(d.errs, yamlError(d.file, err))
		return nil, false
	}
	return root.Content[0], true
}

// yamlError gives an error of the YAML library the form of ours. It names every
// line but the first.
func yamlError(file string, err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	line := "1"
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		if number, what, ok := strings.Cut(rest, ": "); ok {
			line, text = number, what
		}
	}
	return fmt.Errorf("%s:%s: not YAML: %s", file, line, text)
}
