package interop_test

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/archiver"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/shop"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/redisstream"
)

// busy is a stream with more events in its last hour than fit in one row group.
const busy = "shop:busy"

// The hours of the archive: the shop opens in the first of them.
var (
	opening = time.Date(2026, 11, 20, 22, 30, 0, 0, time.UTC)
	hours   = []string{"date=2026-11-20/hour=22", "date=2026-11-20/hour=23", "date=2026-11-21/hour=00", "date=2026-11-21/hour=01"}
)

// published is a Redis with what a shop published over four hours of two days,
// spoiled events included, and the record of it.
type published struct {
	client *redisstream.Client
	record map[string][]event.Event
}

func publish(t *testing.T) *published {
	t.Helper()
	server := stacktest.Redis(t, stack.RedisOptions{})
	client, err := redisstream.Connect(t.Context(), redisstream.Config{URL: server.URL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	p := &published{client: client, record: map[string][]event.Event{}}
	quiet := shop.New(shop.Options{Seed: 7, Start: opening, Every: 2 * time.Second, Malformed: 0.1})
	for range 5_000 { // 2 h 47 min
		stream, e := quiet.Next()
		p.add(stream, quiet.Time(), e)
	}
	rush := shop.New(shop.Options{Seed: 8, Start: quiet.Time().Truncate(time.Hour), Malformed: 0.01})
	for range 60_000 {
		_, e := rush.Next()
		p.add(busy, rush.Time(), e)
	}
	p.write(t, server)
	return p
}

// add records an event, with the ID that Redis would give it at that time.
func (p *published) add(stream string, at time.Time, e event.Event) {
	e.ID = event.ID{Ms: uint64(at.UnixMilli())}
	if n := len(p.record[stream]); n > 0 && p.record[stream][n-1].ID.Ms == e.ID.Ms {
		e.ID.Seq = p.record[stream][n-1].ID.Seq + 1
	}
	p.record[stream] = append(p.record[stream], e)
}

// write sends the record to Redis by a client of its own.
func (p *published) write(t *testing.T, server *stack.Redis) {
	t.Helper()
	producer := redis.NewClient(&redis.Options{Addr: server.Addr(), DisableIdentity: true})
	defer producer.Close()
	for stream, events := range p.record {
		pipe := producer.Pipeline()
		for i, e := range events {
			var values []any
			for _, f := range e.Fields {
				values = append(values, f.Name, f.Value)
			}
			pipe.XAdd(t.Context(), &redis.XAddArgs{Stream: stream, ID: e.ID.String(), Values: values})
			if i%5000 == 4999 || i == len(events)-1 {
				if _, err := pipe.Exec(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// archiveTo archives what was published.
func (p *published) archiveTo(t *testing.T, store objectstore.Store) {
	t.Helper()
	arch, err := archive.Open(t.Context(), store, archive.Options{})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	a, err := archiver.New(p.client, arch, archiver.Options{Include: []string{"shop:*"}}, log, nil)
	if err != nil {
		t.Fatal(err)
	}
	summary, err := a.Once(t.Context())
	if err != nil || len(summary.Left) > 0 || summary.Lost > 0 || int(summary.Events) != p.count() {
		t.Fatalf("archived %+v, %v; want %d events", summary, err, p.count())
	}
}

func (p *published) count() int {
	n := 0
	for _, events := range p.record {
		n += len(events)
	}
	return n
}

// archiveToDir archives into a directory.
func (p *published) archiveToDir(t *testing.T) place {
	t.Helper()
	dir := t.TempDir()
	store, err := objectstore.NewLocal(dir, objectstore.LocalOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p.archiveTo(t, store)
	return place{store, dir}
}

// archiveToS3 archives into an S3 server, below a prefix.
func (p *published) archiveToS3(t *testing.T) place {
	t.Helper()
	server := stacktest.S3(t, stack.S3Options{})
	store, err := objectstore.Open(t.Context(), objectstore.Config{
		URL: fmt.Sprintf("s3://%s/archive?endpoint=%s&region=%s", server.Bucket(), server.Endpoint(), stack.S3Region),
		S3:  objectstore.S3Options{AccessKey: stack.S3AccessKey, SecretKey: stack.S3SecretKey},
	})
	if err != nil {
		t.Fatal(err)
	}
	p.archiveTo(t, store)
	return place{store, server.Endpoint() + "/" + server.Bucket() + "/archive"}
}
