package consumer

import (
	"context"
	"time"

	"github.com/reservoirhq/reservoir/event"
)

// Store keeps where consumers are, their leases and their dead letters, and makes
// the transactions that handlers write in. SQLStore, RedisStore and what
// AtLeastOnce returns are Stores; there are no others.
type Store[Tx any] interface {
	keeper
	// begin opens a transaction that commits only while l is the last lease.
	begin(ctx context.Context, l lease) (transaction[Tx], error)
	// resolve removes a dead letter together with what handle writes, or returns
	// ErrNoDeadLetter. With a key, that is recorded; when it had been before handle
	// is not called. A nil handle writes nothing.
	resolve(ctx context.Context, r retrial, handle func(tx Tx) error) error
}

// retrial is a dead letter to be removed.
type retrial struct {
	consumer string
	letter   *DeadLetter
	key      string
	dedup    time.Duration
}

// keeper is what a Store does outside of handlers' transactions.
type keeper interface {
	leases
	members
	// load returns the checkpoint, or ErrFenced.
	load(ctx context.Context, l lease) (checkpoint, error)
	// fail records a failed attempt, or returns ErrFenced.
	fail(ctx context.Context, l lease, f failure) error
	// seek moves the position, and fences whoever has the lease.
	seek(ctx context.Context, p place, at checkpoint) error
	upkeep
}

// upkeep is what has nothing to do with a single stream.
type upkeep interface {
	// check returns ErrNotMigrated when tables are missing.
	check(ctx context.Context) error
	// letters returns the first dead letters.
	letters(ctx context.Context, consumer string, limit int) ([]DeadLetter, error)
	// seen reports for each of some keys whether an event of it was handled.
	seen(ctx context.Context, consumer string, keys []string) ([]bool, error)
	// prune forgets the keys of events that were handled longer than age ago, in
	// small steps.
	prune(ctx context.Context, consumer string, age time.Duration) error
}

// leases decide who works on a stream. Their time is the store's own clock.
type leases interface {
	// acquire takes the lease if it is free, has run out, or is the owner's.
	acquire(ctx context.Context, p place, owner string, ttl time.Duration) (lease, checkpoint, bool, error)
	// renew extends the lease, or returns ErrFenced.
	renew(ctx context.Context, l lease, ttl time.Duration) error
	// release lets others have the stream at once.
	release(ctx context.Context, l lease) error
}

// members are the processes that run a consumer.
type members interface {
	// join counts the owner in for a time, and returns how many there are.
	join(ctx context.Context, consumer, owner string, ttl time.Duration) (int, error)
	leave(ctx context.Context, consumer, owner string) error
}

// transaction is one of a Store. It is ended by commit or rollback.
type transaction[Tx any] interface {
	// next begins an event and gives what its handler writes to. A key is recorded
	// together with it.
	next(r *Record, key string) Tx
	// undo takes back the event that next began, if the store can do that without
	// the others.
	undo() bool
	deadLetter(ctx context.Context, d *DeadLetter) error
	// commit makes everything permanent together with the checkpoint, if that is
	// still the given one. After ErrFenced nothing is, nor after errTaken; after
	// another error it may be, now or later.
	commit(ctx context.Context, from, to checkpoint) error
	rollback() error
}

// place is what has a lease and a checkpoint.
type place struct{ consumer, stream string }

type lease struct {
	place
	owner string
	epoch int64
	ttl   time.Duration
	dedup time.Duration // how long keys of events are kept
}

// checkpoint is where a consumer is in a stream.
type checkpoint struct {
	set      bool // unset: the consumer has never been in this stream
	position event.ID
	// added is how many of the entries ever added are accounted for, -1 when that
	// is not known: see redisstream.Ledger.
	added int64
	// failed is the event beyond the position that has failed so far, if any.
	failed failure
}

// text is the position as stores keep it.
func (c *checkpoint) text() string {
	if !c.set {
		return ""
	}
	return c.position.String()
}

type failure struct {
	id       event.ID
	attempts int
	text     string
}
