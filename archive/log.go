package archive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/objectstore"
)

// Log is the commit log of one incarnation, loaded to its end, and the way to
// append to it. It is one writer's view: it learns of other writers' commits
// when an Append meets them, and by Refresh. It is not safe for concurrent use.
type Log struct {
	a           *Archive
	stream      string
	incarnation int
	pinned      bool    // never goes on to the next incarnation
	last        *Commit // without Adds and Removes; nil when there is none
	base        Seal    // of the incarnation before: where this one begins
	failed      error   // of the last Append; only Refresh leads out
	gone        *keySet // if pinned: what other writers have removed since it was loaded
}

// Log loads the log of the stream's current incarnation: the one that no seal
// ends. A stream that was never archived has the empty log of incarnation 1.
func (a *Archive) Log(ctx context.Context, stream string) (*Log, error) {
	if err := CheckStreamName(stream); err != nil {
		return nil, err
	}
	incarnation, err := a.newestIncarnation(ctx, stream)
	if err != nil {
		return nil, fmt.Errorf("load log of stream %q: %w", stream, err)
	}
	l := &Log{a: a, stream: stream, incarnation: max(incarnation, 1)}
	if err := l.load(ctx); err != nil {
		return nil, fmt.Errorf("load log of stream %q: %w", stream, err)
	}
	return l, nil
}

// logOf loads the log of that incarnation, sealed or not, and stays with it.
func (a *Archive) logOf(ctx context.Context, stream string, incarnation int) (*Log, error) {
	last, err := a.lastCommit(ctx, incarnationDir(stream, incarnation))
	if err != nil {
		return nil, fmt.Errorf("load log of stream %q: %w", stream, err)
	}
	return &Log{a: a, stream: stream, incarnation: incarnation, pinned: true, last: last}, nil
}

// load finds the end of the log, following seals.
func (l *Log) load(ctx context.Context) error {
	last, err := l.a.lastCommit(ctx, l.dir())
	if err != nil {
		return err
	}
	l.last = last
	if last == nil && l.incarnation > 1 {
		// Its beginning is only known from the seal before it.
		before, err := l.a.lastCommit(ctx, incarnationDir(l.stream, l.incarnation-1))
		if err != nil {
			return err
		}
		if before == nil || before.Seal == nil || before.Seal.Next != l.incarnation {
			return fmt.Errorf("%w: %s exists, but incarnation %d is not sealed", ErrDamaged, l.dir(), l.incarnation-1)
		}
		l.base = *before.Seal
	}
	return l.followSeals(ctx)
}

func (l *Log) followSeals(ctx context.Context) error {
	for l.last != nil && l.last.Seal != nil && !l.pinned {
		l.enter(*l.last.Seal)
		last, err := l.a.lastCommit(ctx, l.dir())
		if err != nil {
			return err
		}
		l.last = last
	}
	return nil
}

// enter goes over to the beginning of the next incarnation.
func (l *Log) enter(seal Seal) {
	l.incarnation, l.base, l.last = seal.Next, seal, nil
}

// Refresh brings the log to its end again, into the next incarnation if this
// one was sealed meanwhile. After a failed Append nothing else is allowed: the
// failed commit may have been written nevertheless, or, if the store was slow,
// may still be. Whoever starts again from the refreshed Head is safe in every
// case, because no second commit can take the same number.
func (l *Log) Refresh(ctx context.Context) error {
	for c, err := range l.a.commits(ctx, l.dir(), l.number(), 0) {
		if err != nil {
			return fmt.Errorf("refresh log of stream %q: %w", l.stream, err)
		}
		l.pass(c)
	}
	if err := l.followSeals(ctx); err != nil {
		return fmt.Errorf("refresh log of stream %q: %w", l.stream, err)
	}
	l.failed = nil
	return nil
}

// pass is advance over another writer's commit. Maintenance works through a view
// in many commits: what is removed meanwhile must not be removed once more.
func (l *Log) pass(c *Commit) {
	if l.pinned && len(c.Removes) > 0 {
		if l.gone == nil {
			l.gone = newKeySet()
		}
		for _, key := range c.Removes {
			l.gone.add(key)
		}
	}
	l.advance(c)
}

func (l *Log) advance(c *Commit) {
	stripped := *c
	stripped.Adds, stripped.Removes = nil, nil
	l.last = &stripped
}

// Stream returns the name of the stream.
func (l *Log) Stream() string { return l.stream }

// Incarnation returns the number of the incarnation, from 1.
func (l *Log) Incarnation() int { return l.incarnation }

// Last returns the last commit, without its Adds and Removes, or nil when the
// incarnation has none yet. Do not modify it.
func (l *Log) Last() *Commit { return l.last }

// Head returns the last ID that the log covers: where archiving goes on. In an
// incarnation without commits that is the Base of the seal before it, and 0-0
// in the first.
func (l *Log) Head() event.ID {
	if l.last == nil {
		return l.base.Base
	}
	return l.last.Head
}

