package projection

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// definition reads one definition.
func (r *reader) definition(n *yaml.Node) *Definition {
	d := &Definition{Kind: SQL, Approval: Required, Retention: Retention{Keep: DefaultKeep}, file: r.file, line: n.Line, lines: r.lines, offset: r.offset}
	var kind, approval string
	r.object(n, "", handlers{
		"name":        r.text(&d.Name),
		"description": r.text(&d.Description),
		"kind":        r.text(&kind),
		"version":     r.text(&d.Version),
		"source": func(n *yaml.Node, field string) {
			r.object(n, field, handlers{"streams": r.texts(&d.Source.Streams), "types": r.texts(&d.Source.Types)})
		},
		"table":    func(n *yaml.Node, field string) { r.table(&d.Table, n, field, nil) },
		"select":   r.text(&d.Select),
		"function": r.text(&d.Function),
		"require": func(n *yaml.Node, field string) {
			r.list(n, field, func(n *yaml.Node, field string) { d.Require = append(d.Require, r.requirement(n, field)) })
		},
		"failures": func(n *yaml.Node, field string) { r.failures(&d.Failures, n, field) },
		"upcast":   r.flag(&d.Upcast),
		"checks": func(n *yaml.Node, field string) {
			r.list(n, field, func(n *yaml.Node, field string) { d.Checks = append(d.Checks, r.check(n, field)) })
		},
		"scope": func(n *yaml.Node, field string) {
			r.object(n, field, handlers{
				"tenant": r.text(&d.Scope.Tenant), "aggregate": r.text(&d.Scope.Aggregate), "time": r.text(&d.Scope.Time),
			})
		},
		"keys":   r.texts(&d.Keys),
		"ignore": r.texts(&d.Ignore),
		"dependents": func(n *yaml.Node, field string) {
			r.list(n, field, func(n *yaml.Node, field string) { d.Dependents = append(d.Dependents, r.dependent(n, field)) })
		},
		"retention": func(n *yaml.Node, field string) {
			r.object(n, field, handlers{"keep": r.duration(&d.Retention.Keep), "feed": r.flag(&d.Retention.Feed)})
		},
		"approval": r.text(&approval),
	})
	if kind != "" {
		d.Kind = Kind(kind)
	}
	if approval != "" {
		d.Approval = Approval(approval)
	}
	d.complete()
	return d
}

// complete fills in what follows from the rest.
func (d *Definition) complete() {
	if d.Table.Name == "" {
		d.Table.Name = d.Name
	}
	if d.Kind != SQL && d.Function == "" {
		d.Function = d.Name
	}
	if d.Keys == nil {
		for _, key := range d.Table.OrderBy {
			if _, ok := d.Table.Column(key); !ok {
				d.Keys = nil
				break
			}
			d.Keys = append(d.Keys, key)
		}
	}
}

// table reads a table; more are handlers of other fields beside the table's.
func (r *reader) table(t *Table, n *yaml.Node, field string, more handlers) {
	h := handlers{
		"name":         r.text(&t.Name),
		"engine":       r.text(&t.Engine),
		"order_by":     r.texts(&t.OrderBy),
		"primary_key":  r.texts(&t.PrimaryKey),
		"partition_by": r.text(&t.PartitionBy),
		"ttl":          r.text(&t.TTL),
		"columns": func(n *yaml.Node, field string) {
			r.members(n, field, func(name, value *yaml.Node, field string) {
				t.Columns = append(t.Columns, r.column(name.Value, value, field))
			})
		},
		"settings": func(n *yaml.Node, field string) {
			r.members(n, field, func(name, value *yaml.Node, field string) {
				t.Settings = append(t.Settings, r.setting(name.Value, value, field))
			})
			slices.SortFunc(t.Settings, func(a, b Setting) int { return strings.Compare(a.Name, b.Name) })
		},
	}
	for name, read := range more {
		h[name] = read
	}
	r.object(n, field, h)
}

