package archiver_test

import (
	"slices"
	"testing"

	"github.com/reservoirhq/reservoir/archiver"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/redisstream"
)

// TestStatusesByName: names are taken as they are, whatever a pattern would make of
// them.
func TestStatusesByName(t *testing.T) {
	h := newHarness(t, stack.RedisOptions{})
	h.add(t, "a*", 3)
	h.add(t, "ab", 2)
	h.once(t, archiver.Options{})
	h.add(t, "a*", 1)
	h.add(t, "live", 1)
	arch := h.archive(t)

	for _, c := range []struct {
		redis            *redisstream.Client
		include, exclude []string
		want             []string
	}{
		{h.client, []string{"*"}, nil, []string{"a*", "ab", "live"}},
		{nil, []string{"*"}, nil, []string{"a*", "ab"}},
		{h.client, []string{"a*"}, []string{"ab"}, []string{"a*"}},
	} {
		if got, err := archiver.Streams(t.Context(), c.redis, arch, c.include, c.exclude); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%q without %q: %q, %v", c.include, c.exclude, got, err)
		}
	}

	var found []archiver.Status
	for st, err := range archiver.Statuses(t.Context(), h.client, arch, archiver.StatusSpec{Streams: []string{"a*", "nowhere"}, Include: []string{"ab"}}) {
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, st)
	}
	if len(found) != 1 || found[0].Stream != "a*" || found[0].Events != 3 || found[0].Live == nil || found[0].Live.Lag != 1 {
		t.Errorf("found %+v", found)
	}
}

// TestStatusOfAnotherStream: that as many entries were added to it does not make a
// stream the one that was archived.
func TestStatusOfAnotherStream(t *testing.T) {
	for _, c := range []struct {
		name     string
		do       func(*script)
		replaced bool
		lag      uint64
	}{
		{"the same", func(s *script) { s.do("XTRIM", "s", "MAXLEN", 1) }, false, 0},
		{"gone on", func(s *script) { s.same("s", 6, 7) }, false, 2},
		{"a higher last ID", func(s *script) { s.do("XSETID", "s", "100-0") }, false, 0},
		{"the same count", func(s *script) { s.do("DEL", "s"); s.anew("s", ids(11, 15)...) }, true, 5},
		{"the same count and IDs", func(s *script) { s.do("DEL", "s"); s.anew("s", ids(1, 5)...) }, true, 5},
		{"more", func(s *script) { s.do("DEL", "s"); s.anew("s", ids(11, 19)...) }, true, 9},
		{"fewer", func(s *script) { s.do("DEL", "s"); s.anew("s", 11) }, true, 1},
		{"older, and on", func(s *script) { s.do("DEL", "s"); s.same("s", ids(1, 3)...); s.anew("s", ids(11, 14)...) }, true, 7},
		{"restored", func(s *script) { s.do("DEL", "s"); s.same("s", ids(1, 5)...) }, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHarness(t, stack.RedisOptions{})
			h.transaction(t, func(s *script) { s.same("s", ids(1, 5)...) })
			h.once(t, archiver.Options{})
			h.transaction(t, c.do)
			for st, err := range archiver.Statuses(t.Context(), h.client, h.archive(t), archiver.StatusSpec{Streams: []string{"s"}}) {
				if err != nil || st.Err != nil {
					t.Fatal(err, st.Err)
				}
				if st.Live == nil || st.Live.Replaced != c.replaced || st.Live.Lag != c.lag {
					t.Errorf("%+v, want replaced %v and %d entries beyond the head", st.Live, c.replaced, c.lag)
				}
			}
		})
	}
}
