package consumer

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// maxWatchTries is how often a transaction is begun again because a key has changed.
const maxWatchTries = 100

// redisTransaction gathers the commands of events and executes them at the end, in
// one transaction that watches the checkpoint's epoch.
type redisTransaction struct {
	store  *RedisStore
	lease  lease
	events []redisEvent
	dead   []*DeadLetter
}

// redisEvent is what the handler of one event wants done.
type redisEvent struct {
	record *Record
	seen   string // key that says that the event was handled; "" without deduplication
	pipe   redis.Pipeliner
}

func (t *redisTransaction) next(r *Record, key string) redis.Pipeliner {
	e := redisEvent{record: r, pipe: t.store.client.TxPipeline()}
	if key != "" {
		e.seen = t.store.seenKey(t.lease.consumer, key)
	}
	t.events = append(t.events, e)
	return e.pipe
}

func (t *redisTransaction) undo() bool {
	t.events = t.events[:len(t.events)-1]
	return true
}

func (t *redisTransaction) deadLetter(_ context.Context, d *DeadLetter) error {
	t.dead = append(t.dead, d)
	return nil
}

func (t *redisTransaction) rollback() error {
	t.events, t.dead = nil, nil
	return nil
}

// commit executes everything. Another stream's worker may have handled a copy of
// one of the events meanwhile: then that event is left out.
func (t *redisTransaction) commit(ctx context.Context, from, to checkpoint) error {
	keys := []string{t.store.atKey(t.lease.place)}
	for _, e := range t.events {
		if e.seen != "" {
			keys = append(keys, e.seen)
		}
	}
	for try := 0; ; try++ {
		err := t.store.client.Watch(ctx, func(tx *redis.Tx) error { return t.exec(ctx, tx, from, to) }, keys...)
		if errors.Is(err, redis.TxFailedErr) && try < maxWatchTries {
			continue // a key has changed: look again whether it was the epoch
		}
		if err != nil {
			return fmt.Errorf("commit position %s: %w", to.position, err)
		}
		return nil
	}
}

func (t *redisTransaction) exec(ctx context.Context, tx *redis.Tx, from, to checkpoint) error {
	look := tx.Pipeline()
	now := look.HMGet(ctx, t.store.atKey(t.lease.place), "epoch", "position")
	seen := make([]*redis.IntCmd, len(t.events))
	for i, e := range t.events {
		if e.seen != "" {
			seen[i] = look.Exists(ctx, e.seen)
		}
	}
	if _, err := look.Exec(ctx); err != nil {
		return err
	}
	if !isAt(now.Val(), t.lease, from) {
		return ErrFenced
	}
	var saved redis.Cmder
	var queued []redisEvent
	_, err := tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, e := range t.events {
			if seen[i] != nil && seen[i].Val() > 0 {
				continue
			}
			queued = append(queued, e)
			if err := e.queue(ctx, pipe, t.lease.dedup); err != nil {
				return err
			}
		}
		for _, d := range t.dead {
			addDeadLetter(ctx, pipe, t.store.DeadLetterStream(t.lease.consumer), d)
		}
		saved = setCheckpoint(ctx, pipe, t.store.atKey(t.lease.place), to)
		return nil
	})
	if err != nil && !errors.Is(err, redis.TxFailedErr) && saved != nil && saved.Err() == nil {
		return t.broken(ctx, queued) // executed, but for some commands
	}
	return err
}

// isAt compares an epoch and a position of Redis with what they should be.
func isAt(got []any, l lease, at checkpoint) bool {
	if len(got) != 2 || got[0] != strconv.FormatInt(l.epoch, 10) {
		return false
	}
	position, _ := got[1].(string) // "" for nil, where there is none
	return position == at.text()
}

// queue adds what the handler of the event wants done.
func (e *redisEvent) queue(ctx context.Context, pipe redis.Pipeliner, dedup time.Duration) error {
	for _, cmd := range e.pipe.Cmds() {
		cmd.SetErr(nil)
		if err := pipe.Process(ctx, cmd); err != nil {
			return err
		}
	}
	if e.seen != "" {
		pipe.Set(ctx, e.seen, "", dedup)
	}
	return nil
}

// failed returns the error of the first command that failed.
func (e *redisEvent) failed() error {
	for _, cmd := range e.pipe.Cmds() {
		if err := cmd.Err(); err != nil && !errors.Is(err, redis.Nil) {
			return fmt.Errorf("%s: %w", cmd.Name(), err)
		}
	}
	return nil
}

// broken writes dead letters for events of which commands failed while others,
// and the checkpoint, had their effect: too late to be in the same transaction.
func (t *redisTransaction) broken(ctx context.Context, events []redisEvent) error {
	var partly []*partlyError
	_, err := t.store.client.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, e := range events {
			err := e.failed()
			if err == nil {
				continue
			}
			p := &partlyError{e.record, err}
			partly = append(partly, p)
			addDeadLetter(ctx, pipe, t.store.DeadLetterStream(t.lease.consumer), deadLetterOf(e.record, p))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write dead letters of events that were applied in part: %w", err)
	}
	if len(partly) == 0 {
		return nil // a reply of nil counts as an error of the pipeline
	}
	return &partlyErrors{partly}
}

// partlyError says that a command of an event failed while its others did not.
type partlyError struct {
	record *Record
	err    error
}

func (e *partlyError) Error() string { return "applied in part: " + e.err.Error() }

func (e *partlyError) Unwrap() error { return e.err }

// partlyErrors is returned by commit when all is committed but for these commands,
// and the events are among the dead letters.
type partlyErrors struct{ events []*partlyError }

func (e *partlyErrors) Error() string {
	return fmt.Sprintf("%d events were applied in part, the first: %v", len(e.events), e.events[0])
}
