package consumer

import (
	"context"
	"errors"
	"time"
)

// item is an event in hand, its handler, and where the consumer is after it.
type item[Tx any] struct {
	record  *Record
	handler Handler[Tx]
	at      checkpoint
}

// handleBatch handles the events of the batch that have a handler, in order.
func (w *worker[Tx]) handleBatch(reading, hands context.Context) error {
	n := w.batch.Len()
	var todo []item[Tx]
	for i := range n {
		handler := w.cfg.Mux.find(w.records.look(&w.batch, i))
		if handler == nil {
			w.gauges.skipped()
			continue
		}
		at := checkpoint{set: true, position: w.batch.ID(i), added: -1}
		if w.known {
			at.added = int64(w.ledger.AddedAt(n - 1 - i))
		}
		todo = append(todo, item[Tx]{w.records.record(), handler, at})
		if len(todo) == w.cfg.Batch {
			if err := w.handle(reading, hands, todo); err != nil {
				return err
			}
			clear(todo)
			todo = todo[:0]
		}
	}
	return w.handle(reading, hands, todo)
}

// handle gets events committed, or put among the dead letters, whatever their
// handlers say. An error means that there is no going on: the end, another worker,
// or a store that cannot be reached.
func (w *worker[Tx]) handle(reading, hands context.Context, todo []item[Tx]) error {
	for len(todo) > 0 {
		if err := reading.Err(); err != nil {
			return err
		}
		if first := todo[0]; w.at.failed.attempts > 0 && w.at.failed.id == first.record.ID {
			if err := w.insist(reading, hands, first, nil); err != nil { // where another worker stopped
				return err
			}
			todo = todo[1:]
			continue
		}
		out, err := w.attempt(reading, hands, todo)
		if err != nil {
			return err
		}
		if out.failed == nil {
			todo = todo[out.committed:]
			continue
		}
		if out.together > 1 {
			for i := range out.together {
				if err := w.handle(reading, hands, todo[i:i+1]); err != nil {
					return err
				}
			}
			todo = todo[out.together:]
			continue
		}
		bad := todo[out.bad]
		if err := w.handle(reading, hands, todo[out.committed:out.bad]); err != nil {
			return err
		}
		if err := w.insist(reading, hands, bad, out.failed); err != nil {
			return err
		}
		todo = todo[out.bad+1:]
	}
	return nil
}

// insist tries an event that has failed alone, again and again.
func (w *worker[Tx]) insist(reading, hands context.Context, it item[Tx], failed error) error {
	attempts := 0
	if w.at.failed.id == it.record.ID {
		attempts = w.at.failed.attempts
	}
	for {
		if failed != nil {
			attempts++
			it.record.Attempt = attempts
			w.gauges.failed()
			if isPermanent(failed) || attempts >= w.cfg.Retry.Attempts {
				return w.bury(hands, it, failed)
			}
			if err := w.postpone(reading, hands, it.record, attempts, failed); err != nil {
				return err
			}
		}
		it.record.Attempt = attempts + 1
		out, err := w.attempt(reading, hands, []item[Tx]{it})
		if err != nil {
			return err
		}
		if out.failed == nil {
			return nil
		}
		failed = out.failed
	}
}

// postpone records a failed attempt and waits.
func (w *worker[Tx]) postpone(reading, hands context.Context, r *Record, attempts int, failed error) error {
	wait := backoff(w.cfg.Retry, attempts)
	w.cfg.Logger.Warn("handler failed, will try again", "consumer", w.lease.consumer, "stream", r.Stream, "id", r.ID,
		"type", r.Type, "attempt", attempts, "wait", wait, "error", failed)
	f := failure{r.ID, attempts, failed.Error()}
	if err := w.cfg.Store.fail(hands, w.lease, f); err != nil {
		return err
	}
	w.at.failed = f
	return sleep(reading, wait)
}

// bury puts an event among the dead letters.
func (w *worker[Tx]) bury(hands context.Context, it item[Tx], failed error) error {
	r := it.record
	if err := w.commit(hands, it.at, deadLetterOf(r, failed)); err != nil {
		return err
	}
	w.cfg.Logger.Error("event goes to the dead letters", "consumer", w.lease.consumer, "stream", r.Stream, "id", r.ID,
		"type", r.Type, "attempts", r.Attempt, "error", failed)
	return nil
}

// outcome is what became of some events.
type outcome struct {
	committed int   // so many of the first are done
	bad       int   // the one that failed
	failed    error // how; nil when none did
	together  int   // so many of the first could not be committed: which of them is at fault is not known
}

