package e2e_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// engineKeeper kills ClickHouse and starts it again, and knows exactly when it is down.
// That it ends by itself is an error, which says how it did.
type engineKeeper struct {
	k     *kitchen
	downs atomic.Int64 // odd while ClickHouse is down
	mu    sync.Mutex   // held while it is
}

// keepEngine watches ClickHouse until the test ends.
func (k *kitchen) keepEngine(t *testing.T) *engineKeeper {
	t.Helper()
	e := &engineKeeper{k: k}
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if err := e.look(ctx); err != nil {
				t.Error(err)
				return
			}
		}
	})
	t.Cleanup(func() { cancel(); group.Wait() })
	return e
}

// look starts a ClickHouse again that has ended by itself, and says how it did.
func (e *engineKeeper) look(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	how := e.k.ch.Ended()
	if how == "" {
		return nil
	}
	e.downs.Add(1)
	err := e.k.ch.Restart(ctx)
	e.downs.Add(1)
	return errors.Join(errors.New(how), err)
}

// kill kills ClickHouse, calls then, and starts it again.
func (e *engineKeeper) kill(ctx context.Context, then func()) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.downs.Add(1)
	defer e.downs.Add(1)
	if err := e.k.ch.Kill(); err != nil {
		return err
	}
	then()
	return e.k.ch.Restart(ctx)
}
