package rebuild_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/archiver"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/redisstream"
)

// world is the servers that rebuilds work with, and streams that tests write to.
type world struct {
	t      testing.TB
	redis  *stack.Redis
	raw    *redis.Client
	client *redisstream.Client
	ch     *stack.ClickHouse
	s3     *stack.S3 // nil: the archive is in a directory
	dir    string    // of it, then
	store  objectstore.Store
	arch   *archive.Archive

	mu     sync.Mutex // of what follows: tests write from several goroutines
	random *rand.Rand
	made   int
}

// newWorld starts the servers. The archive is on S3, or in a directory.
func newWorld(t testing.TB, onS3 bool) *world {
	t.Helper()
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	w := &world{t: t, redis: stacktest.Redis(t, stack.RedisOptions{}), random: rand.New(rand.NewPCG(1, 2))}
	w.ch = stacktest.ClickHouse(t, stack.ClickHouseOptions{})
	var err error
	if onS3 {
		w.s3 = stacktest.S3(t, stack.S3Options{})
		w.store, err = objectstore.NewS3(t.Context(), objectstore.S3Options{
			Bucket: w.s3.Bucket(), Endpoint: w.s3.Endpoint(), Region: stack.S3Region, AccessKey: stack.S3AccessKey, SecretKey: stack.S3SecretKey,
		})
	} else {
		w.dir = t.TempDir()
		w.store, err = objectstore.NewLocal(w.dir, objectstore.LocalOptions{NoSync: true})
	}
	w.must(err)
	w.arch, err = archive.Open(t.Context(), w.store, archive.Options{})
	w.must(err)
	w.client, err = redisstream.Connect(t.Context(), redisstream.Config{URL: "redis://" + w.redis.Addr()})
	w.must(err)
	t.Cleanup(func() { w.client.Close() })
	w.raw = redis.NewClient(&redis.Options{Addr: w.redis.Addr()})
	t.Cleanup(func() { w.raw.Close() })
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// archiveAll archives everything that is in Redis, in segments of so many events.
func (w *world) archiveAll(segment uint64, formats ...archive.Format) {
	w.t.Helper()
	a, err := archiver.New(w.client, w.arch, archiver.Options{Include: []string{"*"}, Formats: formats, Roll: archiver.Roll{Count: segment}}, slog.New(slog.DiscardHandler), nil)
	w.must(err)
	summary, err := a.Once(w.t.Context())
	w.must(err)
	if len(summary.Left) > 0 {
		w.t.Fatalf("not archived: %+v", summary.Left)
	}
}

// publish adds n events to a stream, of the orders that orderEvent makes up.
func (w *world) publish(ctx context.Context, stream string, n int) error {
	for n > 0 {
		pipe := w.raw.Pipeline()
		some := min(n, 500)
		for range some {
			pipe.XAdd(ctx, &redis.XAddArgs{Stream: stream, Values: w.orderEvent()})
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return err
		}
		n -= some
	}
	return nil
}

// orderEvent makes up the next event of some order.
func (w *world) orderEvent() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.made++
	n, order := w.made, w.random.IntN(500)
	kinds := []string{"OrderPlaced", "OrderPaid", "OrderShipped", "Noise"}
	e := []string{
		"event_id", fmt.Sprintf("e%d", n), "type", kinds[w.random.IntN(len(kinds))], "tenant", fmt.Sprintf("t%d", order%10),
		"aggregate_type", "order", "aggregate_id", fmt.Sprintf("o%d", order),
		"occurred_at", time.UnixMicro(1_760_000_000_000_000 + int64(n)*70_000_001).UTC().Format(time.RFC3339Nano),
		"payload", fmt.Sprintf(`{"total":%d.%02d,"name":"%s","items":[{"sku":"a","n":%d},{"sku":"b","n":1}]}`, n%1000, n%100, strings.Repeat("é", n%4), n%5),
	}
	if n%3 == 0 {
		e = append(e, "version", fmt.Sprint(n))
	}
	return e
}

// query asks ClickHouse.
func (w *world) query(statement string, args ...any) string {
	w.t.Helper()
	out, err := w.ch.Query(w.t.Context(), fmt.Sprintf(statement, args...))
	w.must(err)
	return strings.TrimSpace(out)
}
