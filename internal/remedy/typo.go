package remedy

import (
	"iter"
	"strings"
)

// Nearest gives the name among names that a typo of it most likely meant, or "" when
// none is near: at most one in three of its letters is wrong. Case does not count.
func Nearest(typo string, names iter.Seq[string]) string {
	best, distance := "", max(1, len(typo)/3)+1
	for name := range names {
		if long := len(name) - len(typo); long >= distance || -long >= distance {
			continue
		}
		if d := Distance(strings.ToLower(typo), strings.ToLower(name)); d < distance || d == distance && name < best {
			best, distance = name, d
		}
	}
	return best
}

// Distance says how near a typo is to a name: it counts the insertions, deletions,
// replacements and swaps of two neighbours between a and b, by bytes (the optimal string
// alignment distance).
func Distance(a, b string) int {
	// before, above and row hold the distances of the prefixes of b to the
	// prefixes of a with i-1, i and i+1 bytes.
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
