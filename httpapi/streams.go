package httpapi

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/archiver"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/httpapi/api"
	"github.com/reservoirhq/reservoir/redisstream"
)

// namePlace is a place in a list of streams.
type namePlace struct {
	After string `json:"a"`
}

// ListStreams implements api.StrictServerInterface.
func (s *Server) ListStreams(ctx context.Context, r api.ListStreamsRequestObject) (api.ListStreamsResponseObject, error) {
	p := r.Params
	var place namePlace
	if err := decodeCursor(p.Cursor, &place); err != nil {
		return nil, err
	}
	list := api.StreamList{Streams: []api.Stream{}}
	client := s.opts.Redis
	switch {
	case !p.Live:
		client, list.Redis = nil, "live=false"
	case client == nil:
		list.Redis = "no Redis is configured"
	}
	names, err := s.streamNames(ctx, client, p.Stream)
	if err != nil && client != nil && unreachable(err) {
		list.Redis, client = s.opts.Redact(err.Error()), nil
		names, err = s.streamNames(ctx, nil, p.Stream)
	}
	if err != nil {
		return nil, err
	}
	begin, found := slices.BinarySearch(names, place.After)
	if found {
		begin++
	}
	names = names[begin:]
	if len(names) > p.Limit {
		names = names[:p.Limit]
		if list.Next, err = encodeCursor(namePlace{names[p.Limit-1]}); err != nil {
			return nil, err
		}
	}
	statuses, err := s.statuses(ctx, client, archiver.StatusSpec{Streams: names})
	for i := range statuses {
		list.Streams = append(list.Streams, s.viewStream(who(ctx).scope, &statuses[i]))
	}
	return api.ListStreams200JSONResponse(list), err
}

// statuses looks at streams, or gives what others were told a moment ago.
func (s *Server) statuses(ctx context.Context, client *redisstream.Client, spec archiver.StatusSpec) ([]archiver.Status, error) {
	key := fmt.Sprint(client != nil, spec.Gaps, "\x00", strings.Join(spec.Streams, "\x00"))
	return s.shares.statuses.get(ctx, key, func(ctx context.Context) (list []archiver.Status, err error) {
		spec.Now = s.opts.Clock()
		for st, err := range archiver.Statuses(ctx, client, s.opts.Archive, spec) {
			if err != nil {
				return nil, err
			}
			list = append(list, st)
		}
		return list, nil
	})
}

// streamNames gives the streams that patterns select and the caller may see. What is
// archived is there whatever the configuration leaves out.
func (s *Server) streamNames(ctx context.Context, client *redisstream.Client, patterns []string) ([]string, error) {
	names, err := s.shares.names.get(ctx, strconv.FormatBool(client != nil), func(ctx context.Context) ([]string, error) { return s.allStreams(ctx, client) })
	if err != nil {
		return nil, err
	}
	sc := who(ctx).scope
	var seen []string // the names are shared
	for _, name := range names {
		if sc.stream(name) && (len(patterns) == 0 || slices.ContainsFunc(patterns, func(p string) bool { return event.MatchPattern(p, name) })) {
			seen = append(seen, name)
		}
	}
	return seen, nil
}

