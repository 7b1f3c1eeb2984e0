package replay_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reservoirhq/reservoir/archiver"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/redisstream"
	"github.com/reservoirhq/reservoir/replay"
)

// A replay that follows several streams has every event once and each stream in
// its order, whatever archives and crashes meanwhile, and ends when it is
// cancelled.
func TestFollow(t *testing.T) {
	for _, streams := range []int{1, 3} {
		t.Run(fmt.Sprint(streams), func(t *testing.T) { follow(t, streams, false) })
	}
	// As in a cluster, where checkpoints of slots without events lag behind.
	t.Run("slow record", func(t *testing.T) { follow(t, 3, true) })
}

func follow(t *testing.T, streams int, slow bool) {
	server := stacktest.Redis(t, stack.RedisOptions{})
	admin := redis.NewClient(&redis.Options{Addr: server.Addr(), DisableIdentity: true})
	client, err := redisstream.Connect(t.Context(), redisstream.Config{URL: server.URL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(client.Close(), admin.Close()); err != nil {
			t.Error(err)
		}
	})
	b := newBench(t, func(o *replay.Options) { o.Redis, o.Clock = client, time.Now })
	b.target.slow = slow
	arch, err := archiver.New(client, b.arch, archiver.Options{Include: []string{"s*"}}, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	published := 0
	publish := func(n int) {
		pipe := admin.Pipeline()
		for range n {
			pipe.XAdd(t.Context(), &redis.XAddArgs{Stream: fmt.Sprintf("s%d", published%streams), Values: []any{"type", "T", "n", published}})
			published++
		}
		if _, err := pipe.Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	archive := func() {
		if _, err := arch.Once(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	publish(1500)
	archive()
	id := b.create(replay.Spec{Follow: true}).ID
	publish(1200)
	archive()
	count := func() int {
		b.target.mu.Lock()
		defer b.target.mu.Unlock()
		return len(b.target.got)
	}
	for attempt := range 4 {
		publish(500)
		ctx, stop := context.WithCancelCause(t.Context())
		ended := make(chan error, 1)
		go func() {
			_, err := b.try(ctx, b.store, id)
			ended <- err
		}()
		deadline := time.Now().Add(20 * time.Second)
		for count() < published && time.Now().Before(deadline) {
			<-time.After(5 * time.Millisecond)
		}
		publish(700) // it is stopped somewhere in these
		<-time.After(time.Duration(attempt) * 20 * time.Millisecond)
		stop(errors.New("enough"))
		if err := <-ended; err == nil {
			t.Fatal("it ended by itself")
		}
		if attempt == 1 {
			archive()
		}
	}
	if _, err := b.jobs.Get(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan *jobs.Job, 1)
	go func() {
		job, err := b.try(ctx, b.store, id)
		if err != nil {
			t.Error(err)
		}
		ended <- job
	}()
	for deadline := time.Now().Add(20 * time.Second); count() < published && time.Now().Before(deadline); {
		<-time.After(5 * time.Millisecond)
	}
	if _, err := b.jobs.Cancel(t.Context(), id, jobs.Change{}); err != nil {
		t.Fatal(err)
	}
	job := <-ended
	if job.State != jobs.Cancelled || job.Progress.Phase != "following" || job.Progress.Done != uint64(published) || b.target.cleaned != 1 {
		t.Errorf("it is %s: %+v", job.State, job.Progress)
	}
	next := map[string]int{}
	var positions []replay.Position
	for _, w := range b.target.got {
		n, _ := w.event.Get("n")
		k := next[w.Stream]
		if want := fmt.Sprint(k*streams + int(w.Stream[1]-'0')); string(n) != want {
			t.Fatalf("stream %s has %s, want %s", w.Stream, n, want)
		}
		next[w.Stream]++
		positions = append(positions, w.Position)
	}
	if len(positions) != published || !slices.IsSortedFunc(positions, replay.Position.Compare) {
		t.Errorf("%d events of %d, or not in order", len(positions), published)
	}
}
