package redisstream_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/redisstream"
)

// TestWait waits for a stream that is not there yet, for what comes to it, in vain,
// and until it is told to give up; between reads of the same Reader.
func TestWait(t *testing.T) {
	t.Parallel()
	server := stacktest.Redis(t, stack.RedisOptions{})
	client, err := redisstream.Connect(t.Context(), redisstream.Config{URL: server.URL()})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	admin := redis.NewClient(&redis.Options{Addr: server.Addr(), DisableIdentity: true})
	defer admin.Close()
	r, err := client.Reader(t.Context(), "s", redisstream.ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()

	var position event.ID
	var batch event.Batch
	for n := range 20 {
		added := make(chan error, 1)
		go func() {
			for !strings.Contains(admin.Info(context.Background(), "clients").Val(), "blocked_clients:1") {
			}
			added <- admin.XAdd(context.Background(), &redis.XAddArgs{Stream: "s", Values: []any{"n", n, "big", strings.Repeat("x", n*20000)}}).Err()
		}()
		if more, err := r.Wait(t.Context(), position, time.Minute); err != nil || !more {
			t.Fatalf("wait %d: %v, %v", n, more, err)
		}
		if err := <-added; err != nil {
			t.Fatal(err)
		}
		if _, err := r.Read(t.Context(), position, &batch); err != nil || batch.Len() != 1 {
			t.Fatalf("read %d: %d events, %v", n, batch.Len(), err)
		}
		position = batch.ID(0)
	}
	if more, err := r.Wait(t.Context(), event.ID{}, time.Minute); err != nil || !more {
		t.Errorf("wait for what is there: %v, %v", more, err)
	}
	if more, err := r.Wait(t.Context(), position, 20*time.Millisecond); err != nil || more {
		t.Errorf("wait in vain: %v, %v", more, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := r.Wait(ctx, position, time.Minute); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("wait beyond the context: %v", err)
	}
	if _, err := r.Read(t.Context(), event.ID{}, &batch); err != nil || batch.Len() == 0 {
		t.Errorf("read after it: %d events, %v", batch.Len(), err)
	}
	if err := admin.Set(t.Context(), "text", "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	other, err := client.Reader(t.Context(), "text", redisstream.ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := other.Wait(t.Context(), event.ID{}, time.Second); !errors.Is(err, redisstream.ErrNotStream) {
		t.Errorf("wait for a text: %v", err)
	}
}
