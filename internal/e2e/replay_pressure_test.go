package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/jobs"
)

// TestReplayBackPressure replays for a group that reads 500 entries a second:
// it is never behind by more than the bound and one batch.
func TestReplayBackPressure(t *testing.T) {
	t.Parallel()
	const bound, batch, perSecond = 700, 700, 500 // no batch is larger than the bound
	events := lighter(5000, 2)
	w := newFileWorld(t, stack.RedisOptions{})
	want := sell(t, w, events, nil)
	admin := w.admin(t)
	const target, group = "replayed", "readers"
	if err := admin.XGroupCreateMkStream(t.Context(), target, group, "$").Err(); err != nil {
		t.Fatal(err)
	}
	id := w.create(t, "--stream", "shop:*", "--into", "redis:"+target, "--group", group, "--max-lag", fmt.Sprint(bound))
	ctx, stop := context.WithCancel(t.Context())
	var group2 sync.WaitGroup
	var readErr, sampleErr error
	var most int64
	samples, began := 0, time.Now()
	group2.Go(func() { readErr = readSlowly(ctx, admin, target, group, perSecond) })
	group2.Go(func() { most, samples, sampleErr = mostLag(ctx, admin, target) })
	start(t, w.with(workerEnv), "worker")
	held := w.await(t, id, time.Minute, "held", func(j *jobs.Job) bool { return j.Progress.Holding != "" || j.State.Ended() })
	if !strings.Contains(held.Progress.Holding, "group readers of stream replayed is") {
		t.Errorf("the replay does not say why it holds:\n%s", describe(held))
	}
	w.awaitState(t, id, jobs.Succeeded, 2*time.Minute)
	took := time.Since(began)
	stop()
	group2.Wait()
	if err := errors.Join(readErr, sampleErr); err != nil {
		t.Fatal(err)
	}
	checkReplayed(t, admin, target, id, want)
	t.Logf("%d events in %v, the largest lag of %d samples is %d", events, took, samples, most)
	if most > bound+batch || most < bound/2 || samples < 100 {
		t.Errorf("the group was up to %d entries behind by %d samples, want at most %d", most, samples, bound+batch)
	}
	if least := time.Duration(events-bound-2*batch) * time.Second / perSecond; took < least {
		t.Errorf("the replay took %v, and the group must have taken %v", took, least)
	}
}

// readSlowly reads and acknowledges so many entries a second until ctx ends.
func readSlowly(ctx context.Context, c *redis.Client, stream, group string, perSecond int) error {
	const every = 50 * time.Millisecond
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		got, err := c.XReadGroup(ctx, &redis.XReadGroupArgs{
			Group: group, Consumer: "slow", Streams: []string{stream, ">"}, Block: -1,
			Count: int64(perSecond) * int64(every) / int64(time.Second),
		}).Result()
		if errors.Is(err, redis.Nil) {
			continue
		}
		if err != nil {
			return ended(ctx, err)
		}
		ids := make([]string, 0, len(got[0].Messages))
		for _, m := range got[0].Messages {
			ids = append(ids, m.ID)
		}
		if err := c.XAck(ctx, stream, group, ids...).Err(); err != nil {
			return ended(ctx, err)
		}
	}
}

// ended is err, unless it came with the end of ctx.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil //nolint:nilerr // it was to end
	}
	return err
}

// mostLag watches the lag of a stream's group until ctx ends.
func mostLag(ctx context.Context, c *redis.Client, stream string) (most int64, samples int, err error) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return most, samples, nil
		case <-tick.C:
		}
		groups, err := c.XInfoGroups(ctx, stream).Result()
		if err != nil {
			return most, samples, ended(ctx, err)
		}
		most = max(most, groups[0].Lag)
		samples++
	}
}