// attempt handles events in one transaction, but for those that were handled before.
func (w *worker[Tx]) attempt(reading, hands context.Context, todo []item[Tx]) (out outcome, err error) {
	for try := 0; ; try++ {
		again, err := w.duplicates(hands, todo)
		if err != nil {
			return outcome{}, err
		}
		out, err := w.transact(reading, hands, todo, again)
		if !errors.Is(err, errTaken) || try == maxWatchTries {
			return out, err
		}
	}
}

// duplicates tells which of the events have a key that was recorded, or that another
// one before them has.
func (w *worker[Tx]) duplicates(ctx context.Context, todo []item[Tx]) ([]bool, error) {
	if w.cfg.Deduplicate == 0 {
		return make([]bool, len(todo)), nil
	}
	keys, before := make([]string, len(todo)), map[string]bool{}
	for i, it := range todo {
		keys[i] = it.record.Key()
	}
	again, err := w.cfg.Store.seen(ctx, w.lease.consumer, keys)
	if err != nil {
		return nil, err
	}
	for i, key := range keys {
		again[i] = again[i] || before[key]
		before[key] = true
	}
	return again, nil
}

// transact handles the events in one transaction. When reading has ended it stops
// after the event in hand, and commits what is done.
func (w *worker[Tx]) transact(reading, hands context.Context, todo []item[Tx], again []bool) (out outcome, err error) {
	tx, err := w.cfg.Store.begin(hands, w.lease)
	if err != nil {
		return outcome{}, err
	}
	defer func() { err = errors.Join(err, tx.rollback()) }()
	began := time.Now()
	handled := 0
	for i, it := range todo {
		if i > 0 && reading.Err() != nil {
			todo = todo[:i]
			break
		}
		if again[i] {
			continue
		}
		key := ""
		if w.cfg.Deduplicate > 0 {
			key = it.record.Key()
		}
		if err := w.call(hands, tx.next(it.record, key), it); err != nil {
			if hands.Err() != nil {
				return outcome{}, context.Cause(hands)
			}
			out = outcome{bad: i, failed: err}
			if !tx.undo() || i == 0 {
				return out, nil
			}
			todo = todo[:i]
			break
		}
		handled++
	}
	failed, err := w.settle(hands, tx, todo[len(todo)-1].at)
	if err != nil {
		return outcome{}, err
	}
	if failed != nil {
		return outcome{failed: failed, together: len(todo)}, nil
	}
	w.gauges.handled(handled, len(todo)-handled, time.Since(began))
	out.committed = len(todo)
	return out, nil
}

// call runs the handler.
func (c *Consumer[Tx]) call(ctx context.Context, tx Tx, it item[Tx]) (err error) {
	ctx, end := c.span(ctx, it.record)
	defer func() { end(err) }()
	defer recovered(&err)
	return it.handler(ctx, tx, it.record)
}

// commit moves the position, with a dead letter if there is one.
func (w *worker[Tx]) commit(ctx context.Context, to checkpoint, dead *DeadLetter) (err error) {
	tx, err := w.cfg.Store.begin(ctx, w.lease)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tx.rollback()) }()
	if dead != nil {
		if err := tx.deadLetter(ctx, dead); err != nil {
			return err
		}
	}
	failed, err := w.settle(ctx, tx, to)
	if err == nil && failed == nil && dead != nil {
		w.gauges.dead(1)
	}
	return errors.Join(failed, err)
}

// settle commits a transaction, and finds out what happened when that fails. With
// failed nothing is committed, and trying again makes sense; it is not known to with
// err.
func (w *worker[Tx]) settle(ctx context.Context, tx transaction[Tx], to checkpoint) (failed, err error) {
	err = tx.commit(ctx, w.at, to)
	if partly, ok := errors.AsType[*partlyErrors](err); ok {
		for _, p := range partly.events {
			w.cfg.Logger.Error("event was applied in part and goes to the dead letters", "consumer", w.lease.consumer,
				"stream", p.record.Stream, "id", p.record.ID, "type", p.record.Type, "error", p.err)
		}
		w.gauges.dead(len(partly.events))
		err = nil
	}
	if err == nil {
		w.at, w.moved, w.savedAt = to, true, time.Now()
		return nil, nil
	}
	if errors.Is(err, ErrFenced) || errors.Is(err, errTaken) {
		return nil, err
	}
	if rollbackErr := tx.rollback(); rollbackErr != nil {
		return nil, errors.Join(err, rollbackErr)
	}
	now, loadErr := w.cfg.Store.load(ctx, w.lease)
	switch {
	case loadErr != nil:
		return nil, errors.Join(err, loadErr)
	case now.text() == w.at.text():
		return err, nil
	case now.text() == to.text(): // only the answer was lost
		w.at, w.moved, w.savedAt = to, true, time.Now()
		return nil, nil
	default:
		return nil, err
	}
}
