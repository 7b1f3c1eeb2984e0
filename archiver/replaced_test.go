package archiver_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/archiver"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/objectstore"
)

// replacement is what happens to stream "s" all at once, between two looks of a
// daemon that has archived some entries and seen others.
type replacement struct {
	name     string
	archived []uint64 // milliseconds of IDs
	seen     []uint64 // and not archived
	do       func(p *script)
	// lost is the least that must be recorded as lost, most what may be.
	lost, most   uint64
	causes       []archive.GapCause
	incarnations int
	patient      bool // nothing tells the daemon to archive before it would anyway
}

// script collects commands that run in one transaction.
type script struct {
	t    *testing.T
	pipe redis.Pipeliner
}

func (s *script) do(args ...any) { s.pipe.Do(s.t.Context(), args...) }

func (s *script) add(key, payload string, ids ...uint64) {
	for _, id := range ids {
		s.do("XADD", key, fmt.Sprintf("%d-0", id), "payload", payload)
	}
}

// anew are the entries of another history.
func (s *script) anew(key string, ids ...uint64) { s.add(key, "other", ids...) }

// same are those of the first one.
func (s *script) same(key string, ids ...uint64) { s.add(key, "first", ids...) }

func ids(from, to uint64) []uint64 {
	var out []uint64
	for id := from; id <= to; id++ {
		out = append(out, id)
	}
	return out
}

func replacements() []replacement {
	removed, failover := []archive.GapCause{archive.CauseRemoved}, []archive.GapCause{archive.CauseFailover}
	return []replacement{
		{name: "made anew with the same count", archived: ids(1, 5), incarnations: 2,
			do: func(s *script) { s.do("DEL", "s"); s.anew("s", ids(11, 15)...) }},
		{name: "made anew with more", archived: ids(1, 5), incarnations: 2,
			do: func(s *script) { s.do("DEL", "s"); s.anew("s", ids(11, 22)...) }},
		{name: "made anew with fewer", archived: ids(1, 5), incarnations: 2,
			do: func(s *script) { s.do("DEL", "s"); s.anew("s", ids(11, 12)...) }},
		{name: "made anew with the same IDs", archived: ids(1, 5), incarnations: 2,
			do: func(s *script) { s.do("DEL", "s"); s.anew("s", ids(1, 5)...) }},
		{name: "made anew with lower IDs", archived: ids(11, 15), incarnations: 2,
			do: func(s *script) { s.do("DEL", "s"); s.anew("s", ids(1, 5)...) }},
		{name: "made anew and empty", archived: ids(1, 5), lost: 1, most: 1, causes: []archive.GapCause{archive.CauseTrimmed}, incarnations: 2,
			do: func(s *script) { s.do("DEL", "s"); s.anew("s", 9); s.do("XTRIM", "s", "MAXLEN", 0) }},
		{name: "seen, then made anew with more", archived: ids(1, 5), seen: ids(6, 8), lost: 3, most: 3, causes: removed, incarnations: 2,
			do: func(s *script) { s.do("DEL", "s"); s.anew("s", ids(11, 20)...) }},
		{name: "seen, then made anew with the same count", archived: ids(1, 5), seen: ids(6, 8), lost: 3, most: 3, causes: removed, incarnations: 2,
			do: func(s *script) { s.do("DEL", "s"); s.anew("s", ids(11, 18)...) }},
		{name: "seen, then made anew with fewer", archived: ids(1, 5), seen: ids(6, 8), lost: 3, most: 3, causes: removed, incarnations: 2,
			do: func(s *script) { s.do("DEL", "s"); s.anew("s", ids(11, 12)...) }},
		{name: "seen, then made anew with the same IDs", archived: ids(1, 5), seen: ids(6, 8), lost: 1, most: 3, causes: removed, incarnations: 2,
			do: func(s *script) { s.do("DEL", "s"); s.anew("s", ids(1, 10)...) }},
		{name: "older, and on with the same count", archived: ids(1, 5), incarnations: 2,
			do: func(s *script) { s.do("DEL", "s"); s.same("s", ids(1, 3)...); s.anew("s", 11, 12) }},
		{name: "older, and on with more", archived: ids(1, 5), incarnations: 2,
			patient: true, do: func(s *script) { s.do("DEL", "s"); s.same("s", ids(1, 3)...); s.anew("s", ids(11, 19)...) }},
		{name: "older than what was seen, and on with the same count", archived: ids(1, 5), seen: ids(6, 8), lost: 2, most: 2, causes: failover, incarnations: 1,
			do: func(s *script) { s.do("DEL", "s"); s.same("s", ids(1, 6)...); s.anew("s", 11, 12) }},
		{name: "older than what was seen, and on with more", archived: ids(1, 5), seen: ids(6, 8), lost: 2, most: 2, causes: failover, incarnations: 1,
			do: func(s *script) { s.do("DEL", "s"); s.same("s", ids(1, 6)...); s.anew("s", ids(11, 19)...) }},
		{name: "older than what was archived, with more seen", archived: ids(1, 5), seen: ids(6, 8), lost: 3, most: 3, causes: failover, incarnations: 2,
			do: func(s *script) { s.do("DEL", "s"); s.same("s", ids(1, 3)...); s.anew("s", ids(11, 19)...) }},
		{name: "another one renamed over it", archived: []uint64{1, 3, 5}, seen: []uint64{7, 9}, lost: 1, most: 2, causes: removed, incarnations: 2,
			do: func(s *script) { s.anew("o", 2, 4, 6, 8, 10, 12); s.do("RENAME", "o", "s") }},
		{name: "a longer one renamed over it", archived: ids(1, 5), seen: ids(6, 8), lost: 3, most: 3, causes: removed, incarnations: 2,
			do: func(s *script) { s.anew("o", ids(20, 60)...); s.do("RENAME", "o", "s") }},
		{name: "restored whole", archived: ids(1, 5), incarnations: 1,
			do: func(s *script) { s.do("DEL", "s"); s.same("o", ids(1, 5)...); s.do("RENAME", "o", "s") }},
		{name: "renamed away and back", archived: ids(1, 5), seen: ids(6, 8), incarnations: 1,
			patient: true, do: func(s *script) { s.do("RENAME", "s", "o"); s.do("RENAME", "o", "s") }},
		{name: "trimmed", archived: ids(1, 5), seen: ids(6, 8), lost: 3, most: 3, causes: []archive.GapCause{archive.CauseTrimmed}, incarnations: 1,
			do: func(s *script) { s.same("s", 9, 10); s.do("XTRIM", "s", "MAXLEN", 2) }},
		{name: "deleted entries", archived: ids(1, 5), seen: ids(6, 8), lost: 2, most: 2, incarnations: 1,
			causes:  []archive.GapCause{archive.CauseDeleted, archive.CauseUnknown},
			patient: true, do: func(s *script) { s.same("s", 9, 10); s.do("XDEL", "s", "7-0", "8-0") }},
		{name: "a higher last ID", archived: ids(1, 5), seen: ids(6, 8), incarnations: 1,
			patient: true, do: func(s *script) { s.do("XSETID", "s", "100-0") }},
	}
}

