package tail

import (
	"context"
	"errors"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/redisstream"
)

// readLive gives one batch from Redis. again says that there may be more, there
// or in the archive.
func (t *Tail) readLive(ctx context.Context, yield func(archive.Batch, error) bool) (again, more bool, err error) {
	snap, err := t.read(ctx)
	if errors.Is(err, redisstream.ErrNoStream) {
		return false, true, nil // not yet, or no longer: then its counters will tell
	}
	if err != nil {
		return false, false, err
	}
	if err := t.sameHistory(ctx, snap); err != nil {
		return false, false, err
	}
	ledger := t.ledger
	before, after, err := ledger.Observe(snap, &t.batch)
	if err != nil {
		return false, false, err
	}
	gone := before != nil || after != nil
	if !gone && t.batch.Len() > 0 {
		if gone, err = t.passed(ctx, snap); err != nil {
			return false, false, err
		}
	}
	if gone { // an archiver may have archived what it, or someone else, trimmed then
		archived, err := t.archivedFurther(ctx)
		if err != nil {
			return false, false, err
		}
		if archived {
			t.live = false
			return true, true, nil
		}
	}
	t.lost(before)
	t.ledger = ledger
	if n := t.batch.Len(); n > 0 {
		var last event.Event
		t.batch.Event(n-1, &last)
		t.digest = event.Digest(&last)
		t.position = last.ID
		out, err := t.wanted()
		if err != nil {
			return false, false, err
		}
		if out.Len() > 0 && !yield(archive.Batch{Incarnation: t.incarnation, Batch: out}, nil) {
			return false, false, nil
		}
	}
	t.lost(after)
	return !snap.AtEnd && !t.Done(), true, nil
}

func (t *Tail) read(ctx context.Context) (redisstream.Snapshot, error) {
	if t.reader == nil {
		reader, err := t.redis.Reader(ctx, t.spec.Stream, redisstream.ReaderOptions{Until: t.spec.Range.To})
		if err != nil {
			return redisstream.Snapshot{}, err
		}
		t.reader = reader
	}
	return t.reader.Read(ctx, t.position, &t.batch)
}

func (t *Tail) lost(l *redisstream.Loss) {
	if l != nil && t.spec.Lost != nil && t.spec.Range.Overlaps(l.After.Next(), l.UpTo) {
		t.spec.Lost(*l)
	}
}

// passed reports whether Redis may have trimmed entries after the position
// before the batch was read: then its first entry lies after the position.
func (t *Tail) passed(ctx context.Context, snap redisstream.Snapshot) (bool, error) {
	info := snap.Info
	if !snap.HasInfo { // what has not been trimmed by now had not been then
		var err error
		if info, err = t.redis.Info(ctx, t.spec.Stream); err != nil {
			return false, err
		}
	}
	return t.position.Less(info.FirstID), nil
}

// archivedFurther reports whether the archive goes beyond the position by now.
func (t *Tail) archivedFurther(ctx context.Context) (bool, error) {
	if err := t.loadLog(ctx); err != nil {
		return false, err
	}
	return t.incarnation < t.log.Incarnation() || t.position.Less(t.log.Head()), nil
}

// sameHistory makes sure that the entry that was read last is not another one by now:
// whenever it is the stream's last, and when Redis may be another one than at the last
// read. Then that it is not there, and Redis does not say why, tells as much.
func (t *Tail) sameHistory(ctx context.Context, snap redisstream.Snapshot) error {
	if t.digest != "" && snap.HasInfo && snap.Info.LastID == t.position && snap.Info.LastDigest != t.digest {
		return redisstream.ErrHistoryReplaced
	}
	if snap.Epoch == t.epoch {
		return nil
	}
	if t.digest != "" {
		info, digest, err := t.redis.InfoAt(ctx, t.spec.Stream, t.position)
		if err != nil {
			return err
		}
		if digest != t.digest && (digest != "" || !info.Explains(t.position)) {
			return redisstream.ErrHistoryReplaced
		}
	}
	t.epoch = snap.Epoch
	return nil
}

// wanted gives the events of the batch that the range and the filter select.
func (t *Tail) wanted() (*event.Batch, error) {
	from := t.spec.Range.From
	if after := t.spec.After; t.incarnation == t.spec.Incarnation && !after.Less(from) {
		from = after.Next() // what is live begins at the archive's head
	}
	if t.match == nil && !t.batch.ID(0).Less(from) {
		return &t.batch, nil // Reader has seen to the range's end
	}
	t.out.Reset()
	var e event.Event
	for i := range t.batch.Len() {
		if t.batch.ID(i).Less(from) {
			continue
		}
		t.batch.Event(i, &e)
		if t.match != nil {
			ok, err := t.match.event(&e)
			if err != nil {
				return nil, err
			}
			if !ok {
				continue
			}
		}
		t.out.Append(&e)
	}
	return &t.out, nil
}

// matching applies a filter to live events.
type matching struct {
	filter    *event.Matcher
	extractor *event.Extractor
	envelope  event.Envelope
}

func (m *matching) event(e *event.Event) (bool, error) {
	m.extractor.Extract(e, &m.envelope)
	return m.filter.Match(e, &m.envelope)
}
