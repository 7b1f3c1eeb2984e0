package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/reservoirhq/reservoir/event"
)

// CompactSpec says what to compact.
type CompactSpec struct {
	Stream string
	// TargetBytes and TargetEvents bound a compacted segment; default 128 MiB
	// of the larger format and 1,000,000 events. Segments of half of either are
	// left alone.
	TargetBytes  int64
	TargetEvents uint64
	// MinAge leaves events alone that are younger, by the milliseconds of their IDs.
	MinAge time.Duration
	// Progress is called after every commit.
	Progress func(CompactReport)
}

// CompactReport counts what was compacted.
type CompactReport struct {
	Commits uint64 `json:"commits"`
	Before  uint64 `json:"segments_before"`
	After   uint64 `json:"segments_after"`
	Events  uint64 `json:"events"`
	Bytes   int64  `json:"bytes_before"`
	NewSize int64  `json:"bytes_after"`
	// Skipped counts the merges that another writer's commit made pointless.
	Skipped uint64 `json:"skipped"`
}

// maxMerged bounds the spans that one commit replaces.
const maxMerged = 1000

// Compact merges neighbouring small segments of the same hour into one per
// format, without changing an event: what it reads is checked against the
// commits first, and what it has written is counted. Memory does not depend on
// the size of segments. Each merge is one commit; running Compact again after a
// failure goes on.
func (a *Archive) Compact(ctx context.Context, spec CompactSpec) (CompactReport, error) {
	if spec.TargetBytes <= 0 {
		spec.TargetBytes = 128 << 20
	}
	if spec.TargetEvents == 0 {
		spec.TargetEvents = 1_000_000
	}
	c := &compaction{a: a, spec: spec, youngest: a.opts.Clock().Add(-spec.MinAge)}
	err := a.eachIncarnation(ctx, spec.Stream, func(l *Log) error { return c.run(ctx, l) })
	if err != nil {
		return c.report, fmt.Errorf("compact stream %q: %w", spec.Stream, err)
	}
	return c.report, nil
}

type compaction struct {
	a        *Archive
	spec     CompactSpec
	youngest time.Time
	report   CompactReport
}

func (c *compaction) run(ctx context.Context, l *Log) error {
	v, err := c.a.view(ctx, l.dir(), l.number())
	if err != nil {
		return err
	}
	var group []*Span
	merge := func() error {
		defer func() { group = nil }()
		if len(group) < 2 {
			return nil
		}
		return c.merge(ctx, l, group)
	}
	for s, err := range v.spans(ctx) {
		if err != nil {
			return err
		}
		if !c.joins(group, s) {
			if err := merge(); err != nil {
				return err
			}
		}
		if c.small(s) {
			group = append(group, s)
		}
	}
	return merge()
}

// small reports whether a span is worth merging at all.
func (c *compaction) small(s *Span) bool {
	if c.spec.MinAge > 0 && int64(min(s.Last.Ms, 1<<62)) > c.youngest.UnixMilli() {
		return false
	}
	return size(s) <= c.spec.TargetBytes/2 && s.Count() <= c.spec.TargetEvents/2
}

func size(s *Span) int64 {
	var largest int64
	for _, seg := range s.Segments {
		largest = max(largest, seg.Bytes)
	}
	return largest
}

// joins reports whether s can become part of the group.
func (c *compaction) joins(group []*Span, s *Span) bool {
	if len(group) == 0 {
		return true
	}
	first := group[0]
	if !c.small(s) || len(group) == maxMerged || Hour(first.First) != Hour(s.First) || first.formats() != s.formats() {
		return false
	}
	bytes, count := size(s), s.Count()
	for _, g := range group {
		bytes += size(g)
		count += g.Count()
	}
	return bytes <= c.spec.TargetBytes && count <= c.spec.TargetEvents
}

// merge writes the group's events anew and commits them in place of the group.
func (c *compaction) merge(ctx context.Context, l *Log, group []*Span) error {
	merged, err := c.write(ctx, l, group)
	if errors.Is(err, ErrSegmentGone) {
		c.report.Skipped++ // expired or compacted by another, and collected
		return nil
	}
	if err != nil {
		return err
	}
	var removed []Segment
	for _, s := range group {
		removed = append(removed, s.Segments...)
	}
	_, err = l.commit(ctx, Commit{Kind: KindCompact, Adds: merged}, removed)
	if errors.Is(err, ErrConflict) {
		c.report.Skipped++
		return l.Refresh(ctx)
	}
	if err != nil {
		return err
	}
	c.count(removed, merged)
	return nil
}

func (c *compaction) count(removed, merged []Segment) {
	r := &c.report
	r.Commits++
	r.Before += uint64(len(removed))
	r.After += uint64(len(merged))
	r.Events += merged[0].Count
	for _, s := range removed {
		r.Bytes += s.Bytes
	}
	for _, s := range merged {
		r.NewSize += s.Bytes
	}
	if c.spec.Progress != nil {
		c.spec.Progress(*r)
	}
}

// write copies the events of a group into one new segment per format.
func (c *compaction) write(ctx context.Context, l *Log, group []*Span) ([]Segment, error) {
	var formats []Format
	for _, seg := range group[0].Segments {
		formats = append(formats, seg.Format)
	}
	w := c.a.NewSegmentWriter(ctx, l.stream, l.incarnation, formats, group[0].First)
	defer w.Abort()
	var count uint64
	var raw int64
	var batch event.Batch
	for _, s := range group {
		if err := c.copySpan(ctx, l.dir(), s, w, &batch); err != nil {
			return nil, err
		}
		count += s.Count()
		raw += s.Raw()
	}
	merged, err := w.Close()
	if err != nil {
		return nil, fmt.Errorf("write merged segment: %w", err)
	}
	last := group[len(group)-1].Last
	if m := merged[0]; m.Count != count || m.Raw != raw || m.First != group[0].First || m.Last != last {
		return nil, fmt.Errorf("merged segment holds %d events of %d bytes up to %s: want %d, %d and %s", m.Count, m.Raw, m.Last, count, raw, last)
	}
	return merged, nil
}

// copySpan copies a span from whichever of its formats is JSONL, which is
// checked while it is read, or else from the one it has.
func (c *compaction) copySpan(ctx context.Context, dir string, s *Span, w *SegmentWriter, b *event.Batch) (err error) {
	seg := s.Segment(JSONL)
	src, err := c.a.openChecked(ctx, dir, &seg)
	if err != nil {
		return inSegment(&seg, err)
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	for {
		if err := src.Read(b); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return inSegment(&seg, err)
		}
		if err := w.Write(b, 0, b.Len()); err != nil {
			return fmt.Errorf("write merged segment: %w", err)
		}
	}
}

// inSegment says what was read when a checked source failed.
func inSegment(seg *Segment, err error) error {
	var d *defect
	switch {
	case errors.As(err, &d) && d.kind == FindingMissing:
		return fmt.Errorf("read segment %s: %w", seg.Key, ErrSegmentGone)
	case errors.As(err, &d):
		return fmt.Errorf("%w: segment %s: %w", ErrDamaged, seg.Key, err)
	default:
		return fmt.Errorf("read segment %s: %w", seg.Key, err)
	}
}
