package redisstream

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// scanCount is how many keys one step of SCAN looks at.
const scanCount = 1000

// Discover gives the name of every stream that include selects and exclude does
// not, each once, in no particular order. Both hold names and patterns as in
// Redis's KEYS (see Match). A plain name in include is given first and without
// looking: the stream may not exist yet. Patterns never select streams that are
// being restored (see Stage). They need a scan over the keys of
// all masters, one for all patterns together; a stream that is made or deleted
// meanwhile may or may not be given. The names given are remembered until the
// end, to give each once.
func (c *Client) Discover(ctx context.Context, include, exclude []string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		seen := make(map[string]bool)
		give := func(name string) bool {
			if seen[name] || matchesAny(name, exclude) {
				return true
			}
			seen[name] = true
			return yield(name, nil)
		}
		var patterns []string
		for _, p := range include {
			if isPattern(p) {
				patterns = append(patterns, p)
			} else if !give(p) {
				return
			}
		}
		if len(patterns) == 0 {
			return
		}
		for name, err := range c.scanStreams(ctx, patterns) {
			if err != nil {
				yield("", fmt.Errorf("discover streams: %w", classify(err)))
				return
			}
			if !give(name) {
				return
			}
		}
	}
}

// scanStreams gives the streams of all masters that match a pattern, some
// perhaps more than once.
func (c *Client) scanStreams(ctx context.Context, patterns []string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		masters, err := c.masters(ctx)
		if err != nil {
			yield("", err)
			return
		}
		match := "*"
		if len(patterns) == 1 {
			match = patterns[0]
		}
		for _, master := range masters {
			for cursor := uint64(0); ; {
				names, next, err := master.ScanType(ctx, cursor, match, scanCount, "stream").Result()
				if err != nil {
					yield("", err)
					return
				}
				for _, name := range names {
					if matchesAny(name, patterns) && !yield(name, nil) {
						return
					}
				}
				if cursor = next; cursor == 0 {
					break
				}
			}
		}
	}
}

// masters returns a client for every server that holds keys.
func (c *Client) masters(ctx context.Context) ([]*redis.Client, error) {
	if c.cluster == nil {
		return []*redis.Client{c.single}, nil
	}
	var mu sync.Mutex
	var all []*redis.Client
	err := c.cluster.ForEachMaster(ctx, func(_ context.Context, master *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, master)
		return nil
	})
	return all, err
}

// Selected reports whether Discover would give a stream of that name.
func Selected(name string, include, exclude []string) bool {
	return matchesAny(name, include) && !matchesAny(name, exclude)
}

func matchesAny(name string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		return name == p && !isPattern(p) || isPattern(p) && Match(p, name) && !IsStage(name)
	})
}

func isPattern(s string) bool { return strings.ContainsAny(s, `*?[\`) }

// Match reports whether name matches a pattern as in Redis's KEYS: * stands for
// any bytes, ? for one, [ab], [a-z] and [^a] for one of, in or not in a set, and
// \ takes the next byte as it is.
func Match(pattern, name string) bool {
	star, retry := -1, 0 // the last * seen, and where in name to try again after it
	p, n := 0, 0
	for n < len(name) {
		if p < len(pattern) && pattern[p] == '*' {
			star, retry = p, n
			p++
			continue
		}
		if width, ok := matchOne(pattern[p:], name[n]); ok {
			p += width
			n++
			continue
		}
		if star < 0 {
			return false
		}
		retry++
		p, n = star+1, retry
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// matchOne matches one byte with the beginning of a pattern that does not begin
// with *, and returns how much of the pattern that took.
func matchOne(pattern string, b byte) (width int, ok bool) {
	switch {
	case pattern == "":
		return 0, false
	case pattern[0] == '?':
		return 1, true
	case pattern[0] == '[':
		return matchSet(pattern, b)
	case pattern[0] == '\\' && len(pattern) > 1:
		return 2, pattern[1] == b
	default:
		return 1, pattern[0] == b
	}
}

// matchSet matches one byte with a set; one without its ] goes to the end.
func matchSet(pattern string, b byte) (width int, ok bool) {
	i, in := 1, false
	negated := i < len(pattern) && pattern[i] == '^'
	if negated {
		i++
	}
	for i < len(pattern) && pattern[i] != ']' {
		switch {
		case pattern[i] == '\\' && i+1 < len(pattern):
			in = in || pattern[i+1] == b
			i += 2
		case i+2 < len(pattern) && pattern[i+1] == '-':
			low, high := min(pattern[i], pattern[i+2]), max(pattern[i], pattern[i+2])
			in = in || low <= b && b <= high
			i += 3
		default:
			in = in || pattern[i] == b
			i++
		}
	}
	return min(i+1, len(pattern)), in != negated
}
