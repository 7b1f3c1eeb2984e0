package replay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/event"
)

var (
	// ErrNoStream is wrapped when the archive has no stream that is asked for.
	ErrNoStream = errors.New("no such stream in the archive")
	// ErrNothing is wrapped when the range of a replay holds no event at all.
	ErrNothing = errors.New("nothing to replay")
)

const (
	resolveParallel = 8  // streams looked at together
	namedWarnings   = 10 // warnings of one kind that name their streams
	// maxFollowed streams fit into a checkpoint, which holds two places of each,
	// whatever their IDs are.
	maxFollowed = 1000
)

// Resolve finds out what a valid spec reads, as of now: which streams, which IDs
// and where each stream's archive ends. It reads commit logs only. An unknown
// stream is an error that wraps ErrNoStream, a range without any event one that
// wraps ErrNothing; both say what there is.
func (s *Service) Resolve(ctx context.Context, spec *Spec) (*Frozen, error) {
	if err := s.Validate(spec); err != nil {
		return nil, err
	}
	return s.resolve(ctx, spec)
}

// resolve is Resolve of a valid spec, which may lack a sink.
func (s *Service) resolve(ctx context.Context, spec *Spec) (*Frozen, error) {
	now := s.opts.Clock()
	f := &Frozen{Version: FrozenVersion, ResolvedAt: now.UTC()}
	if spec.Upcast {
		f.Upcasters = s.opts.Upcasters.Digest()
	}
	if spec.DeadLettersOf != "" {
		return f, s.resolveDeadLetters(ctx, spec, f)
	}
	within, err := event.ParseRange(spec.From, spec.To, now)
	if err != nil {
		return nil, &FieldError{Field: "from, to", Err: err, Want: wantBound}
	}
	filter, _, err := splitFilter(spec.Filter)
	if err != nil {
		return nil, err
	}
	names, err := s.selected(ctx, spec.Streams)
	if err != nil {
		return nil, err
	}
	if err := spec.canFollow(len(names)); err != nil {
		return nil, err
	}
	streams := make([]resolved, len(names))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(resolveParallel)
	for i, name := range names {
		group.Go(func() (err error) {
			streams[i], err = s.resolveStream(groupCtx, name, within, filter)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return f, gather(f, streams, spec)
}

// canFollow refuses to follow several streams where that cannot work.
func (s *Spec) canFollow(streams int) error {
	switch {
	case !s.Follow:
		return nil
	case s.Order == OrderStream && streams > 1:
		return &FieldError{
			Field: "order", Value: strconv.Quote(string(OrderStream)), Err: fmt.Errorf("a replay that follows %d streams one after the other never comes to the second", streams),
			Want: `Use the order "time", or one replay for each stream.`,
		}
	case streams > maxFollowed:
		return &FieldError{
			Field: "streams", Err: fmt.Errorf("they are %d, and a replay can follow %d at most: it keeps a place in each", streams, maxFollowed),
			Want: fmt.Sprintf("Create several replays of up to %d streams each, or leave follow out.", maxFollowed),
		}
	}
	return nil
}

// selected gives the names of the archived streams that the patterns select,
// sorted. A pattern that selects none is an error.
func (s *Service) selected(ctx context.Context, patterns []string) ([]string, error) {
	used := make([]bool, len(patterns))
	var names []string
	for name, err := range s.opts.Archive.Streams(ctx) {
		if err != nil {
			return nil, fmt.Errorf("list the streams of the archive: %w", err)
		}
		selected := false
		for i, p := range patterns {
			if name == p || event.MatchPattern(p, name) {
				selected, used[i] = true, true
			}
		}
		if selected {
			names = append(names, name)
		}
	}
	var errs []error
	for i, p := range patterns {
		if !used[i] {
			errs = append(errs, s.unknownStream(ctx, p))
		}
	}
	slices.Sort(names)
	return names, errors.Join(errs...)
}

// namedStreams is how many streams an error names as examples.
const namedStreams = 5

// unknownStream makes the error for a pattern that selects nothing: it names the
// stream that was likely meant, or some that there are.
func (s *Service) unknownStream(ctx context.Context, pattern string) error {
	var listErr error
	var some []string
	near := nearest(pattern, func(yield func(string) bool) {
		for name, err := range s.opts.Archive.Streams(ctx) {
			if err != nil {
				listErr = fmt.Errorf("list the streams of the archive: %w", err)
				return
			}
			if len(some) <= namedStreams {
				some = append(some, name)
			}
			if !yield(name) {
				return
			}
		}
	})
	err := &FieldError{Field: "streams", Value: strconv.Quote(pattern), Err: ErrNoStream}
	switch {
	case listErr != nil:
		return listErr
	case near != "":
		err.Want = fmt.Sprintf("Did you mean %q? `reservoir streams` lists what is archived.", near)
	case len(some) == 0:
		err.Want = "The archive holds no streams: check store.url, and archive something first with `reservoir archive`."
	default:
		more := ""
		if len(some) > namedStreams {
			some, more = some[:namedStreams], ", …"
		}
		err.Want = fmt.Sprintf("`reservoir streams` lists what is archived: %s%s.", strings.Join(some, ", "), more)
	}
	return err
}

// resolved is what Resolve finds out about one stream.
type resolved struct {
	StreamRange
	totals archive.PlanTotals
	// first is the ID of the first event that the archive still has; it is known
	// when the range holds none, and zero when there is no event at all.
	first event.ID
	empty bool // nothing in the range, filter or not
}

func (s *Service) resolveStream(ctx context.Context, stream string, within event.Range, filter *event.Matcher) (resolved, error) {
	r := resolved{StreamRange: StreamRange{Stream: stream, Range: within}}
	for inc, err := range s.opts.Archive.Incarnations(ctx, stream) {
		if err != nil {
			return r, fmt.Errorf("read the archive of stream %q: %w", stream, err)
		}
		if inc.Last != nil {
			r.Incarnation, r.Head, r.EntriesAdded = inc.Number, inc.Last.Head, inc.Last.EntriesAdded
		}
	}
	var err error
	if r.totals, err = s.totals(ctx, &r.StreamRange, filter); err != nil || r.totals.Events > 0 {
		return r, err
	}
	inRange := r.totals
	if filter != nil {
		if inRange, err = s.totals(ctx, &r.StreamRange, nil); err != nil {
			return r, err
		}
	}
	if r.empty = inRange.Events == 0; !r.empty {
		return r, nil
	}
	r.first, err = s.firstArchived(ctx, stream)
	return r, err
}

// totals adds up what is planned of a stream.
func (s *Service) totals(ctx context.Context, r *StreamRange, filter *event.Matcher) (archive.PlanTotals, error) {
	var t archive.PlanTotals
	plans, err := s.plans(ctx, r, OrderStream, filter)
	for _, p := range plans {
		t.Segments += p.Totals.Segments
		t.Events += p.Totals.Events
		t.Bytes += p.Totals.Bytes
		t.Gaps += p.Totals.Gaps
		t.Lost += p.Totals.Lost
	}
	return t, err
}

// partPlan is the plan of what a replay reads of one incarnation of a stream.
type partPlan struct {
	part
	*archive.Plan
}

// plans gives the plans that read what a replay reads of a stream, one for each
// incarnation that holds any of it, oldest first.
func (s *Service) plans(ctx context.Context, r *StreamRange, order Order, filter *event.Matcher) ([]partPlan, error) {
	parts, err := streamParts(ctx, s.opts.Archive, 0, r, order, Position{})
	if err != nil {
		return nil, err
	}
	var plans []partPlan
	for _, part := range parts {
		p, err := s.opts.Archive.Plan(ctx, archive.PlanSpec{Stream: r.Stream, Incarnation: part.incarnation, Range: part.span, Filter: filter})
		if err != nil {
			return nil, fmt.Errorf("plan the replay of stream %q: %w", r.Stream, err)
		}
		if p.Totals.Segments > 0 || p.Totals.Gaps > 0 {
			plans = append(plans, partPlan{part, p})
		}
	}
	return plans, nil
}

// firstArchived returns the ID of the first event that the archive has of a
// stream, or zero.
func (s *Service) firstArchived(ctx context.Context, stream string) (event.ID, error) {
	p, err := s.opts.Archive.Plan(ctx, archive.PlanSpec{Stream: stream})
	if err != nil {
		return event.ID{}, fmt.Errorf("plan the replay of stream %q: %w", stream, err)
	}
	for seg, err := range p.Segments(ctx) {
		if err != nil {
			return event.ID{}, fmt.Errorf("plan the replay of stream %q: %w", stream, err)
		}
		return seg.First, nil
	}
	return event.ID{}, nil
}

// gather adds up the streams, and warns of what their owner may not expect.
func gather(f *Frozen, streams []resolved, spec *Spec) error {
	var empty, pruned, lost []string
	for _, r := range streams {
		f.Streams = append(f.Streams, r.StreamRange)
		f.Events += r.totals.Events
		f.Bytes += r.totals.Bytes
		switch {
		case r.empty:
			empty = append(empty, fmt.Sprintf("stream %q has nothing between %s: %s", r.Stream, bounds(r.Range), r.archived()))
		case r.totals.Events == 0:
			pruned = append(pruned, fmt.Sprintf("stream %q has events in the range, and none of them passes the filter", r.Stream))
		}
		if r.totals.Gaps > 0 {
			lost = append(lost, fmt.Sprintf("stream %q lost at least %d entries in the range before they were archived", r.Stream, r.totals.Lost))
		}
	}
	if len(empty) == len(streams) && !spec.Follow {
		err := fmt.Errorf("%w: %s", ErrNothing, empty[0])
		if len(empty) > 1 {
			err = fmt.Errorf("%w; and so for %d more", err, len(empty)-1)
		}
		return &FieldError{Field: "from, to", Err: err, Want: "Choose a range within what is archived; `reservoir streams` shows where each stream's archive ends."}
	}
	for _, texts := range [][]string{empty, pruned, lost} {
		f.Warnings = append(f.Warnings, texts[:min(len(texts), namedWarnings)]...)
		if n := len(texts) - namedWarnings; n > 0 {
			f.Warnings = append(f.Warnings, fmt.Sprintf("and so for %d more streams", n))
		}
	}
	return nil
}

// archived says what the archive has of a stream.
func (r *resolved) archived() string {
	if r.first.IsZero() {
		return "the archive holds none of its events"
	}
	return fmt.Sprintf("the archive holds %s to %s", idAndTime(r.first), idAndTime(r.Head))
}

// bounds gives a range for people.
func bounds(r event.Range) string {
	from, to := "the beginning", "the end"
	if !r.From.IsZero() {
		from = idAndTime(r.From)
	}
	if !r.To.IsZero() {
		to = idAndTime(r.To)
	}
	return from + " and " + to
}

// lastMs is the last millisecond of the year 9999.
const lastMs = 253402300799999

func idAndTime(id event.ID) string {
	if id.Ms > lastMs {
		return id.String()
	}
	return fmt.Sprintf("%s (%s)", id, time.UnixMilli(int64(id.Ms)).UTC().Format("2006-01-02T15:04:05Z"))
}