// column reads a column: its type, or a mapping.
func (r *reader) column(name string, n *yaml.Node, field string) Column {
	c := Column{Name: name}
	if n = resolve(n); n.Kind == yaml.ScalarNode {
		r.text(&c.Type)(n, field)
		return c
	}
	before := len(r.found)
	r.object(n, field, handlers{
		"type": r.text(&c.Type), "default": r.text(&c.Default), "codec": r.text(&c.Codec), "comment": r.text(&c.Comment),
	})
	if c.Type == "" && len(r.found) == before {
		r.badf(n, field+".type", "give the column's type, such as String", "it is missing")
	}
	return c
}

// setting reads a setting of a table; ClickHouse writes true and false as 1 and 0.
func (r *reader) setting(name string, n *yaml.Node, field string) Setting {
	var value string
	r.text(&value)(n, field)
	switch tag := resolve(n).ShortTag(); {
	case tag == "!!bool" && (value == "true" || value == "True" || value == "TRUE"):
		value = "1"
	case tag == "!!bool":
		value = "0"
	}
	return Setting{Name: name, Value: value}
}

// requirement reads a condition: an expression, or a mapping.
func (r *reader) requirement(n *yaml.Node, field string) Requirement {
	var q Requirement
	if n = resolve(n); n.Kind == yaml.ScalarNode {
		r.text(&q.SQL)(n, field)
	} else {
		r.object(n, field, handlers{"sql": r.text(&q.SQL), "reason": r.text(&q.Reason)})
		if q.SQL == "" {
			r.badf(n, field+".sql", "give a condition on an event", "it is missing")
		}
	}
	if q.Reason == "" {
		q.Reason = "not " + q.SQL
	}
	return q
}

// failures reads "stop", or how many dead letters are allowed.
func (r *reader) failures(f *Failures, n *yaml.Node, field string) {
	if n = resolve(n); n.Kind == yaml.ScalarNode {
		if n.Value != "stop" {
			r.badf(n, field, "", `want stop, or {dead_letters: N}, not %s`, nodeKind(n))
		}
		return
	}
	r.object(n, field, handlers{"dead_letters": r.number(&f.DeadLetters)})
}

// check reads a check.
func (r *reader) check(n *yaml.Node, field string) Check {
	var c Check
	expected := false
	before := len(r.found)
	r.object(n, field, handlers{
		"name": r.text(&c.Name), "sql": r.text(&c.SQL),
		"expect": func(n *yaml.Node, field string) {
			expected = true
			n = resolve(n)
			if n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" {
				r.badf(n, field, "", `want a value, a comparison such as ">= 0", or empty, not %s`, nodeKind(n))
				return
			}
			x, err := ParseExpectation(n.Value)
			if err != nil {
				r.badf(n, field, "", "%v", err)
				return
			}
			c.Expect = x
		},
	})
	if len(r.found) > before {
		return c
	}
	if c.SQL == "" {
		r.badf(n, field+".sql", "give a query of {table}", "it is missing")
	}
	if !expected {
		r.badf(n, field+".expect", `give a value, a comparison such as ">= 0", or empty`, "it is missing")
	}
	if c.Name == "" {
		c.Name = c.SQL
	}
	return c
}

// dependent reads a table with its SELECT.
func (r *reader) dependent(n *yaml.Node, field string) Dependent {
	var d Dependent
	r.table(&d.Table, n, field, handlers{"select": r.text(&d.Select)})
	return d
}

var durations = regexp.MustCompile(`^(\d+)(s|m|h|d|w)$`)

// duration reads a number and a unit: 30s, 15m, 12h, 7d, 2w.
func (r *reader) duration(into *time.Duration) func(n *yaml.Node, field string) {
	return func(n *yaml.Node, field string) {
		var text string
		r.text(&text)(n, field)
		if text == "" {
			return
		}
		d, err := parseDuration(text)
		if err != nil {
			r.badf(n, field, "", "%v", err)
			return
		}
		*into = d
	}
}

func parseDuration(text string) (time.Duration, error) {
	parts := durations.FindStringSubmatch(text)
	if parts == nil {
		return 0, fmt.Errorf("want a duration such as 12h, 7d or 2w, not %q", text)
	}
	unit := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour}[parts[2]]
	count, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil || count > int64(1<<62)/int64(unit) {
		return 0, fmt.Errorf("%q is too long", text)
	}
	return time.Duration(count) * unit, nil
}
