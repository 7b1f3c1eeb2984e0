package e2e_test

import (
	"io"
	"strings"
	"testing"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/objectstore"
)

// world is a Redis, an archive, and the environment in which the program finds
// both.
type world struct {
	redis *stack.Redis
	s3    *stack.S3 // nil for an archive in a directory
	store objectstore.Config
	env   []string
}

// busyEnv makes the archiver commit as often as it can, and say so.
var busyEnv = []string{
	"RESERVOIR_ARCHIVE_ROLL_AGE=100ms",
	"RESERVOIR_ARCHIVE_ROLL_COUNT=150",
	"RESERVOIR_ARCHIVE_POLL_INTERVAL=10ms",
	"RESERVOIR_ARCHIVE_POLL_MAX_INTERVAL=50ms",
	"RESERVOIR_STREAMS_DISCOVER_INTERVAL=1s",
	"RESERVOIR_LOG_LEVEL=debug",
	"RESERVOIR_LOG_FORMAT=json",
}

// newFileWorld has the archive in a directory.
func newFileWorld(t *testing.T, opts stack.RedisOptions) *world {
	t.Helper()
	w := &world{redis: stacktest.Redis(t, opts)}
	w.store.URL = "file://" + t.TempDir()
	w.env = []string{"RESERVOIR_REDIS_URL=" + w.redis.URL(), "RESERVOIR_STORE_URL=" + w.store.URL}
	return w
}

// newS3World has the archive in a bucket.
func newS3World(t *testing.T, opts stack.RedisOptions) *world {
	t.Helper()
	w := &world{redis: stacktest.Redis(t, opts), s3: stacktest.S3(t, stack.S3Options{})}
	w.store.URL = "s3://" + w.s3.Bucket() + "/archive"
	w.store.S3 = objectstore.S3Options{
		Endpoint: w.s3.Endpoint(), Region: stack.S3Region, AccessKey: stack.S3AccessKey, SecretKey: stack.S3SecretKey,
	}
	w.env = append(w.s3.Env(), "RESERVOIR_REDIS_URL="+w.redis.URL(), "RESERVOIR_STORE_URL="+w.store.URL,
		"RESERVOIR_STORE_ENDPOINT="+w.s3.Endpoint())
	return w
}

// with is the environment with more; the later value of a variable counts.
func (w *world) with(more ...[]string) []string {
	out := append([]string(nil), w.env...)
	for _, m := range more {
		out = append(out, m...)
	}
	return out
}

// archive opens the archive from this process, by way of nothing that may fail
// on purpose.
func (w *world) archive(t *testing.T) *archive.Archive {
	t.Helper()
	store, err := objectstore.Open(t.Context(), w.store)
	if err != nil {
		t.Fatal(err)
	}
	a, err := archive.Open(t.Context(), store, archive.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// finish archives what is left, and holds the archive against the record.
func (w *world) finish(t *testing.T, rec *record) {
	t.Helper()
	mustReservoir(t, w.env, "archive", "--once")
	w.check(t, rec)
}

// check holds the archive against the record: every entry once, in order, with
// equal bytes, in each format alone; no losses, one incarnation; and verify
// finds nothing wrong.
func (w *world) check(t *testing.T, rec *record) {
	t.Helper()
	a := w.archive(t)
	archived := 0
	for stream, err := range a.Streams(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if len(rec.streams[stream]) == 0 {
			t.Errorf("stream %q is archived, and was never written to", stream)
		}
		archived++
	}
	if archived != len(rec.streams) {
		t.Errorf("%d streams are archived, want %d", archived, len(rec.streams))
	}
	for stream := range rec.streams {
		for _, format := range []archive.Format{archive.JSONL, archive.Parquet} {
			checkFormat(t, a, rec, stream, format)
		}
	}
	mustReservoir(t, w.env, "verify")
}

func checkFormat(t *testing.T, a *archive.Archive, rec *record, stream string, format archive.Format) {
	t.Helper()
	want := rec.streams[stream]
	plan, err := a.Plan(t.Context(), archive.PlanSpec{Stream: stream, Format: format})
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.Views) != 1 || plan.Totals.Gaps != 0 || plan.Totals.Lost != 0 {
		t.Errorf("%q: %d incarnations, %d gaps with %d entries lost; want one, whole", stream, len(plan.Views), plan.Totals.Gaps, plan.Totals.Lost)
	}
	for s, err := range plan.Segments(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if s.Format != format { // a plan takes another one where this is missing
			t.Errorf("%q: %s to %s is not there in %s", stream, s.First, s.Last, format)
		}
	}
	i := 0
	for e, err := range plan.Events(t.Context()) {
		switch {
		case err != nil:
			t.Fatalf("%s of %q after %d events: %v", format, stream, i, err)
		case i == len(want):
			t.Fatalf("%s of %q: event %s is more than was added", format, stream, e.ID)
		case !e.Equal(&want[i]):
			t.Fatalf("%s of %q: event %d is\n%s %q, want\n%s %q", format, stream, i, e.ID, e.Fields, want[i].ID, want[i].Fields)
		}
		i++
	}
	if i != len(want) {
		t.Errorf("%s of %q: %d events, want %d", format, stream, i, len(want))
	}
}

// commits counts the commits of all streams and the processes that made them.
func (w *world) commits(t *testing.T, rec *record) (commits, writers int) {
	t.Helper()
	a := w.archive(t)
	seen := map[string]bool{}
	for stream := range rec.streams {
		log, err := a.Log(t.Context(), stream)
		if err != nil {
			t.Fatal(err)
		}
		for c, err := range log.Backwards(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			commits++
			seen[c.Writer] = true
		}
	}
	return commits, len(seen)
}

// replaceInObject changes the text of an object of the archive behind its back.
func replaceInObject(t *testing.T, w *world, key, old, text string) {
	t.Helper()
	store, err := objectstore.Open(t.Context(), w.store)
	if err != nil {
		t.Fatal(err)
	}
	body, _, err := store.Get(t.Context(), key, objectstore.ByteRange{})
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	b, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(b), old, text, 1)
	if changed == string(b) {
		t.Fatalf("%s does not hold %s: %s", key, old, b)
	}
	if _, err := store.Put(t.Context(), key, strings.NewReader(changed), objectstore.Always); err != nil {
		t.Fatal(err)
	}
}
