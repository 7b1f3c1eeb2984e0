package e2e_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// engineKeeper starts ClickHouse again whenever it is down, whether a test has killed it
// or not, and counts which it was.
type engineKeeper struct {
	downs atomic.Int64 // odd while ClickHouse is down
	alone atomic.Int64 // how often it ended without this test's doing
	asked atomic.Int64 // how often it was killed
}

// keepEngine keeps ClickHouse up until the test ends.
func (k *kitchen) keepEngine(t *testing.T) *engineKeeper {
	t.Helper()
	e := &engineKeeper{}
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		killed := int64(0)
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if k.ch.Pid() != 0 {
				continue
			}
			if n := e.asked.Load(); n > killed {
				killed = n
			} else {
				e.alone.Add(1)
			}
			e.downs.Add(1)
			if err := k.ch.Restart(ctx); err != nil && ctx.Err() == nil {
				t.Errorf("start ClickHouse again: %v", err)
				return
			}
			e.downs.Add(1)
		}
	})
	t.Cleanup(func() { cancel(); group.Wait() })
	return e
}

// kill kills ClickHouse, which is started again at once.
func (e *engineKeeper) kill(k *kitchen) error {
	e.asked.Add(1)
	return k.ch.Kill()
}
