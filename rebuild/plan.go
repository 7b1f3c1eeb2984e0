package rebuild

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/objectstore"
)

const (
	// planVersion is the version of plans that this program writes.
	planVersion = 1
	// chunkEvents is how many events a chunk has, about: it is one block in the
	// memory of the server, and the larger blocks are the less it has to merge. Plans of
	// more than maxChunks have larger ones.
	chunkEvents = 500_000
	maxChunks   = 20_000
	// journalChunks is how many a job's checkpoint has room for. Chunks of few events may be
	// many: of many streams, or where names and values are large.
	journalChunks = 50_000
	// Of few events chunks are smaller, so that there is one for each of those that load at
	// once, but not smaller than that.
	chunkShared = 250_000
	// chunkRaw bounds the names and values of a chunk's events, about: as many bytes as
	// ClickHouse puts into a block of an INSERT SELECT by default.
	chunkRaw = 256 << 20
	// Where a rate is given its pauses lie between chunks, which are then so many seconds of
	// it, about, but not smaller than chunkLeast.
	chunkSeconds = 5
	chunkLeast   = 10_000
	// chunkObjects bounds the objects of one chunk, and so its statement.
	chunkObjects = 64
	// planGaps is how many gaps a plan names.
	planGaps = 100
)

// Plan is what a rebuild loads, frozen when it was created: what is archived
// later is caught up with.
type Plan struct {
	Version int          `json:"version"`
	Streams []PlanStream `json:"streams"`
	Chunks  []Chunk      `json:"chunks"`
	// Events is how many events the chunks hold, before any filter.
	Events uint64 `json:"events"`
	Bytes  int64  `json:"bytes"` // of their objects
	// Gaps counts the losses within the streams, and Named are the first of them.
	Gaps  uint64       `json:"gaps,omitempty"`
	Lost  uint64       `json:"lost,omitempty"` // at the least
	Named []PlannedGap `json:"named_gaps,omitempty"`
}

// PlanStream is one stream of a plan.
type PlanStream struct {
	Stream []byte             `json:"stream"` // its name, which need not be text
	Views  []archive.PlanView `json:"views,omitempty"`
	Head   place              `json:"head"` // the chunks hold everything up to there
	Events uint64             `json:"events"`
	Totals archive.PlanTotals `json:"totals"`
}

// PlannedGap is a loss inside the range that a rebuild reads.
type PlannedGap struct {
	Stream      string `json:"stream"`
	Incarnation int    `json:"incarnation"`
	archive.Gap
}

// Chunk is what one statement loads: a run of events of one incarnation of one
// stream.
type Chunk struct {
	Stream      int         `json:"stream"` // index in Plan.Streams
	Incarnation int         `json:"incarnation"`
	Range       event.Range `json:"range"` // every event within it
	// Objects are the segments that hold them, all in one Format.
	Objects []string       `json:"objects"`
	Format  archive.Format `json:"format"`
	// Events is how many there are: exactly, if Whole, before any filter.
	Events uint64 `json:"events"`
	Whole  bool   `json:"whole"`
	Bytes  int64  `json:"bytes"`
}

// planner cuts segments into chunks.
type planner struct {
	plan   *Plan
	target uint64 // events of a chunk
	open   *Chunk // takes more segments
	raw    int64  // bytes of names and values in it
}

// makePlan looks at what the archive holds of the streams. A filter leaves out segments
// that have nothing of it. So many chunks at once, and a rate in events a second, make
// chunks smaller.
func makePlan(ctx context.Context, arch *archive.Archive, streams []string, format archive.Format, filter *event.Matcher, concurrency int, rate float64) (*Plan, error) {
	plans := make([]*archive.Plan, len(streams))
	var events uint64
	for i, stream := range streams {
		var err error
		if plans[i], err = arch.Plan(ctx, archive.PlanSpec{Stream: stream, Format: format, Filter: filter}); err != nil {
			return nil, fmt.Errorf("plan the rebuild: %w", err)
		}
		events += plans[i].Totals.Events
	}
	p, err := cut(chunkTarget(events, concurrency, rate), maxChunks, func(c *planner) error {
		for i, stream := range streams {
			if err := c.stream(ctx, stream, plans[i]); err != nil {
				return fmt.Errorf("plan the rebuild: %w", err)
			}
		}
		return nil
	})
	if err == nil && len(p.Chunks) > journalChunks {
		err = remedy.Wrapf(fmt.Errorf("%w: it would have %d chunks, and a job has room for %d", ErrInvalid, len(p.Chunks), journalChunks),
			"Merge small segments with `reservoir compact`, or make the projection of fewer streams.")
	}
	return p, err
}

// cut makes chunks of so many events of what all gives, of more where there would be more
// than most chunks: how many events segments have of which a filter lets some pass is known
// only then.
func cut(target, most uint64, all func(*planner) error) (*Plan, error) {
	for {
		p := &Plan{Version: planVersion}
		if err := all(&planner{plan: p, target: target}); err != nil {
			return nil, err
		}
		for i := range p.Chunks {
			p.Events += p.Chunks[i].Events
			p.Bytes += p.Chunks[i].Bytes
		}
		if uint64(len(p.Chunks)) <= most || p.Events/most <= target {
			return p, nil
		}
		target = p.Events / most
	}
}

