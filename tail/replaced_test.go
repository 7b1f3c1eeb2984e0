package tail_test

import (
	"errors"
	"testing"

	"github.com/reservoirhq/reservoir/redisstream"
	"github.com/reservoirhq/reservoir/tail"
)

// TestReplacedWithTheSameCount: a stream that was made anew is another one, also when it
// has as many entries, or even the IDs of the one before.
func TestReplacedWithTheSameCount(t *testing.T) {
	for _, c := range []struct {
		name     string
		archived bool
		ids      []string
	}{
		{"live, same IDs", false, []string{"1-1", "2-1", "3-1"}},
		{"archived, same IDs", true, []string{"1-1", "2-1", "3-1"}},
		{"live, higher IDs", false, []string{"11-1", "12-1", "13-1"}},
		{"archived, higher IDs", true, []string{"11-1", "12-1", "13-1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHarness(t)
			h.add(t, 1, 3)
			if c.archived {
				h.once(t)
			}
			tl := tail.New(h.arch, h.client, tail.Spec{Stream: stream})
			defer tl.Close()
			want(t, "before", read(t.Context(), t, tl), " 1:1 1:2 1:3")
			h.do(t, "DEL", stream)
			for _, id := range c.ids {
				h.do(t, "XADD", stream, id, "other", id)
			}
			replaced := false
			for b, err := range tl.Batches(t.Context()) {
				if err == nil {
					t.Fatalf("read %d events of another history", b.Len())
				}
				if replaced = errors.Is(err, redisstream.ErrHistoryReplaced); !replaced {
					t.Fatal(err)
				}
			}
			if !replaced {
				t.Fatal("nothing was noticed")
			}
		})
	}
}