// allStreams gives the streams that there are, in order.
func (s *Server) allStreams(ctx context.Context, client *redisstream.Client) ([]string, error) {
	all := []string{"*"}
	names, err := archiver.Streams(ctx, nil, s.opts.Archive, all, nil)
	if err == nil && client != nil {
		include := s.opts.Include
		if len(include) == 0 {
			include = all
		}
		for name, listed := range client.Discover(ctx, include, s.opts.Exclude) {
			if listed != nil {
				return nil, fmt.Errorf("list the streams in Redis: %w", listed)
			}
			names = append(names, name)
		}
	}
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

func (s *Server) viewStream(sc scope, st *archiver.Status) api.Stream {
	v := api.Stream{Stream: strings.ToValidUTF8(st.Stream, "\ufffd"), Archived: st.Archived}
	if st.Archived {
		v.Head = st.Head.String()
	}
	if st.Err != nil {
		v.Error, v.Remedy = s.opts.Redact(st.Reason), s.opts.Redact(s.remedy(st.Err))
	}
	if sc.byTenant() {
		return v
	}
	v.Incarnations, v.Totals, v.Gaps = st.Incarnations, st.Totals, st.GapList
	if st.Live != nil {
		v.Live = *st.Live
	}
	return v
}

// GetStream implements api.StrictServerInterface.
func (s *Server) GetStream(ctx context.Context, r api.GetStreamRequestObject) (api.GetStreamResponseObject, error) {
	sc := who(ctx).scope
	if err := sc.mustSee(r.Stream); err != nil {
		return nil, err
	}
	status := func(client *redisstream.Client) (*api.Stream, error) {
		list, err := s.statuses(ctx, client, archiver.StatusSpec{Streams: []string{r.Stream}, Gaps: true})
		if err != nil {
			return nil, err
		}
		if len(list) == 0 {
			return nil, notFound.problem(fmt.Sprintf("stream %q is not in the archive", r.Stream))
		}
		v := s.viewStream(sc, &list[0])
		return &v, nil
	}
	v, err := status(s.opts.Redis)
	if err != nil && s.opts.Redis != nil && unreachable(err) {
		why := err
		if v, err = status(nil); err == nil {
			v.Error, v.Remedy = s.opts.Redact(why.Error()), s.opts.Redact(s.remedy(why))
		}
	}
	if err != nil {
		return nil, err
	}
	return api.GetStream200JSONResponse(*v), nil
}

// archived refuses streams that the caller may not see, and those of which nothing is
// archived.
func (s *Server) archived(ctx context.Context, stream string) error {
	if err := who(ctx).mustSee(stream); err != nil {
		return err
	}
	there, err := s.shares.archived.get(ctx, stream, func(ctx context.Context) (bool, error) {
		for _, err := range s.opts.Archive.Incarnations(ctx, stream) {
			return err == nil, err
		}
		return false, nil
	})
	if err == nil && !there {
		err = notFound.problem(fmt.Sprintf("stream %q is not in the archive", stream))
	}
	return err
}

// within reads both ends of a range.
func (s *Server) within(from, to string) (event.Range, error) {
	r, err := event.ParseRange(from, to, s.opts.Clock())
	if err != nil {
		return r, &problemError{kind: invalidSpec, detail: err.Error(), err: err, remedy: s.remedy(err), fields: []api.FieldError{{Field: "query.from", Message: err.Error()}}}
	}
	return r, nil
}

// Bounds of a coverage.
const (
	maxHours = 10_000
	maxGaps  = 10_000
)

// GetStreamCoverage implements api.StrictServerInterface.
func (s *Server) GetStreamCoverage(ctx context.Context, r api.GetStreamCoverageRequestObject) (api.GetStreamCoverageResponseObject, error) {
	within, err := s.within(r.Params.From, r.Params.To)
	if err == nil {
		err = s.archived(ctx, r.Stream)
	}
	if err != nil {
		return nil, err
	}
	key := fmt.Sprintf("%s\x00%s\x00%s", r.Stream, r.Params.From, r.Params.To)
	cover, err := s.shares.coverage.get(ctx, key, func(ctx context.Context) (*api.Coverage, error) { return s.coverage(ctx, r.Stream, within) })
	if err != nil {
		return nil, err
	}
	return api.GetStreamCoverage200JSONResponse(*cover), nil
}

// coverage counts what is archived of a stream by hour.
func (s *Server) coverage(ctx context.Context, stream string, within event.Range) (*api.Coverage, error) {
	plan, err := s.opts.Archive.Plan(ctx, archive.PlanSpec{Stream: stream, Range: within})
	if err != nil {
		return nil, err
	}
	cover := &api.Coverage{Stream: stream, Hours: []api.CoverageHour{}, Gaps: []api.Gap{}}
	hours := map[uint64]*api.CoverageHour{}
	for seg, err := range plan.Segments(ctx) {
		if err != nil {
			return nil, err
		}
		number := archive.Hour(seg.First)
		hour := hours[number]
		if hour == nil {
			if len(hours) == maxHours {
				cover.Truncated = true
				break
			}
			hour = &api.CoverageHour{Hour: time.Unix(int64(number)*int64(time.Hour/time.Second), 0).UTC(), Types: map[string]int64{}}
			hours[number] = hour
		}
		hour.Segments++
		hour.Events += int64(seg.Count)
		hour.Bytes += seg.Bytes
		addTypes(hour, seg.Types)
	}
	for _, hour := range hours {
		cover.Hours = append(cover.Hours, *hour)
	}
	slices.SortFunc(cover.Hours, func(a, b api.CoverageHour) int { return a.Hour.Compare(b.Hour) })
	for gap, err := range plan.Gaps(ctx) {
		if err != nil {
			return nil, err
		}
		if len(cover.Gaps) == maxGaps {
			cover.Truncated = true
			break
		}
		cover.Gaps = append(cover.Gaps, archiver.Gap{RecordedGap: gap, Incarnation: gap.Incarnation})
	}
	return cover, nil
}

// addTypes adds a segment's counts by type, unless there are too many types.
func addTypes(hour *api.CoverageHour, types map[string]uint64) {
	if hour.Types == nil {
		return
	}
	for name, n := range types {
		hour.Types[name] += int64(n)
	}
	if types == nil || len(hour.Types) > archive.MaxSummary {
		hour.Types = nil
	}
}

// segmentPlace is a place in a list of segments: behind that ID.
type segmentPlace struct {
	Incarnation int      `json:"i"`
	Last        event.ID `json:"l"`
}

// ListSegments implements api.StrictServerInterface.
func (s *Server) ListSegments(ctx context.Context, r api.ListSegmentsRequestObject) (api.ListSegmentsResponseObject, error) {
	within, err := s.within(r.Params.From, r.Params.To)
	if err == nil {
		err = s.archived(ctx, r.Stream)
	}
	var place segmentPlace
	if err == nil {
		err = decodeCursor(r.Params.Cursor, &place)
	}
	if err != nil {
		return nil, err
	}
	list := api.SegmentList{Segments: []api.Segment{}}
	for inc, err := range s.opts.Archive.Incarnations(ctx, r.Stream) {
		if err != nil {
			return nil, err
		}
		if inc.Number < place.Incarnation {
			continue
		}
		rest := within
		if inc.Number == place.Incarnation {
			rest = within.Intersect(event.Range{From: place.Last.Next()})
		}
		spec := archive.PlanSpec{Stream: r.Stream, Incarnation: inc.Number, Range: rest, Format: archive.Format(r.Params.Format)}
		if err := s.addSegments(ctx, spec, r.Params.Limit, &list); err != nil || list.Next != "" {
			return api.ListSegments200JSONResponse(list), err
		}
	}
	return api.ListSegments200JSONResponse(list), nil
}

func (s *Server) addSegments(ctx context.Context, spec archive.PlanSpec, limit int, list *api.SegmentList) error {
	if spec.Range.IsEmpty() {
		return nil
	}
	plan, err := s.opts.Archive.Plan(ctx, spec)
	if err != nil {
		return err
	}
	var last segmentPlace
	for seg, err := range plan.Segments(ctx) {
		if err != nil {
			return err
		}
		if len(list.Segments) == limit {
			if last.Incarnation == 0 { // the page was full with the incarnation before
				last = segmentPlace{Incarnation: seg.Incarnation, Last: seg.First.Prev()}
			}
			list.Next, err = encodeCursor(last)
			return err
		}
		last = segmentPlace{seg.Incarnation, seg.Last}
		list.Segments = append(list.Segments, api.Segment{
			Incarnation: seg.Incarnation, Path: seg.Path, Format: api.Format(seg.Format), Version: seg.Version, First: seg.First.String(),
			Last: seg.Last.String(), Count: int64(seg.Count), Bytes: seg.Bytes, RawBytes: seg.Raw, Sha256: seg.SHA256, MinTime: seg.MinTime,
			MaxTime: seg.MaxTime, Types: counts(seg.Types), Tenants: counts(seg.Tenants),
		})
	}
	return nil
}

func counts(by map[string]uint64) map[string]int64 {
	if by == nil {
		return nil
	}
	out := make(map[string]int64, len(by))
	for name, n := range by {
		out[name] = int64(n)
	}
	return out
}
