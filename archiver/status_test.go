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
