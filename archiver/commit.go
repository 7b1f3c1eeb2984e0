package archiver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/redisstream"
)

// commit appends to a stream's log, and counts what that did.
func (a *Archiver) commit(ctx context.Context, st *stream, c archive.Commit) error {
	written, err := st.log.Append(ctx, c)
	if errors.Is(err, archive.ErrConflict) {
		a.metrics.conflicts.Inc()
	}
	if err != nil {
		return fmt.Errorf("archive %s: %w", st.name, err)
	}
	a.metrics.commits.WithLabelValues(string(c.Kind)).Inc()
	a.progress.commits.Add(1)
	for i, s := range c.Adds {
		a.metrics.stored.Add(float64(s.Bytes))
		a.progress.storedBytes.Add(s.Bytes)
		if i == 0 {
			a.metrics.events.Add(float64(s.Count))
			a.metrics.rawBytes.Add(float64(s.Raw))
			a.progress.events.Add(s.Count)
			a.progress.rawBytes.Add(s.Raw)
		}
	}
	if g := c.Gap; g != nil {
		a.metrics.gaps.WithLabelValues(streamLabel(st.name), string(g.Cause)).Inc()
		a.metrics.lost.WithLabelValues(streamLabel(st.name), string(g.Cause)).Add(float64(g.Lost))
		a.progress.gaps.Add(1)
		a.progress.lost.Add(g.Lost)
	}
	a.log.Debug("committed", "stream", st.name, "kind", c.Kind, "number", written.Number, "head", written.Head)
	return nil
}

// commitGap records a loss. The head moves over it when the loss reaches beyond
// what is archived; a loss in the midst of archived entries leaves it.
func (a *Archiver) commitGap(ctx context.Context, st *stream, loss *redisstream.Loss) error {
	if loss.Lost > 0 {
		a.log.Error("entries were lost before they could be archived", "stream", st.name,
			"lost", loss.Lost, "exact", loss.Exact, "cause", loss.Cause, "after", loss.After, "up_to", loss.UpTo)
	} else {
		a.log.Warn("a stream is gone from Redis, with what it held beyond the archive's head, if anything", "stream", st.name, "head", loss.After)
	}
	c := archive.Commit{
		Kind: archive.KindGap, Head: st.log.Head(), HeadDigest: st.log.HeadDigest(), EntriesAdded: loss.Added,
		Gap: gapOf(loss),
	}
	again := loss.Cause == redisstream.CauseFailover || loss.Cause == redisstream.CauseRemoved
	if c.Head.Less(loss.UpTo) && !again {
		c.Head, c.HeadDigest = loss.UpTo, ""
	}
	return a.commit(ctx, st, c)
}

func gapOf(loss *redisstream.Loss) *archive.Gap {
	return &archive.Gap{After: loss.After, UpTo: loss.UpTo, Lost: loss.Lost, Exact: loss.Exact, Cause: archive.GapCause(loss.Cause)}
}

// afterDrain is what may follow commits: the mirror group and trimming. Neither
// matters to the archive; a failure is an error of the drain nevertheless.
func (a *Archiver) afterDrain(ctx context.Context, st *stream) error {
	head := st.log.Head()
	if head.IsZero() {
		return nil
	}
	select {
	case <-ctx.Done():
		return nil
	default:
	}
	if a.opts.Group != "" {
		if err := a.redis.MirrorHead(ctx, st.name, a.opts.Group, head, st.log.EntriesAdded()); err != nil {
			return fmt.Errorf("mirror the head of %s: %w", st.name, err)
		}
	}
	if !a.opts.Trim.Enabled {
		return nil
	}
	trimmed, err := a.redis.Trim(ctx, st.name, redisstream.TrimSpec{CommittedHead: head, RetainFor: a.opts.Trim.Retain})
	a.metrics.trimmed.Add(float64(trimmed))
	if err != nil {
		return fmt.Errorf("trim %s: %w", st.name, err)
	}
	return nil
}

// observeLag shows how far the archive is behind a stream.
func (a *Archiver) observeLag(st *stream, now time.Time) {
	pending := st.pending()
	a.progress.pending.Add(pending - st.counted) // may wrap around, which adds up
	st.counted = pending
	a.metrics.lag.WithLabelValues(streamLabel(st.name)).Set(float64(pending))
	waiting := 0.0
	if !st.pendingSince.IsZero() {
		waiting = now.Sub(st.pendingSince).Seconds()
	}
	a.metrics.lagTime.WithLabelValues(streamLabel(st.name)).Set(waiting)
}
