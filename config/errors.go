package config

import (
	"fmt"
	"strings"
)

// Problem is one thing that is wrong in the configuration.
type Problem struct {
	Key    string // or the variable's or section's name, where no key is meant
	Value  string // as text, secrets hidden; empty where it says nothing
	Origin Origin // where the value came from
	What   string // what is wrong
	Want   string // what would be right; may be empty
}

// String gives the problem as one line.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.Key)
	if p.Origin.Layer > LayerDefault {
		fmt.Fprintf(&b, " (%s)", p.Origin)
	}
	b.WriteString(": " + p.What)
	if p.Value != "" {
		fmt.Fprintf(&b, ": %q", p.Value)
	}
	if p.Want != "" {
		b.WriteString("; " + p.Want)
	}
	return b.String()
}

// Error is everything that is wrong in the configuration.
type Error struct{ Problems []Problem }

// Error implements error.
func (e *Error) Error() string {
	if len(e.Problems) == 1 {
		return "configuration: " + e.Problems[0].String()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "configuration has %d problems:", len(e.Problems))
	for _, p := range e.Problems {
		b.WriteString("\n  " + p.String())
	}
	return b.String()
}

// Remedy says what to do about it.
func (e *Error) Remedy() string {
	return "correct it; `reservoir config keys` lists every key with its meaning and default"
}

// Layer is one source of values; a higher one wins.
type Layer int

// The layers.
const (
	LayerDefault Layer = iota
	LayerFile
	LayerEnv
	LayerFlag
)

// Origin says where a value came from.
type Origin struct {
	Layer Layer
	Name  string // of the file, the variable or the flag
	Line  int    // in the file; 0 where unknown
}

// String gives "reservoir.yaml:12", "RESERVOIR_REDIS_URL", "--redis-url" or
// "default".
func (o Origin) String() string {
	switch {
	case o.Layer == LayerDefault:
		return "default"
	case o.Line > 0:
		return fmt.Sprintf("%s:%d", o.Name, o.Line)
	default:
		return o.Name
	}
}
