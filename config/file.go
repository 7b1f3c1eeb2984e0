package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"
)

// defaultFiles are tried in order when no file is named.
var defaultFiles = [...]string{"reservoir.yaml", "/etc/reservoir/reservoir.yaml"}

// readFile reads the configuration file: the named one, which must exist, or
// the first of the default ones that does. No file at all gives "".
func readFile(named string) (name string, text []byte, err error) {
	if named != "" {
		text, err = os.ReadFile(named)
		if err != nil {
			return named, nil, fmt.Errorf("reading the configuration file: %w", err)
		}
		return named, text, nil
	}
	for _, name := range defaultFiles {
		text, err := os.ReadFile(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return name, nil, fmt.Errorf("reading the configuration file: %w", err)
		}
		return name, text, nil
	}
	return "", nil, nil
}

// yamlLayer collects the values of a YAML file. Scalars are taken as the text
// that was written, so that a password of 0123 or a name of "no" stays what it
// is; the struct says what they mean.
type yamlLayer struct {
	file     string
	schema   *schema
	values   layer
	problems []Problem
}

func parseYAML(file string, text []byte, s *schema) (layer, []Problem) {
	y := &yamlLayer{file: file, schema: s, values: layer{}}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return y.values, nil // an empty file
	case err != nil:
		y.report(file, 0, strings.TrimPrefix(err.Error(), "yaml: "), "want a YAML mapping of keys to values")
		return nil, y.problems
	}
	if err := dec.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		y.report(file, 0, "more than one YAML document", "want one")
	}
	y.mapping("", doc.Content[0])
	return y.values, y.problems
}

func (y *yamlLayer) report(key string, line int, what, want string) {
	y.problems = append(y.problems, Problem{Key: key, Origin: y.origin(line), What: what, Want: want})
}

func (y *yamlLayer) origin(line int) Origin {
	return Origin{Layer: LayerFile, Name: y.file, Line: line}
}

// mapping takes the keys of one section.
func (y *yamlLayer) mapping(section string, n *yaml.Node) {
	if n = resolve(n); isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		name := section
		if name == "" {
			name = y.file
		}
		y.report(name, n.Line, "is a section", "want keys and values below it")
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], resolve(n.Content[i+1])
		name := key.Value
		if section != "" {
			name = section + "." + name
		}
		if line, dup := seen[name]; dup {
			y.report(name, key.Line, fmt.Sprintf("already set in line %d", line), "")
			continue
		}
		seen[name] = key.Line
		k, known := y.schema.byName[name]
		switch {
		case y.schema.sections[name]:
			y.mapping(name, value)
		case !known:
			y.report(name, key.Line, "unknown key", y.didYouMean(name))
		case !isNull(value):
			y.value(k, value)
		}
	}
}

func (y *yamlLayer) didYouMean(name string) string {
	near := nearest(name, func(yield func(string) bool) {
		for section := range maps.Keys(y.schema.sections) {
			if !yield(section) {
				return
			}
		}
		for _, k := range y.schema.keys {
			if !yield(k.Name) {
				return
			}
		}
	})
	if near == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %s?", near)
}

// value takes one value: text, or a list of texts.
func (y *yamlLayer) value(k Key, n *yaml.Node) {
	set := setting{origin: y.origin(n.Line)}
	switch {
	case n.Kind == yaml.ScalarNode:
		set.value = n.Value
	case n.Kind == yaml.SequenceNode && k.Type == "list":
		items := make([]string, 0, len(n.Content))
		for _, item := range n.Content {
			if item = resolve(item); item.Kind != yaml.ScalarNode {
				y.report(k.Name, item.Line, "an item of the list is not text", "want a list of texts")
				return
			}
			items = append(items, item.Value)
		}
		set.value = items
	default:
		y.report(k.Name, n.Line, "is neither a section nor a list", "want one value of type "+k.Type)
		return
	}
	y.values[k.Name] = set
}

// resolve follows YAML aliases.
func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }
