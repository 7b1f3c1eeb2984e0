package event

import "slices"

// MatchPattern reports whether name matches a pattern as KEYS and SCAN of
// Redis match keys: * is any run of bytes, ? any byte, [abc] and [a-z] one of
// a set, [^abc] one that is not in it, and \x is x itself. Everything is
// compared byte by byte. As in Redis a set that is not closed ends with the
// pattern, a "]" after a "-" is the end of a run and not of the set, and an
// empty name matches "*" and "" only. (Runs of bytes over 127 are ordered as
// Redis has them where char is unsigned, as on ARM.)
func MatchPattern(pattern, name string) bool { return matchPattern(pattern, name) }

func matchPattern[S string | []byte](pattern string, name S) bool {
	if len(name) == 0 {
		return pattern == "" || pattern == "*"
	}
	p, n := 0, 0
	star, from := -1, 0 // the last star, and where in name what follows it was tried
	for n < len(name) {
		if p < len(pattern) && pattern[p] == '*' {
			star, from = p, n
			p++
			continue
		}
		if size, ok := matchByte(pattern[p:], name[n]); ok {
			p, n = p+size, n+1
			continue
		}
		if star < 0 {
			return false
		}
		from++
		p, n = star+1, from
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// matchByte matches c with what pattern begins with, and returns the length of
// that.
func matchByte(pattern string, c byte) (size int, ok bool) {
	if pattern == "" {
		return 0, false
	}
	switch {
	case pattern[0] == '?':
		return 1, true
	case pattern[0] == '[':
		return matchSet(pattern, c)
	case pattern[0] == '\\' && len(pattern) > 1:
		return 2, pattern[1] == c
	default:
		return 1, pattern[0] == c
	}
}

func matchSet(pattern string, c byte) (size int, ok bool) {
	i := 1
	not := i < len(pattern) && pattern[i] == '^'
	if not {
		i++
	}
	for i < len(pattern) && pattern[i] != ']' {
		rest := pattern[i:]
		switch {
		case rest[0] == '\\' && len(rest) > 1:
			ok = ok || rest[1] == c
			i += 2
		case len(rest) > 2 && rest[1] == '-':
			ok = ok || min(rest[0], rest[2]) <= c && c <= max(rest[0], rest[2])
			i += 3
		default:
			ok = ok || rest[0] == c
			i++
		}
	}
	return min(i+1, len(pattern)), ok != not
}

// unclosed reports whether a set in a pattern has no end, which Redis takes to be
// the pattern's.
func unclosed(pattern string) bool {
	for i := 0; i < len(pattern); i++ {
		switch pattern[i] {
		case '\\':
			i++
		case '[':
			n := setLength(pattern[i:])
			if n == 0 {
				return true
			}
			i += n - 1
		}
	}
	return false
}

// setLength gives the length of the set that a pattern begins with, as matchSet reads
// it; 0 if it is not closed.
func setLength(set string) int {
	i := 1
	if i < len(set) && set[i] == '^' {
		i++
	}
	for i < len(set) && set[i] != ']' {
		switch rest := set[i:]; {
		case rest[0] == '\\' && len(rest) > 1:
			i += 2
		case len(rest) > 2 && rest[1] == '-':
			i += 3
		default:
			i++
		}
	}
	if i >= len(set) {
		return 0
	}
	return i + 1
}

// isPattern reports whether a pattern may match more than one name.
func isPattern(pattern string) bool {
	return slices.ContainsFunc([]byte(pattern), func(c byte) bool {
		return c == '*' || c == '?' || c == '[' || c == '\\'
	})
}
