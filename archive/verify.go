package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"sync"

	"github.com/reservoirhq/reservoir/event"
)

// VerifySpec says what to verify.
type VerifySpec struct {
	Stream string
	// Range narrows the segments that are read; the log is always verified whole.
	Range event.Range
	// Progress is called after every span, by one goroutine at a time.
	Progress func(VerifyTotals)
	// Found is called for every finding when it is made, by one goroutine at a time.
	Found func(Finding)
	// Parallel is how many spans are read at once; default the number of CPUs,
	// at most 4.
	Parallel int
}

// VerifyTotals count what was verified.
type VerifyTotals struct {
	Commits  uint64 `json:"commits"`
	Segments uint64 `json:"segments"`
	Events   uint64 `json:"events"` // once, however many formats hold them
	Bytes    int64  `json:"bytes"`
}

// VerifyReport is what Verify found.
type VerifyReport struct {
	Stream       string       `json:"stream"`
	Incarnations int          `json:"incarnations"`
	Verified     VerifyTotals `json:"verified"`
	Problems     uint64       `json:"problems"`
	Warnings     uint64       `json:"warnings"`
	// Findings are the first thousand; all of them go to VerifySpec.Found.
	Findings []Finding `json:"findings"`
}

// OK reports whether there is no problem. There may be warnings.
func (r *VerifyReport) OK() bool { return r.Problems == 0 }

const maxFindings = 1000

// Verify walks the log of every incarnation of a stream and reads every segment
// in the range whole, and reports all that is not as it must be. An error means
// that it could not finish, not that something is wrong.
func (a *Archive) Verify(ctx context.Context, spec VerifySpec) (*VerifyReport, error) {
	if spec.Parallel <= 0 {
		spec.Parallel = min(runtime.NumCPU(), 4)
	}
	r := &verification{a: a, spec: spec, report: VerifyReport{Stream: spec.Stream}}
	if err := CheckStreamName(spec.Stream); err != nil {
		return nil, err
	}
	newest, err := a.newestIncarnation(ctx, spec.Stream)
	if err != nil {
		return nil, fmt.Errorf("verify stream %q: %w", spec.Stream, err)
	}
	reached := 0
	base := &Seal{Next: 1}
	for base != nil {
		reached = base.Next
		v := &incarnationCheck{verification: r, incarnation: base.Next, dir: incarnationDir(spec.Stream, base.Next)}
		next, err := v.run(ctx, *base)
		if err != nil {
			return &r.report, fmt.Errorf("verify stream %q: %w", spec.Stream, err)
		}
		base = next
	}
	if reached < newest { // it was listed before the logs were read, and came after a seal
		v := &incarnationCheck{verification: r, incarnation: reached, dir: incarnationDir(spec.Stream, reached)}
		v.found(Problem, FindingLog, "", "incarnation %d is there, and no seal leads to it", newest)
	}
	return &r.report, nil
}

type verification struct {
	a    *Archive
	spec VerifySpec

	mu     sync.Mutex
	report VerifyReport
}

func (r *verification) add(f Finding) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f.Stream = r.spec.Stream
	f.Remedy = remedies[f.Kind]
	switch f.Severity {
	case Problem:
		r.report.Problems++
	case Warning:
		r.report.Warnings++
	case Info:
	}
	if len(r.report.Findings) < maxFindings {
		r.report.Findings = append(r.report.Findings, f)
	}
	if r.spec.Found != nil {
		r.spec.Found(f)
	}
}

func (r *verification) progress(add VerifyTotals) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := &r.report.Verified
	t.Commits += add.Commits
	t.Segments += add.Segments
	t.Events += add.Events
	t.Bytes += add.Bytes
	if r.spec.Progress != nil {
		r.spec.Progress(*t)
	}
}

// incarnationCheck verifies one incarnation.
type incarnationCheck struct {
	*verification
	incarnation int
	dir         string
}

