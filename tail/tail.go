// Package tail reads a stream as one: first what the archive holds of it, then
// what Redis holds beyond the archive's head, and what comes after that. At the
// seam no event is missing and none comes twice, also while an archiver goes on
// archiving and trimming.
package tail

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/redisstream"
)

// ErrPlace is wrapped where Spec.Incarnation is one that the stream never had.
var ErrPlace = errors.New("the stream has no such incarnation")

// Spec says what to read.
type Spec struct {
	Stream string
	Range  event.Range
	// Incarnation and After are a place to begin behind, within the range: what
	// was read by then. Incarnation 0 is the beginning.
	Incarnation int
	After       event.ID
	// Filter selects events; nil means all.
	Filter *event.Matcher
	// Mapping is where Filter finds the envelopes of live events: the archive's.
	Mapping event.Mapping
	// Format is what is read of the archive, as in archive.PlanSpec.
	Format archive.Format
	// Planned is called with every plan before it is read; nil: nobody is told.
	Planned func(context.Context, *archive.Plan) error
	// Lost is called for every loss that shows in the live stream; those that the
	// archive recorded are in its plans.
	Lost func(redisstream.Loss)
}

// Tail is a position in one stream. It is not safe for concurrent use; Close it.
type Tail struct {
	arch  *archive.Archive
	redis *redisstream.Client // nil: the archive only
	spec  Spec

	log         *archive.Log
	begun       bool
	incarnation int // what was read up to
	position    event.ID

	reader *redisstream.Reader
	ledger redisstream.Ledger
	epoch  uint64
	digest string // of the entry at position, "" when not known
	live   bool   // position and ledger are at least at the log's head
	batch  event.Batch
	out    event.Batch
	match  *matching
}

// New returns a Tail at the beginning of spec's range, or behind its After. Without redis it reads
// the archive only.
func New(arch *archive.Archive, redis *redisstream.Client, spec Spec) *Tail {
	t := &Tail{arch: arch, redis: redis, spec: spec, incarnation: 1}
	if spec.Incarnation > 0 {
		t.begun, t.incarnation, t.position = true, spec.Incarnation, spec.After
	}
	if spec.Filter != nil {
		t.match = &matching{filter: spec.Filter, extractor: spec.Mapping.Extractor()}
	}
	return t
}

// Close gives the connection to Redis back, if there is one.
func (t *Tail) Close() {
	if t.reader != nil {
		t.reader.Close()
		t.reader = nil
	}
}

// Place gives what was read up to, for Spec.Incarnation and Spec.After of a Tail that goes
// on there. It is asked for between calls of Batches.
func (t *Tail) Place() (incarnation int, after event.ID) { return t.incarnation, t.position }

// Done reports whether the range ends at or before what was read: nothing will
// come any more.
func (t *Tail) Done() bool {
	to := t.spec.Range.To
	return !to.IsZero() && !t.position.Less(to)
}

// Batches gives what there is beyond the position, up to the end that the
// stream has when it gets there, and moves the position. Calling it again gives
// what has come since. A batch is valid until the next step, and counts as read
// when it has been given.
//
// redisstream.ErrHistoryReplaced is wrapped when the stream in Redis is no
// longer the one that was read: it was deleted and made anew, or failed over.
// Once that is archived, a new Tail reads on. After errors that may pass
// (redisstream.ErrUnreachable, ErrLoading) the same Tail can be asked again.
func (t *Tail) Batches(ctx context.Context) iter.Seq2[archive.Batch, error] {
	return func(yield func(archive.Batch, error) bool) {
		for again := true; again; {
			if !t.live {
				if more, err := t.readArchive(ctx, yield); err != nil || !more {
					t.fail(err, yield)
					return
				}
			}
			if t.redis == nil || t.Done() {
				return
			}
			var more bool
			var err error
			if again, more, err = t.readLive(ctx, yield); err != nil || !more {
				t.fail(err, yield)
				return
			}
		}
	}
}