// rollCount is how many entries a daemon of these tests does not leave waiting.
const rollCount = 50

// TestReplacedBetweenTwoLooks: whatever becomes of a stream, the daemon archives all
// that Redis holds in the end, once, and records what it can know to be lost.
func TestReplacedBetweenTwoLooks(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{Args: []string{"--databases", fmt.Sprint(len(replacements()))}})
	for db, c := range replacements() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHarnessIn(t, server, db)
			h.transaction(t, func(s *script) { s.same("s", c.archived...) })
			a := h.follow(t, uint64(len(c.archived)))
			if len(c.seen) > 0 {
				h.transaction(t, func(s *script) { s.same("s", c.seen...) })
				eventually(t, "the daemon has seen the entries", func(context.Context) bool { return a.Progress().Pending == uint64(len(c.seen)) })
			}
			h.transaction(t, c.do)
			settled := func(context.Context) bool { return h.holdsAll(t) && h.lost(t) >= c.lost }
			if !c.patient {
				eventually(t, "the archive holds what Redis does", settled)
			}
			// What comes after goes the same way.
			h.transaction(t, func(s *script) { s.same("s", ids(1001, 1000+rollCount)...) })
			eventually(t, "the archive holds what came after", settled)
			c.check(t, h)
		})
	}
}

