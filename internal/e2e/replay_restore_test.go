package e2e_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/stack"
)

// whole is all that Redis tells about a stream.
type whole struct {
	entries                []event.Event
	length, added          int64
	last, deleted, earlier string
}

func wholeStream(t *testing.T, c *redis.Client, stream string) whole {
	t.Helper()
	info, err := c.XInfoStream(t.Context(), stream).Result()
	if err != nil {
		t.Fatalf("%q: %v", stream, err)
	}
	w := whole{length: info.Length, added: info.EntriesAdded, last: info.LastGeneratedID, deleted: info.MaxDeletedEntryID, earlier: info.RecordedFirstEntryID}
	readStream(t, c, stream, func(e *event.Event) { w.entries = append(w.entries, *e) })
	return w
}

// TestReplayRestores archives streams, deletes them, and replays them into
// themselves with their IDs: they are what they were. Entries that were deleted
// or trimmed before they were archived stay away, and are counted all the same.
func TestReplayRestores(t *testing.T) {
	t.Parallel()
	seed := newSeed(t)
	w, rec := newFileWorld(t, stack.RedisOptions{}), newRecord()
	admin := w.admin(t)
	for _, p := range newProducers(t, w.redis.URL(), rec, seed) { // the shop's, and odd ones
		for range 20 {
			if err := p.send(t.Context(), p.batch(300)); err != nil {
				t.Fatal(err)
			}
		}
	}
	fill(t, w, rec, "trimmed", 3000)
	fill(t, w, rec, "deleted within", 3000)
	fill(t, w, rec, "last deleted", 3000)
	middle, last := rec.streams["deleted within"][1500].ID, rec.streams["last deleted"][2999].ID
	for _, args := range [][]any{
		{"XTRIM", "trimmed", "MAXLEN", "1000"},
		{"XDEL", "deleted within", middle.String()},
		{"XDEL", "last deleted", last.String()},
	} {
		if err := admin.Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	reservoir(t, w.env, "archive", "--once") // it fails, since entries were lost
	before := map[string]whole{}
	for stream := range rec.streams {
		before[stream] = wholeStream(t, admin, stream)
	}
	if err := admin.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	restore := []string{"replay", "run", "--stream", "*", "--into", "redis:{stream}", "--set", "ids=keep", "--set", "allow_source=true"}
	mustReservoir(t, w.with(workerEnv), restore...)
	for stream := range rec.streams {
		checkRestored(t, stream, wholeStream(t, admin, stream), before[stream])
	}
	wantNothingLeft(t, admin)

	jobs := w.jobCount(t)
	r := reservoir(t, w.with(workerEnv), "replay", "run", "--stream", "trimmed", "--into", "redis:{stream}", "--set", "ids=keep", "--set", "allow_source=true")
	wantOneError(t, r, 2, "exists, with 1000 entries", "fresh stream only", "remedy: Delete the stream")
	if got := w.jobCount(t); got != jobs {
		t.Errorf("the refused replay made %d jobs", got-jobs)
	}
}

func checkRestored(t *testing.T, stream string, got, want whole) {
	t.Helper()
	if !slices.EqualFunc(got.entries, want.entries, func(a, b event.Event) bool { return a.Equal(&b) }) {
		t.Errorf("%q: %d entries were restored, and are not the %d that there were", stream, len(got.entries), len(want.entries))
	}
	// The highest ID that was deleted is not in the archive.
	got.entries, want.entries, got.deleted, want.deleted = nil, nil, "", ""
	if a, b := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); a != b {
		t.Errorf("%q was restored as\n%s, and was\n%s", stream, a, b)
	}
}
