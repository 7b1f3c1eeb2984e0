package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

// readers query tables by their names all the while, as people do who know nothing
// of rebuilds.
type readers struct {
	k      *kitchen
	mu     sync.Mutex
	looks  int
	lag    map[string]time.Duration // the most that was seen
	errs   []error
	cancel context.CancelFunc
	group  sync.WaitGroup
}

// reading begins to query each of the tables. downs is odd while ClickHouse is down, and
// then grows; nil: it never is.
func (k *kitchen) reading(t *testing.T, every time.Duration, downs func() int64, names ...string) *readers {
	t.Helper()
	if downs == nil {
		downs = func() int64 { return 0 }
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &readers{k: k, lag: map[string]time.Duration{}, cancel: cancel}
	for _, name := range names {
		r.group.Go(func() { r.read(ctx, name, every, downs) })
	}
	t.Cleanup(func() { r.cancel(); r.group.Wait() })
	return r
}

// read queries one table: what it is made of must be exact, and never less than it
// was the time before.
func (r *readers) read(ctx context.Context, name string, every time.Duration, downs func() int64) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	last := map[string]int{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		began, before := time.Now(), downs()
		at, err := r.k.exact(context.WithoutCancel(ctx), name, name)
		if errors.Is(err, errLook) {
			<-time.After(200 * time.Millisecond) // a reader may know before who starts it again
		}
		if errors.Is(err, errLook) && (before%2 == 1 || downs() != before) {
			continue
		}
		r.mu.Lock()
		r.looks++
		if err != nil {
			r.errs = append(r.errs, err)
		}
		worst := time.Duration(0)
		for _, lane := range laneNames {
			if err != nil {
				break
			}
			if at[lane] < last[lane] {
				r.errs = append(r.errs, fmt.Errorf("%s went back from %d to %d events of %s", name, last[lane], at[lane], lane))
			}
			worst = max(worst, r.k.age(lane, at[lane], began))
		}
		r.lag[name] = max(r.lag[name], worst)
		r.mu.Unlock()
		if err == nil {
			last = at
		}
	}
}

// stop ends the readers, and wants that nothing was ever wrong.
func (r *readers) stop(t *testing.T) {
	t.Helper()
	r.cancel()
	r.group.Wait()
	for i, err := range r.errs {
		if i == 5 {
			t.Errorf("and %d more", len(r.errs)-i)
			break
		}
		t.Error(err)
	}
	if r.looks == 0 {
		t.Error("no reader read anything")
	}
}
