package upcast

import (
	"errors"
	"io"

	"go.yaml.in/yaml/v3"

	"github.com/reservoirhq/reservoir/event"
)

// readRules reads the rules of one YAML file.
func readRules(name string, r io.Reader) ([]Rule, error) {
	d := &document{file: name}
	var rules []Rule
	if root, ok := d.decodeYAML(r); ok {
		declared := false
		d.object(root, "", handlers{"upcasters": func(n *yaml.Node, field string) {
			declared = true
			d.list(n, field, func(n *yaml.Node, field string) { rules = append(rules, d.rule(n, field)) })
		}})
		if len(d.errs) == 0 && !declared {
			d.failf(root, "upcasters", "it is missing")
		}
	}
	if len(d.errs) > 0 {
		return nil, errors.Join(d.errs...)
	}
	return rules, nil
}

// rule reads one rule.
func (d *document) rule(n *yaml.Node, field string) Rule {
	r := Rule{file: d.file, line: n.Line}
	before := len(d.errs)
	d.object(n, field, handlers{
		"type": d.text(&r.Type),
		"from": d.text(&r.From),
		"to":   d.text(&r.To),
		"steps": func(n *yaml.Node, field string) {
			d.list(n, field, func(n *yaml.Node, field string) { d.step(&r, n, field) })
		},
		"samples": func(n *yaml.Node, field string) {
			d.list(n, field, func(n *yaml.Node, field string) { d.sample(&r, n, field) })
		},
		"sample_files": func(n *yaml.Node, field string) {
			d.list(n, field, func(n *yaml.Node, field string) {
				var file string
				d.text(&file)(n, field)
				if file != "" {
					d.sampleFile(&r, n, field, file)
				}
			})
		},
	})
	if len(d.errs) == before {
		if err := r.check(); err != nil {
			d.failf(n, field, "%w", err)
		}
	}
	return r
}

// step reads one step, a mapping with one key that says what it does.
func (d *document) step(r *Rule, n *yaml.Node, field string) {
	if n = resolve(n); n.Kind == yaml.MappingNode && len(n.Content) != 2 {
		d.failf(n, field, "a step does one thing: want one of default, drop, expr, move, rename, set and type")
		return
	}
	one := func(op string, keys ...string) func(n *yaml.Node, field string) {
		return func(n *yaml.Node, field string) { d.operation(r, op, keys, n, field) }
	}
	d.object(n, field, handlers{
		"rename":  one(opRename, "to"),
		"move":    one(opRename, "to"), // the same under the name that fits better
		"default": one(opDefault, "value"),
		"drop":    one(opDrop),
		"set":     one(opSet, "value"),
		"expr":    one(opExpr, "is"),
		"type": func(n *yaml.Node, field string) {
			if r.NewType != "" {
				d.failf(n, field, "the rule has another type step: remove one")
			}
			d.text(&r.NewType)(n, field)
		},
	})
}

// operation reads what a step is about: a path or a field, and the key that the
// operation needs besides.
func (d *document) operation(r *Rule, op string, keys []string, n *yaml.Node, field string) {
	s := step{op: op}
	var at, to string
	before := len(d.errs)
	h := handlers{"path": d.text(&at), "field": d.text(&s.field)}
	for _, k := range keys {
		switch k {
		case "to":
			h[k] = d.text(&to)
		case "value":
			h[k] = d.json(&s.value)
		case "is":
			h[k] = d.text(&s.text)
		}
	}
	d.object(n, field, h)
	if len(d.errs) > before {
		return
	}
	if err := s.complete(at, to); err != nil {
		d.failf(n, field, "%w", err)
		return
	}
	r.steps = append(r.steps, s)
}

// complete checks what was read of a step, and prepares it.
func (s *step) complete(at, to string) (err error) {
	switch {
	case (at == "") == (s.field == ""):
		return errors.New("want a path in the payload or a field of the entry, one of both")
	case s.op == opRename && to == "":
		return errors.New("to: where to?")
	case (s.op == opDefault || s.op == opSet) && s.value == nil:
		return errors.New("value: it is missing; null is a value as well")
	case s.op == opExpr && s.text == "":
		return errors.New("is: the expression is missing")
	}
	if s.op == opExpr {
		if s.expr, err = event.CompileExpression(s.text); err != nil {
			return err
		}
	}
	switch {
	case s.op == opRename && s.field != "":
		s.toField = to
		if to == s.field {
			return errors.New("to: it is the same field")
		}
		return nil
	case s.field != "":
		return nil
	case s.op == opRename:
		s.path, s.to, err = parsePaths(at, to)
		return err
	}
	if s.path, err = parsePath(at); err != nil {
		return err
	}
	if s.op == opDrop || s.op == opDefault {
		return namesMember(s.path)
	}
	return nil
}
