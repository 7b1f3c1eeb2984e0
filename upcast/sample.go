package upcast

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"
)

// Sample is a recorded event of a rule's type and version, and what must become
// of it at the end of the chain.
type Sample struct {
	Name string `json:"name"`
	// In is the payload before, and Out after the whole chain; nil: none.
	In  json.RawMessage `json:"in"`
	Out json.RawMessage `json:"out"`
	// Fields are other fields of the entry before, and OutFields after the whole
	// chain; without OutFields they must stay as they are.
	Fields    map[string]string `json:"fields"`
	OutFields map[string]string `json:"out_fields"`

	// Source is where it is written, "file:line".
	Source string `json:"-"`
}

// sample reads a sample that stands with its rule.
func (d *document) sample(r *Rule, n *yaml.Node, field string) {
	s := Sample{Name: fmt.Sprint(len(r.samples) + 1), Source: fmt.Sprintf("%s:%d", d.file, n.Line)}
	before := len(d.errs)
	d.object(n, field, handlers{
		"name":       d.text(&s.Name),
		"in":         d.json((*[]byte)(&s.In)),
		"out":        d.json((*[]byte)(&s.Out)),
		"fields":     d.texts(&s.Fields),
		"out_fields": d.texts(&s.OutFields),
	})
	if len(d.errs) > before {
		return
	}
	if err := s.check(); err != nil {
		d.failf(n, field, "%w", err)
		return
	}
	r.samples = append(r.samples, s)
}

func (s *Sample) check() error {
	switch {
	case s.In != nil && s.Out == nil:
		return errors.New("out: what must become of it is missing")
	case s.In == nil && s.Out != nil:
		return errors.New("in: the payload before is missing")
	case s.In == nil && s.Fields == nil:
		return errors.New("in: want a payload, or fields")
	}
	for _, name := range []string{typeField, versionField, payloadField} {
		_, before := s.Fields[name]
		if _, after := s.OutFields[name]; before || after {
			return fmt.Errorf("fields: %s follows from the rule and from in and out: leave it out", name)
		}
	}
	return nil
}

// texts reads a mapping of texts.
func (d *document) texts(into *map[string]string) func(n *yaml.Node, field string) {
	return func(n *yaml.Node, field string) {
		if n = resolve(n); n.Kind != yaml.MappingNode {
			d.failf(n, field, "want a mapping, not %s", nodeKind(n))
			return
		}
		*into = make(map[string]string)
		for i := 0; i+1 < len(n.Content); i += 2 {
			var value string
			d.text(&value)(n.Content[i+1], join(field, n.Content[i].Value))
			(*into)[n.Content[i].Value] = value
		}
	}
}

// maxSample bounds a line of a file of samples.
const maxSample = 16 << 20

// sampleFile reads samples from a file of JSON lines beside the YAML file.
func (d *document) sampleFile(r *Rule, n *yaml.Node, field, name string) {
	if !filepath.IsAbs(name) {
		name = filepath.Join(filepath.Dir(d.file), name)
	}
	f, err := os.Open(name)
	if err != nil {
		d.failf(n, field, "%w", err)
		return
	}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, maxSample)
	for line := 1; lines.Scan(); line++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		s := Sample{Name: fmt.Sprint(line)}
		dec := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		dec.DisallowUnknownFields()
		err := dec.Decode(&s)
		if err == nil && len(bytes.TrimSpace(lines.Bytes()[dec.InputOffset():])) > 0 {
			err = errors.New("a line holds one sample")
		}
		if err == nil {
			err = s.check()
		}
		if err != nil {
			d.errs = append(d.errs, fmt.Errorf("%s:%d: %w", name, line, err))
			continue
		}
		s.Source = fmt.Sprintf("%s:%d", name, line)
		r.samples = append(r.samples, s)
	}
	if err := errors.Join(lines.Err(), f.Close()); err != nil {
		d.failf(n, field, "read %s: %w", name, err)
	}
}