// EntriesAdded returns Redis's count of all entries ever added with IDs up to
// Head, as it was committed.
func (l *Log) EntriesAdded() uint64 {
	if l.last == nil {
		return l.base.BaseEntriesAdded
	}
	return l.last.EntriesAdded
}

// HeadDigest returns event.Digest of the entry at Head, or "" if that is not known.
func (l *Log) HeadDigest() string {
	if l.last == nil {
		return l.base.BaseDigest
	}
	return l.last.HeadDigest
}

// Totals returns those of the incarnation.
func (l *Log) Totals() Totals {
	if l.last == nil {
		return Totals{}
	}
	return l.last.Totals
}

func (l *Log) number() uint64 {
	if l.last == nil {
		return 0
	}
	return l.last.Number
}

func (l *Log) dir() string { return incarnationDir(l.stream, l.incarnation) }

// lastCommit finds the end of a log without listing it: the newest snapshot,
// and from there one commit after the other; or from where it was found to be a moment
// ago. It returns nil for an empty log.
func (a *Archive) lastCommit(ctx context.Context, dir string) (*Commit, error) {
	last, since := a.recall(dir)
	if last == nil {
		var err error
		since = time.Now()
		if last, err = a.newestSnapshot(ctx, dir, 0); err != nil {
			return nil, err
		}
	}
	number := uint64(0)
	if last != nil {
		number = last.Number
	}
	for c, err := range a.commits(ctx, dir, number, 0) {
		if err != nil {
			return nil, err
		}
		c.Adds, c.Removes = nil, nil
		last = c
	}
	if last != nil {
		a.remember(dir, last, strippedSize, since)
	}
	return last, nil
}

// maxWindow is how many commits are fetched at once.
const maxWindow = 16

// commits gives the commits after one number, up to another, or (0) to the end.
func (a *Archive) commits(ctx context.Context, dir string, after, upTo uint64) iter.Seq2[*Commit, error] {
	return func(yield func(*Commit, error) bool) {
		for next, window := after+1, 1; upTo == 0 || next <= upTo; window = min(2*window, maxWindow) {
			for ; upTo == 0 || next <= upTo; next++ {
				c, _ := a.recall(dir + commitKey(next))
				if c == nil {
					break
				}
				if !yield(c, nil) {
					return
				}
			}
			size := window
			if upTo != 0 {
				size = int(min(uint64(maxWindow), upTo+1-next))
			}
			for _, r := range a.fetchCommits(ctx, dir, next, size) {
				if errors.Is(r.err, objectstore.ErrNotFound) && upTo == 0 {
					return
				}
				if r.err != nil {
					yield(nil, r.err)
					return
				}
				if !yield(r.commit, nil) {
					return
				}
				next++
			}
		}
	}
}

type fetched struct {
	commit *Commit
	err    error
}

// fetchCommits reads n commits from a number on, all at once.
func (a *Archive) fetchCommits(ctx context.Context, dir string, from uint64, n int) []fetched {
	results := make([]fetched, n)
	var wg sync.WaitGroup
	for i := range results {
		wg.Go(func() {
			r := &results[i]
			r.commit, r.err = a.commit(ctx, dir, from+uint64(i))
		})
	}
	wg.Wait()
	return results
}

// commit reads one commit; it wraps objectstore.ErrNotFound when there is none.
func (a *Archive) commit(ctx context.Context, dir string, number uint64) (*Commit, error) {
	key := dir + commitKey(number)
	body, err := a.read(ctx, key)
	if err != nil {
		return nil, err
	}
	var version struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(body, &version); err != nil {
		return nil, fmt.Errorf("%w: read commit %s: %w", ErrDamaged, key, err)
	}
	if version.Version > FormatVersion {
		return nil, &NewerVersionError{Object: key, Found: version.Version, Supported: FormatVersion}
	}
	c := &Commit{}
	if err := json.Unmarshal(body, c); err != nil {
		return nil, fmt.Errorf("%w: read commit %s: %w", ErrDamaged, key, err)
	}
	if c.Number != number {
		return nil, fmt.Errorf("%w: commit %s says it is number %d", ErrDamaged, key, c.Number)
	}
	a.remember(key, c, decodedSize*int64(len(body)), time.Now())
	return c, nil
}

// Incarnation is one life of a stream's key.
type Incarnation struct {
	Number int
	// Last is its last commit, without Adds and Removes; nil when there is none.
	Last *Commit
}

// Incarnations gives the incarnations of a stream, oldest first. The last one
// is the current one; a stream that was never archived has none.
func (a *Archive) Incarnations(ctx context.Context, stream string) iter.Seq2[Incarnation, error] {
	return func(yield func(Incarnation, error) bool) {
		if err := CheckStreamName(stream); err != nil {
			yield(Incarnation{}, err)
			return
		}
		for n := 1; ; {
			last, err := a.lastCommit(ctx, incarnationDir(stream, n))
			if err != nil {
				yield(Incarnation{}, fmt.Errorf("load log of stream %q: %w", stream, err))
				return
			}
			if last == nil && n == 1 || !yield(Incarnation{n, last}, nil) || last == nil || last.Seal == nil {
				return
			}
			n = last.Seal.Next
		}
	}
}
