package replay

import (
	"iter"
	"strings"
)

// nearest gives the name among names that a typo of it most likely meant, or ""
// when none is near.
func nearest(typo string, names iter.Seq[string]) string {
	best, distance := "", max(2, len(typo)/3)+1
	for name := range names {
		if d := edits(strings.ToLower(typo), strings.ToLower(name), distance); d < distance {
			best, distance = name, d
		}
	}
	return best
}

// edits counts the bytes to insert, drop, change or swap with their neighbour to
// make b of a; limit or more is limit.
func edits(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := last[j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			row[j] = min(last[j]+1, row[j-1]+1, change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return min(last[len(b)], limit)
}