func (t *Tail) fail(err error, yield func(archive.Batch, error) bool) {
	if err != nil {
		yield(archive.Batch{}, fmt.Errorf("read stream %q: %w", t.spec.Stream, err))
	}
}

// loadLog brings the log to its end.
func (t *Tail) loadLog(ctx context.Context) (err error) {
	if t.log != nil {
		return t.log.Refresh(ctx)
	}
	t.log, err = t.arch.Log(ctx, t.spec.Stream)
	return err
}

// readArchive gives what lies between the position and the log's head, and
// takes the head for the position.
func (t *Tail) readArchive(ctx context.Context, yield func(archive.Batch, error) bool) (more bool, err error) {
	for before := (mark{}); ; before = t.mark() {
		more, err = t.readPlans(ctx, yield)
		if !errors.Is(err, archive.ErrSegmentGone) || before == t.mark() {
			break // or else: compacted or expired meanwhile, plan anew from here
		}
	}
	if err != nil || !more {
		return more, err
	}
	t.position, t.digest = t.log.Head(), t.log.HeadDigest()
	t.ledger = redisstream.Ledger{Position: t.position, Added: t.log.EntriesAdded()}
	t.live = true
	t.epoch = 0
	return true, nil
}

// mark tells whether anything was read since another one.
type mark struct {
	incarnation int
	position    event.ID
}

func (t *Tail) mark() mark { return mark{t.incarnation, t.position} }

// readPlans makes one plan of everything, and then, incarnation by incarnation,
// plans of what has been archived since.
func (t *Tail) readPlans(ctx context.Context, yield func(archive.Batch, error) bool) (more bool, err error) {
	if !t.begun {
		t.begun = true
		if more, err := t.readPlan(ctx, 0, event.Range{}, yield); err != nil || !more {
			return more, err
		}
	}
	if err := t.loadLog(ctx); err != nil {
		return false, err
	}
	if t.incarnation > t.log.Incarnation() {
		return false, fmt.Errorf("%w: %d, and the last one is %d", ErrPlace, t.incarnation, t.log.Incarnation())
	}
	for {
		r := event.Range{}
		if !t.position.IsZero() {
			r.From = t.position.Next()
		}
		current := t.log.Incarnation()
		if t.incarnation == current {
			if r.To = t.log.Head(); !t.position.Less(r.To) {
				return true, nil // nothing was archived since
			}
		}
		if more, err := t.readPlan(ctx, t.incarnation, r, yield); err != nil || !more {
			return more, err
		}
		if t.incarnation == current {
			return true, nil
		}
		t.incarnation++
		t.position = event.ID{}
	}
}

// readPlan reads one incarnation, or all for 0, and leaves the position at the
// end of what was planned.
func (t *Tail) readPlan(ctx context.Context, incarnation int, r event.Range, yield func(archive.Batch, error) bool) (more bool, err error) {
	if r = r.Intersect(t.spec.Range); r.IsEmpty() {
		return true, nil
	}
	plan, err := t.arch.Plan(ctx, archive.PlanSpec{
		Stream: t.spec.Stream, Incarnation: incarnation, Range: r, Filter: t.spec.Filter, Format: t.spec.Format,
	})
	if err != nil {
		return false, err
	}
	if t.spec.Planned != nil {
		if err := t.spec.Planned(ctx, plan); err != nil {
			return false, err
		}
	}
	for b, err := range plan.Batches(ctx) {
		if err != nil {
			return false, err
		}
		if b.Len() == 0 {
			continue
		}
		t.incarnation, t.position = b.Incarnation, b.ID(b.Len()-1)
		if !yield(b, nil) {
			return false, nil
		}
	}
	if n := len(plan.Views); n > 0 {
		t.incarnation, t.position = plan.Views[n-1].Incarnation, plan.Views[n-1].Head
	}
	return true, nil
}