// TestRestoredWhileTheDaemonLooks: a stream that was deleted comes back as a whole, as it
// was archived, and goes on. That is the stream that was archived, whether the daemon saw
// that it was gone or not, and also when it is trimmed before it is archived again.
func TestRestoredWhileTheDaemonLooks(t *testing.T) {
	for _, c := range []struct {
		name string
		seen bool // to be gone
		trim bool
	}{{"at once", false, false}, {"when that was recorded", true, false}, {"and trimmed", true, true}} {
		t.Run(c.name, func(t *testing.T) {
			h := newHarnessIn(t, stacktest.Redis(t, stack.RedisOptions{}), 0)
			h.transaction(t, func(s *script) { s.same("s", ids(1, 300)...); s.do("XTRIM", "s", "MAXLEN", 250) })
			a := h.follow(t, 250)
			h.transaction(t, func(s *script) {
				s.same("restored", ids(51, 300)...)
				s.do("XSETID", "restored", "300-0", "ENTRIESADDED", 300)
			})
			wantGaps := uint64(1) // what was trimmed at first
			if c.seen {
				wantGaps++
				h.transaction(t, func(s *script) { s.do("DEL", "s") })
				eventually(t, "the removal is recorded", func(context.Context) bool { return a.Progress().Gaps == wantGaps })
			}
			h.transaction(t, func(s *script) { s.do("DEL", "s"); s.do("RENAME", "restored", "s") })
			if c.seen {
				eventually(t, "the daemon has looked at what came back", func(ctx context.Context) bool {
					groups, err := h.admin.XInfoGroups(ctx, "s").Result()
					return err == nil && len(groups) == 1
				})
			}
			h.transaction(t, func(s *script) {
				s.same("s", ids(1001, 1000+rollCount)...)
				if c.trim {
					s.do("XTRIM", "s", "MAXLEN", rollCount)
				}
			})
			eventually(t, "what came after is archived", func(context.Context) bool { return a.Progress().Events == 250+rollCount })
			for entry, n := range h.archived(t) {
				if n > 1 {
					t.Errorf("%s is in the archive %d times", entry, n)
				}
			}
			if n := h.incarnations(t, "s"); n != 1 || !h.holdsAll(t) {
				t.Errorf("%d incarnations, all there: %v", n, h.holdsAll(t))
			}
			if p := a.Progress(); p.Gaps != wantGaps || p.Lost != 50 {
				t.Errorf("gaps %+v, want %d, and 50 entries lost", h.gaps(t, "s"), wantGaps)
			}
		})
	}
}

func (c *replacement) check(t *testing.T, h *harness) {
	t.Helper()
	gaps := h.gaps(t, "s")
	for _, g := range gaps {
		if !slices.Contains(c.causes, g.Cause) {
			t.Errorf("gap %+v, want one of %s", g, c.causes)
		}
	}
	if lost := h.lost(t); lost > c.most {
		t.Errorf("%d lost in %+v, want at most %d", lost, gaps, c.most)
	}
	if n := h.incarnations(t, "s"); n != c.incarnations {
		t.Errorf("%d incarnations, want %d", n, c.incarnations)
	}
	for entry, n := range h.archived(t) {
		if n > 1 {
			t.Errorf("%s is in the archive %d times", entry, n)
		}
	}
}

// newHarnessIn is newHarness in one database of a server.
func newHarnessIn(t *testing.T, server *stack.Redis, db int) *harness {
	t.Helper()
	store, err := objectstore.NewLocal(t.TempDir(), objectstore.LocalOptions{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	client, admin := connect(t, server, db)
	return &harness{server: server, client: client, admin: admin, store: store, record: map[string][]event.Event{}}
}

// follow starts a daemon that looks often and lets young entries wait for as long as
// they are few, and waits until it has archived what there is.
func (h *harness) follow(t *testing.T, archived uint64) *archiver.Archiver {
	t.Helper()
	a := h.archiver(t, archiver.Options{
		Include: []string{"s"}, Group: "mirror",
		PollInterval: 50 * time.Millisecond, PollMaxInterval: 50 * time.Millisecond, DiscoverInterval: 50 * time.Millisecond,
		Roll: archiver.Roll{Age: time.Hour, Count: rollCount},
	})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	eventually(t, "the first entries are archived", func(context.Context) bool { return a.Progress().Events == archived })
	<-time.After(200 * time.Millisecond) // for some looks that find nothing new
	return a
}

func (h *harness) transaction(t *testing.T, do func(*script)) {
	t.Helper()
	s := &script{t, h.admin.TxPipeline()}
	do(s)
	if _, err := s.pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// archived counts how often the archive holds each entry.
func (h *harness) archived(t *testing.T) map[string]int {
	t.Helper()
	plan, err := h.archive(t).Plan(t.Context(), archive.PlanSpec{Stream: "s"})
	if err != nil {
		t.Fatal(err)
	}
	entries := map[string]int{}
	for e, err := range plan.Events(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		entries[fmt.Sprintf("%s %s", e.ID, e.Fields[0].Value)]++
	}
	return entries
}

// holdsAll reports whether the archive holds all that Redis does.
func (h *harness) holdsAll(t *testing.T) bool {
	t.Helper()
	entries := h.archived(t)
	messages, err := h.admin.XRange(t.Context(), "s", "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		if entries[fmt.Sprintf("%s %s", m.ID, m.Values["payload"])] == 0 {
			return false
		}
	}
	return true
}

// lost adds up what is recorded.
func (h *harness) lost(t *testing.T) (n uint64) {
	t.Helper()
	for _, g := range h.gaps(t, "s") {
		n += g.Lost
	}
	return n
}