func (v *incarnationCheck) found(severity Severity, kind FindingKind, key, format string, args ...any) {
	f := Finding{Severity: severity, Kind: kind, Incarnation: v.incarnation, Message: fmt.Sprintf(format, args...)}
	if key != "" {
		f.Key = v.dir + key
	}
	v.add(f)
}

// run verifies the incarnation that begins at base, and returns its seal, if any.
func (v *incarnationCheck) run(ctx context.Context, base Seal) (next *Seal, err error) {
	replayed, err := v.replay(ctx, base)
	if err != nil {
		return nil, err
	}
	end := uint64(0)
	if replayed.last != nil {
		end = replayed.last.Number
	}
	if err := v.checkWhole(ctx, end); err != nil {
		return nil, err
	}
	if replayed.last == nil {
		return nil, v.checkUncommitted(ctx) // an empty log has no seal
	}
	v.report.Incarnations++
	if err := v.checkSnapshots(ctx, replayed); err != nil {
		return nil, err
	}
	view, err := v.a.view(ctx, v.dir, replayed.last.Number)
	if err != nil {
		return nil, v.damaged(err)
	}
	if err := v.checkSpans(ctx, view, replayed); err != nil {
		return nil, err
	}
	if err := v.checkGarbage(ctx, view); err != nil {
		return nil, err
	}
	return replayed.last.Seal, nil
}

// damaged turns damage of the log into a finding, and leaves other errors.
func (v *incarnationCheck) damaged(err error) error {
	if !errors.Is(err, ErrDamaged) {
		return err
	}
	v.found(Problem, FindingLog, "", "%v", err)
	return nil
}

// checkSpans reads all live spans in the range, several at once, and adds up
// all live spans.
func (v *incarnationCheck) checkSpans(ctx context.Context, view *view, replayed *replay) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	spans := make(chan *Span)
	var wg sync.WaitGroup
	for range v.spec.Parallel {
		wg.Go(func() {
			for s := range spans {
				if err := v.checkSpan(ctx, s); err != nil {
					cancel(err)
				}
			}
		})
	}
	err := v.feed(ctx, view, replayed, spans)
	close(spans)
	wg.Wait()
	if err == nil {
		err = context.Cause(ctx)
	}
	return err
}

