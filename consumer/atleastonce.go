package consumer

import (
	"context"
	"errors"
)

// None is what handlers get for a transaction where there is none.
type None struct{}

// AtLeastOnce returns a Store for handlers that write elsewhere: positions, leases
// and dead letters are kept in s, and the position moves after the handlers are done.
// After a crash the events that were handled since the last commit, up to
// Config.Batch of them, are handled again: see Record.Key for how to tell. So may be
// copies of one event that are in hand in two streams at once.
func AtLeastOnce[Tx any](s Store[Tx]) Store[None] { return &atLeastOnce[Tx]{s, s} }

type atLeastOnce[Tx any] struct {
	keeper
	store Store[Tx]
}

func (s *atLeastOnce[Tx]) begin(_ context.Context, l lease) (transaction[None], error) {
	return &afterwards[Tx]{store: s.store, lease: l}, nil
}

func (s *atLeastOnce[Tx]) resolve(ctx context.Context, r retrial, handle func(None) error) error {
	if handle != nil {
		if err := handle(None{}); err != nil {
			return err
		}
		return s.store.resolve(ctx, r, func(Tx) error { return nil })
	}
	return s.store.resolve(ctx, r, nil)
}

// afterwards is a transaction that begins when it is to be committed.
type afterwards[Tx any] struct {
	store  Store[Tx]
	lease  lease
	events []keyed
	dead   []*DeadLetter
}

type keyed struct {
	record *Record
	key    string
}

func (t *afterwards[Tx]) next(r *Record, key string) None {
	t.events = append(t.events, keyed{r, key})
	return None{}
}

// undo forgets the event; what its handler has done elsewhere stays.
func (t *afterwards[Tx]) undo() bool {
	t.events = t.events[:len(t.events)-1]
	return true
}

func (t *afterwards[Tx]) deadLetter(_ context.Context, d *DeadLetter) error {
	t.dead = append(t.dead, d)
	return nil
}

func (t *afterwards[Tx]) rollback() error { return nil }

func (t *afterwards[Tx]) commit(ctx context.Context, from, to checkpoint) error {
	for try := 0; ; try++ {
		if err := t.commitUnseen(ctx, from, to); !errors.Is(err, errTaken) || try == maxWatchTries {
			return err
		}
	}
}

// commitUnseen records the keys that nobody has recorded meanwhile.
func (t *afterwards[Tx]) commitUnseen(ctx context.Context, from, to checkpoint) (err error) {
	var news []keyed
	var keys []string
	for _, e := range t.events {
		if e.key != "" {
			news, keys = append(news, e), append(keys, e.key)
		}
	}
	seen := make([]bool, len(keys))
	if len(keys) > 0 {
		if seen, err = t.store.seen(ctx, t.lease.consumer, keys); err != nil {
			return err
		}
	}
	tx, err := t.store.begin(ctx, t.lease)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tx.rollback()) }()
	for i, e := range news {
		if !seen[i] {
			tx.next(e.record, e.key)
		}
	}
	for _, d := range t.dead {
		if err := tx.deadLetter(ctx, d); err != nil {
			return err
		}
	}
	return tx.commit(ctx, from, to)
}
