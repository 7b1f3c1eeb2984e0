package upcast

import "fmt"

// Rule brings events of one type from one schema version to another. Rules are
// declared in YAML (Load, Parse), or made by Func.
type Rule struct {
	Type string // the event type, whole
	From string // the schema version; "" is that of events without one
	// To is the version after it; "" leaves the version as it is, which takes a
	// NewType.
	To      string
	NewType string // the event type after it; "" leaves it

	// Func changes the event. Name stands for it in Set.Digest: it should change
	// whenever what Func does changes ("split names, 2").
	Func func(*Edit) error
	Name string

	steps   []step
	samples []Sample
	file    string
	line    int
}

// Func makes a Rule of a function. name stands for what it does in Set.Digest.
func Func(eventType, from, to, name string, fn func(*Edit) error) Rule {
	return Rule{Type: eventType, From: from, To: to, Name: name, Func: fn}
}

// String names the rule: `OrderPlaced "1" → "2"`, and where it was declared.
func (r *Rule) String() string {
	text := fmt.Sprintf("%s %s → ", r.Type, versionText(r.From))
	if r.NewType != "" && r.NewType != r.Type {
		text += r.NewType + " "
	}
	return text + versionText(r.toVersion())
}

// Source is where the rule was declared, "file:line", or the Name of its Func.
func (r *Rule) Source() string {
	if r.file == "" {
		return "func " + r.Name
	}
	return fmt.Sprintf("%s:%d", r.file, r.line)
}

// toType is the event type after the rule.
func (r *Rule) toType() string {
	if r.NewType != "" {
		return r.NewType
	}
	return r.Type
}

// toVersion is the schema version after the rule.
func (r *Rule) toVersion() string {
	if r.To != "" {
		return r.To
	}
	return r.From
}

func versionText(v string) string {
	if v == "" {
		return "(no version)"
	}
	return "v" + v
}