func (v *incarnationCheck) feed(ctx context.Context, view *view, replayed *replay, spans chan<- *Span) error {
	live := newReplay()
	for p, err := range view.parts(ctx) {
		if err != nil {
			return v.damaged(err)
		}
		if g := p.gap; g != nil {
			live.totals.Gaps++
			live.totals.Lost = saturate(live.totals.Lost, g.Lost)
			v.gapFound(g)
			continue
		}
		live.addSpan(p.span)
		if !v.spec.Range.Overlaps(p.span.First, p.span.Last) {
			continue
		}
		select {
		case spans <- p.span:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if live.keys != replayed.keys {
		v.found(Problem, FindingLog, "", "the live segments are not those that the commits add and do not remove again")
	}
	if live.totals != replayed.last.Totals {
		v.found(Problem, FindingLog, commitKey(replayed.last.Number), "the last commit's totals are %+v, and the live segments and gaps add up to %+v", replayed.last.Totals, live.totals)
	}
	return nil
}

func (v *incarnationCheck) gapFound(g *RecordedGap) {
	if !v.spec.Range.Overlaps(g.first(), g.UpTo) {
		return
	}
	exact := "at least "
	if g.Exact {
		exact = ""
	}
	v.add(Finding{
		Severity: Info, Kind: FindingGap, Incarnation: v.incarnation, Key: v.dir + commitKey(g.Commit), First: g.first(), Last: g.UpTo,
		Message: fmt.Sprintf("%s%d entries after %s and up to %s were lost in Redis (%s) before they were archived", exact, g.Lost, g.After, g.UpTo, g.Cause),
	})
}

// checkSpan reads the segments of a span side by side.
func (v *incarnationCheck) checkSpan(ctx context.Context, s *Span) error {
	c := &spanCheck{v: v, span: s, extract: v.a.opts.Mapping.Extractor(), summary: summarizer{mapping: v.a.mapping}}
	err := c.run(ctx)
	done := VerifyTotals{Segments: uint64(len(s.Segments)), Events: s.Count()}
	for _, seg := range s.Segments {
		done.Bytes += seg.Bytes
	}
	if err == nil {
		v.progress(done)
	}
	return err
}

type spanCheck struct {
	v       *incarnationCheck
	span    *Span
	extract *event.Extractor
	env     event.Envelope
	summary summarizer
}

// cursor walks through one segment.
type cursor struct {
	src   *checkedSource
	batch event.Batch
	next  int
	event event.Event
	ended bool // cleanly
	dead  bool
}

func (c *spanCheck) run(ctx context.Context) (err error) {
	var cursors []*cursor
	defer func() {
		for _, k := range cursors {
			err = errors.Join(err, k.src.Close())
		}
	}()
	for i := range c.span.Segments {
		seg := &c.span.Segments[i]
		src, err := c.v.a.openChecked(ctx, c.v.dir, seg)
		if err == nil {
			cursors = append(cursors, &cursor{src: src})
		} else if err := c.defect(seg, err); err != nil {
			return err
		}
	}
	if err := c.walk(cursors); err != nil {
		return err
	}
	for _, k := range cursors {
		if k.ended {
			c.checkSummary()
			break
		}
	}
	return nil
}

// walk advances all cursors together and compares what they hold.
func (c *spanCheck) walk(cursors []*cursor) error {
	equal := true
	for {
		var first *cursor
		for _, k := range cursors {
			more, err := c.advance(k)
			if err != nil {
				return err
			}
			if !more {
				continue
			}
			if first == nil {
				first = k
				c.extract.Extract(&k.event, &c.env)
				c.summary.add(&k.event, &c.env)
				continue
			}
			if equal && !first.event.Equal(&k.event) {
				equal = false
				c.v.add(Finding{
					Severity: Problem, Kind: FindingDiffers, Incarnation: c.v.incarnation, Key: c.v.dir + k.src.seg.Key, First: k.event.ID, Last: k.event.ID,
					Message: fmt.Sprintf("event %s is not the same as event %s of %s", k.event.ID, first.event.ID, first.src.seg.Key),
				})
			}
		}
		if first == nil {
			return nil
		}
	}
}

// advance moves to the next event; what is wrong with the segment ends it.
func (c *spanCheck) advance(k *cursor) (more bool, err error) {
	for k.next == k.batch.Len() && !k.dead {
		k.next = 0
		err := k.src.Read(&k.batch)
		if err == nil {
			continue
		}
		k.batch.Reset()
		k.dead = true
		if k.ended = errors.Is(err, io.EOF); !k.ended {
			return false, c.defect(k.src.seg, err)
		}
	}
	if k.dead {
		return false, nil
	}
	k.batch.Event(k.next, &k.event)
	k.next++
	return true, nil
}

// defect reports what is wrong with a segment, and returns other errors.
func (c *spanCheck) defect(seg *Segment, err error) error {
	var d *defect
	if !errors.As(err, &d) {
		return err
	}
	c.v.add(Finding{
		Severity: Problem, Kind: d.kind, Incarnation: c.v.incarnation, Key: c.v.dir + seg.Key,
		First: seg.First, Last: seg.Last, Message: d.problem,
	})
	return nil
}

func (c *spanCheck) checkSummary() {
	got := c.summary.summary()
	for _, seg := range c.span.Segments {
		if seg.Mapping != got.Mapping || got.equal(&seg.Summary) {
			continue // through another mapping events look different
		}
		c.v.add(Finding{
			Severity: Problem, Kind: FindingSummary, Incarnation: c.v.incarnation, Key: c.v.dir + seg.Key, First: seg.First, Last: seg.Last,
			Message: "the types, tenants or times that the commit states are not those of the events",
		})
	}
}

func (s *Summary) equal(other *Summary) bool {
	return s.MinTime.Equal(other.MinTime) && s.MaxTime.Equal(other.MaxTime) &&
		maps.Equal(s.Types, other.Types) && maps.Equal(s.Tenants, other.Tenants)
}
