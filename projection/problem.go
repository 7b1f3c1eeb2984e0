package projection

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/reservoirhq/reservoir/internal/remedy"
)

// Problem is one thing that is wrong with a definition.
type Problem struct {
	File  string `json:"file,omitempty"`
	Line  int    `json:"line,omitempty"`  // 0 where there is none
	Field string `json:"field,omitempty"` // from the top of the definition: table.columns.tenant
	What  string `json:"what"`
	// Remedy says what to do about it; may be empty.
	Remedy string `json:"remedy,omitempty"`
}

// String gives the problem in one line.
func (p Problem) String() string {
	text := p.What
	if p.Field != "" {
		text = p.Field + ": " + text
	}
	if at := position(p.File, p.Line); at != "" {
		text = at + ": " + text
	}
	if p.Remedy != "" {
		text += ": " + p.Remedy
	}
	return text
}

// Error is everything that is wrong with some definitions.
type Error struct{ Problems []Problem }

// Error gives a line for each problem.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// problems collects them.
type problems []Problem

// err gives all of them as an error, by file and line, or nil.
func (p problems) err() error {
	if len(p) == 0 {
		return nil
	}
	sorted := slices.Clone(p)
	slices.SortStableFunc(sorted, func(a, b Problem) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	return &Error{sorted}
}

func position(file string, line int) string {
	switch {
	case file == "":
		return ""
	case line == 0:
		return file
	default:
		return fmt.Sprintf("%s:%d", file, line)
	}
}

// didYouMean gives the name among names that a typo of it most likely meant, as
// a remedy, or "" when none is near.
func didYouMean(typo string, names iter.Seq[string]) string {
	best := remedy.Nearest(typo, names)
	if best == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %q?", best)
}