// chunkTarget is how many events a chunk of a plan has.
func chunkTarget(events uint64, concurrency int, rate float64) uint64 {
	target := min(chunkEvents, max(chunkShared, events/uint64(concurrency))) //nolint:gosec // small
	if rate > 0 {
		target = uint64(min(float64(target), max(chunkLeast, chunkSeconds*rate)))
	}
	return max(target, events/maxChunks)
}

func (c *planner) stream(ctx context.Context, name string, from *archive.Plan) error {
	s := PlanStream{Stream: []byte(name), Views: from.Views, Totals: from.Totals, Head: place{Incarnation: 1}}
	if n := len(from.Views); n > 0 {
		s.Head = place{Incarnation: from.Views[n-1].Incarnation, ID: from.Views[n-1].Head}
	}
	c.open = nil
	for seg, err := range from.Segments(ctx) {
		if err != nil {
			return err //nolint:wrapcheck // it names the stream
		}
		c.segment(len(c.plan.Streams), &seg)
	}
	for gap, err := range from.Gaps(ctx) {
		if err != nil {
			return err //nolint:wrapcheck // it names the stream
		}
		if len(c.plan.Named) < planGaps {
			c.plan.Named = append(c.plan.Named, PlannedGap{name, gap.Incarnation, gap.Gap})
		}
	}
	c.plan.Streams = append(c.plan.Streams, s)
	c.plan.Gaps += s.Totals.Gaps
	c.plan.Lost += s.Totals.Lost
	return nil
}

// segment puts a segment with its neighbours, or cuts it by its IDs.
func (c *planner) segment(stream int, s *archive.PlannedSegment) {
	if s.Count > 1 && (s.Count > c.target*3/2 || s.Raw > chunkRaw*3/2) {
		c.open = nil
		c.split(stream, s)
		return
	}
	if o := c.open; o != nil && o.Incarnation == s.Incarnation && o.Format == s.Format && o.Events+s.Count <= c.target && c.raw+s.Raw <= chunkRaw && len(o.Objects) < chunkObjects {
		c.raw += s.Raw
		o.Range.To = s.Last
		o.Objects = append(o.Objects, s.Path)
		o.Events += s.Count
		o.Bytes += s.Bytes
		return
	}
	c.plan.Chunks = append(c.plan.Chunks, Chunk{
		Stream: stream, Incarnation: s.Incarnation, Range: event.Range{From: s.First, To: s.Last},
		Objects: []string{s.Path}, Format: s.Format, Events: s.Count, Whole: true, Bytes: s.Bytes,
	})
	c.open, c.raw = &c.plan.Chunks[len(c.plan.Chunks)-1], s.Raw
}

// split cuts a large segment into runs of milliseconds of the same length.
func (c *planner) split(stream int, s *archive.PlannedSegment) {
	parts := max((s.Count+c.target-1)/c.target, uint64(s.Raw/chunkRaw)+1) //nolint:gosec // a size
	span := s.Last.Ms - s.First.Ms + 1
	parts = min(parts, span)
	from := s.First
	left := s.Count
	for i := range parts {
		to := s.Last
		if i+1 < parts {
			to = event.ID{Ms: s.First.Ms + span/parts*(i+1)}.Prev()
		}
		n := left / (parts - i)
		left -= n
		c.plan.Chunks = append(c.plan.Chunks, Chunk{
			Stream: stream, Incarnation: s.Incarnation, Range: event.Range{From: from, To: to},
			Objects: []string{s.Path}, Format: s.Format, Events: n, Whole: parts == 1, Bytes: s.Bytes / int64(parts), //nolint:gosec // few
		})
		from = to.Next()
	}
}

// planFile is where a job keeps its Plan, among its files.
const planFile = "plan.json"

// writePlan keeps a plan, once: a repeat changes nothing.
func writePlan(ctx context.Context, files objectstore.Store, p *Plan) error {
	text, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("write the plan of a rebuild: %w", err)
	}
	if _, err := files.Put(ctx, planFile, bytes.NewReader(text), objectstore.IfAbsent); err != nil && !errors.Is(err, objectstore.ErrPrecondition) {
		return fmt.Errorf("write the plan of a rebuild: %w", err)
	}
	return nil
}

// readPlan reads what writePlan wrote.
func readPlan(ctx context.Context, files objectstore.Reader) (*Plan, error) {
	p := &Plan{}
	if err := readFile(ctx, files, planFile, p); err != nil {
		return nil, fmt.Errorf("read the plan of a rebuild: %w", err)
	}
	if p.Version > planVersion {
		return nil, remedy.Wrapf(fmt.Errorf("the plan of the rebuild has version %d, and this program reads up to %d", p.Version, planVersion),
			"Run all workers with the same version of reservoir.")
	}
	return p, nil
}

// readFile reads a JSON document among a job's files.
func readFile(ctx context.Context, files objectstore.Reader, name string, to any) (err error) {
	body, _, err := files.Get(ctx, name, objectstore.ByteRange{})
	if err != nil {
		return err //nolint:wrapcheck // the caller says what it reads
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	text, err := io.ReadAll(body)
	if err != nil {
		return err //nolint:wrapcheck // the caller says what it reads
	}
	return json.Unmarshal(text, to) //nolint:wrapcheck // the caller says what it reads
}

// heads gives up to where the chunks go, by stream.
func (p *Plan) heads() map[string]place {
	out := make(map[string]place, len(p.Streams))
	for i := range p.Streams {
		out[string(p.Streams[i].Stream)] = p.Streams[i].Head
	}
	return out
}
