package archive

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/reservoirhq/reservoir/objectstore"
)

// snapshotEvery is how many commits lie between two snapshots. Readers do not
// depend on it.
const snapshotEvery = 100

// readBackTimeout bounds looking whether a commit is there whose writing
// failed: it happens even when the caller's context has ended.
const readBackTimeout = 30 * time.Second

// Append makes c the next commit of the log and returns it as it was written.
// The caller fills Kind and, according to it, Head, HeadDigest, EntriesAdded,
// Adds, Gap or Seal; Append fills in the rest. EntriesAdded of zero keeps the
// last commit's, and so does the Head of a gap.
//
// When commits of other writers came first that only compacted, expired or
// erased, c takes the next number after them. Anything else that came first
// makes Append fail with ErrConflict. A commit of which the store's answer was
// lost is recognised as the own one.
//
// After any failure the Log is dead until Refresh, and the segments of c must
// not be deleted by the caller: with other errors than ErrConflict the commit
// may still come to be. Garbage collection takes care of them.
//
// After a seal the Log is that of the next incarnation.
func (l *Log) Append(ctx context.Context, c Commit) (*Commit, error) {
	if c.Kind != KindAppend && c.Kind != KindGap && c.Kind != KindSeal {
		return nil, fmt.Errorf("append to log of stream %q: commits of kind %q are made by Compact, Expire and their like", l.stream, c.Kind)
	}
	return l.commit(ctx, c, nil)
}

// commit is Append for every kind; removed are the segments that c.Removes names.
func (l *Log) commit(ctx context.Context, c Commit, removed []Segment) (*Commit, error) {
	if l.failed != nil {
		return nil, fmt.Errorf("append to log of stream %q: %w: %w", l.stream, ErrStale, l.failed)
	}
	written, err := l.tryCommit(ctx, c, removed)
	if err != nil {
		l.failed = err
		return nil, fmt.Errorf("append to log of stream %q: %w", l.stream, err)
	}
	if written.Number%l.a.snapshotEvery == 0 {
		if err := l.a.writeSnapshot(ctx, l.dir(), written.Number); err != nil {
			l.a.opts.Logger.Warn("snapshot not written; readers go on from an older one",
				"stream", l.stream, "commit", written.Number, "error", err)
		}
	}
	if written.Kind == KindSeal && !l.pinned {
		l.enter(*written.Seal)
	}
	return written, nil
}

func (l *Log) tryCommit(ctx context.Context, c Commit, removed []Segment) (*Commit, error) {
	if err := l.a.mark(ctx); err != nil {
		return nil, err
	}
	for i := range removed {
		if l.gone != nil && l.gone.has(removed[i].Key) {
			return nil, fmt.Errorf("%w: an earlier commit of another writer removed %s", ErrConflict, removed[i].Key)
		}
	}
	for {
		next, err := l.next(c, removed)
		if err != nil {
			return nil, err
		}
		winner, err := l.put(ctx, &next)
		if err != nil {
			return nil, err
		}
		if winner.Nonce == next.Nonce {
			l.advance(winner)
			return &next, nil
		}
		l.pass(winner)
		if err := conflict(&next, winner); err != nil {
			return nil, err
		}
	}
}

// next is c as the next commit of the log as it is known now.
func (l *Log) next(c Commit, removed []Segment) (Commit, error) {
	c.Version = FormatVersion
	c.Number = l.number() + 1
	c.Writer = l.a.opts.Writer
	c.Nonce = rand.Text()
	c.Time = l.a.opts.Clock().UTC()
	c.Prev = l.Head()
	if !c.Kind.movesHead() {
		c.Head, c.HeadDigest, c.EntriesAdded = l.Head(), l.HeadDigest(), l.EntriesAdded()
		if l.last != nil && c.Kind != KindSeal {
			c.Seal = l.last.Seal
		}
	} else {
		l.fillHead(&c)
	}
	if c.Removes = nil; len(removed) > 0 {
		c.Removes = make([]string, len(removed))
		for i := range removed {
			c.Removes[i] = removed[i].Key
		}
	}
	if l.last != nil && l.last.Seal != nil && c.Kind.extends() {
		return c, errors.New("the incarnation is sealed")
	}
	if err := c.validate(l.incarnation, l.EntriesAdded()); err != nil {
		return c, err
	}
	var err error
	c.Totals, err = l.Totals().after(&c, removed)
	return c, err
}

// fillHead completes the head of a commit that may move it.
func (l *Log) fillHead(c *Commit) {
	if c.EntriesAdded == 0 {
		c.EntriesAdded = l.EntriesAdded()
	}
	if c.Kind == KindGap && c.Head.IsZero() {
		c.Head = l.Head()
	}
	if c.Head == l.Head() {
		c.HeadDigest = l.HeadDigest()
	}
}

// put writes c, or returns the commit that has its number already.
func (l *Log) put(ctx context.Context, c *Commit) (*Commit, error) {
	body, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode commit %d: %w", c.Number, err)
	}
	_, putErr := l.a.store.Put(ctx, l.dir()+commitKey(c.Number), bytes.NewReader(append(body, '\n')), objectstore.IfAbsent)
	if putErr == nil {
		return c, nil
	}
	// Whatever went wrong, the commit may be there: only reading tells.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readBackTimeout)
	defer cancel()
	winner, err := l.a.commit(ctx, l.dir(), c.Number)
	switch {
	case err == nil:
		return winner, nil
	case errors.Is(err, objectstore.ErrNotFound):
		return nil, fmt.Errorf("write commit %d: %w", c.Number, putErr)
	default:
		return nil, fmt.Errorf("write commit %d: %w; and read it back: %w", c.Number, putErr, err)
	}
}

// conflict tells whether c still holds after winner, which took its number.
func conflict(c, winner *Commit) error {
	if c.Kind.extends() && winner.Kind.extends() {
		return fmt.Errorf("%w: commit %d (%s) of %s", ErrConflict, winner.Number, winner.Kind, winner.Writer)
	}
	if key, ok := commonKey(c.Removes, winner.Removes); ok {
		return fmt.Errorf("%w: commit %d (%s) of %s removed %s", ErrConflict, winner.Number, winner.Kind, winner.Writer, key)
	}
	return nil
}

func commonKey(a, b []string) (string, bool) {
	if len(a) == 0 || len(b) == 0 {
		return "", false
	}
	seen := make(map[string]struct{}, len(a))
	for _, key := range a {
		seen[key] = struct{}{}
	}
	for _, key := range b {
		if _, ok := seen[key]; ok {
			return key, true
		}
	}
	return "", false
}
