package projection

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"
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
	best, bestDistance := "", max(1, len(typo)/3)+1
	for name := range names {
		if d := distance(strings.ToLower(typo), strings.ToLower(name)); d < bestDistance || d == bestDistance && name < best {
			best, bestDistance = name, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %q?", best)
}

// distance counts the insertions, deletions, replacements and swaps of two
// neighbours between a and b.
func distance(a, b string) int {
	before, above, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range above {
		above[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			cost := above[j]
			if a[i] != b[j] {
				cost++
			}
			row[j+1] = min(cost, above[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, above, row = above, row, before
	}
	return above[len(b)]
}
