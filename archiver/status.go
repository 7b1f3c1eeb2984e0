package archiver

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/redisstream"
)

const (
	statusChunk    = 500 // streams that are looked at together
	statusParallel = 32  // logs that are loaded at once
)

// Status is what the archive and Redis know about one stream. Pointers are nil
// for what is not known.
type Status struct {
	Stream string `json:"stream"`

	Archived     bool     `json:"archived"` // anything at all
	Head         event.ID `json:"head"`     // the archive covers all up to here
	Incarnations int      `json:"incarnations"`
	// Totals are those of all incarnations together. Bytes are those on the
	// store, RawBytes those of names and values.
	archive.Totals
	GapList []Gap `json:"gap_list,omitempty"` // with StatusSpec.Gaps

	Live *Live `json:"live,omitempty"` // nil: not in Redis, or Redis was not asked

	// Err says why the rest is not known.
	Err    error  `json:"-"`
	Reason string `json:"error,omitempty"`
}

// Live is what Redis knows about a stream.
type Live struct {
	Length uint64   `json:"length"`
	LastID event.ID `json:"last_id"` // the highest ever given out
	// Lag is how many entries were added beyond the head, LagAge the age of the
	// first of them that is there, by the milliseconds of its ID.
	Lag    uint64        `json:"lag_entries"`
	LagAge time.Duration `json:"-"`
	// LagSeconds is LagAge.
	LagSeconds float64 `json:"lag_seconds"`
	// Unarchived is how many of Lag are gone from Redis already, as far as that
	// shows: the next drain will record them as a gap.
	Unarchived uint64 `json:"lost_unrecorded"`
	// Replaced says that the stream is not the one that was archived: the next
	// drain will begin a new incarnation. Lag then counts all its entries.
	Replaced bool `json:"replaced,omitempty"`
}

// Gap is a recorded loss.
type Gap struct {
	archive.RecordedGap
	Incarnation int `json:"incarnation"`
}

// StatusSpec says what to look at.
type StatusSpec struct {
	Include, Exclude []string // as in Options; no Include means all
	// Streams, if not nil, are the streams to look at, by name, whatever Include and
	// Exclude say. What is nowhere is left out.
	Streams []string
	// Gaps asks for every single loss, not only for their number.
	Gaps bool
	// Now is the time that ages are counted from; default time.Now.
	Now time.Time
}

// Statuses gives the status of every stream that is in the archive or, unless
// redis is nil, in Redis, ordered by name. What is wrong with one stream is in
// its Err. Names are held in memory, all else is asked for as the loop goes on.
func Statuses(ctx context.Context, redis *redisstream.Client, arch *archive.Archive, spec StatusSpec) iter.Seq2[Status, error] {
	if len(spec.Include) == 0 {
		spec.Include = []string{"*"}
	}
	if spec.Now.IsZero() {
		spec.Now = time.Now()
	}
	return func(yield func(Status, error) bool) {
		s := surveyor{redis, arch, spec}
		names := spec.Streams
		if names == nil {
			var err error
			if names, err = Streams(ctx, redis, arch, spec.Include, spec.Exclude); err != nil {
				yield(Status{}, err)
				return
			}
		}
		for chunk := range slices.Chunk(names, statusChunk) {
			statuses, err := s.look(ctx, chunk)
			if err != nil {
				yield(Status{}, err)
				return
			}
			for _, st := range statuses {
				if (st.Archived || st.Live != nil || st.Err != nil) && !yield(st, nil) {
					return
				}
			}
		}
	}
}

type surveyor struct {
	redis *redisstream.Client
	arch  *archive.Archive
	spec  StatusSpec
}

// Streams gives the names of the streams that are in the archive or, unless redis is
// nil, in Redis, and that include selects and exclude does not, ordered.
func Streams(ctx context.Context, redis *redisstream.Client, arch *archive.Archive, include, exclude []string) ([]string, error) {
	var names []string
	for name, err := range arch.Streams(ctx) {
		if err != nil {
			return nil, fmt.Errorf("list the streams of the archive: %w", err)
		}
		if redisstream.Selected(name, include, exclude) {
			names = append(names, name)
		}
	}
	if redis != nil {
		for name, err := range redis.Discover(ctx, include, exclude) {
			if err != nil {
				return nil, fmt.Errorf("list the streams in Redis: %w", err)
			}
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// look asks Redis for all streams in pipelines, and the archive for several at once.
func (s *surveyor) look(ctx context.Context, names []string) ([]Status, error) {
	infos := make([]redisstream.StreamInfo, len(names))
	if s.redis != nil {
		var err error
		if infos, err = s.redis.Infos(ctx, names); err != nil {
			return nil, fmt.Errorf("ask Redis about streams: %w", err)
		}
	}
	statuses := make([]Status, len(names))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(statusParallel)
	for i, name := range names {
		group.Go(func() error {
			st := Status{Stream: name}
			if err := s.one(ctx, &st, &infos[i]); err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				st.Err, st.Reason = err, err.Error()
			}
			statuses[i] = st
			return nil
		})
	}
	return statuses, group.Wait()
}

func (s *surveyor) one(ctx context.Context, st *Status, info *redisstream.StreamInfo) error {
	last, err := s.archived(ctx, st)
	if err != nil {
		return err
	}
	if s.redis == nil || errors.Is(info.Err, redisstream.ErrNoStream) {
		return nil
	}
	if info.Err != nil {
		return info.Err
	}
	st.Live = &Live{Length: info.Length, LastID: info.LastGeneratedID}
	return s.lag(ctx, st, last, &info.Info)
}

// position is where the archive of a stream ends.
type position struct {
	head   event.ID
	added  uint64
	digest string
	gone   bool // from Redis, as far as the log says
}

// archived fills in what the archive knows.
func (s *surveyor) archived(ctx context.Context, st *Status) (position, error) {
	var at position
	for inc, err := range s.arch.Incarnations(ctx, st.Stream) {
		if err != nil {
			return at, err
		}
		c := inc.Last
		if c == nil {
			continue
		}
		st.Archived = true
		st.Incarnations = inc.Number
		t := &st.Totals
		t.Events += c.Totals.Events
		t.Segments += c.Totals.Segments
		t.Bytes += c.Totals.Bytes
		t.RawBytes += c.Totals.RawBytes
		t.Gaps += c.Totals.Gaps
		t.Lost += c.Totals.Lost
		at = position{c.Head, c.EntriesAdded, c.HeadDigest, c.Gap != nil && c.Gap.Cause == archive.CauseRemoved}
		if c.Seal != nil { // what comes next begins at its base
			at = position{head: c.Seal.Base, added: c.Seal.BaseEntriesAdded, digest: c.Seal.BaseDigest}
		}
	}
	st.Head = at.head
	if !s.spec.Gaps || st.Gaps == 0 {
		return at, nil
	}
	plan, err := s.arch.Plan(ctx, archive.PlanSpec{Stream: st.Stream})
	if err != nil {
		return at, err
	}
	for g, err := range plan.Gaps(ctx) {
		if err != nil {
			return at, err
		}
		st.GapList = append(st.GapList, Gap{g, g.Incarnation})
	}
	return at, nil
}

// lag fills in what lies in Redis beyond the head.
func (s *surveyor) lag(ctx context.Context, st *Status, at position, info *redisstream.Info) error {
	live := st.Live
	known := info.LastID != at.head || at.digest == "" || at.digest == info.LastDigest
	if info.EntriesAdded == at.added && info.LastGeneratedID == at.head && known {
		return nil
	}
	first := info.FirstID
	if !at.head.IsZero() {
		next, same, err := s.beyond(ctx, st.Stream, at, info)
		if err != nil {
			return err
		}
		if first = next; !same {
			live.Replaced = true
			at, first = position{}, info.FirstID
		}
	}
	if live.Lag = info.EntriesAdded - at.added; live.Lag == 0 {
		return nil
	}
	if info.Length == 0 {
		live.Unarchived = live.Lag
		return nil
	}
	if at.head.Less(info.FirstID) {
		live.Unarchived = live.Lag - min(live.Lag, info.Length)
	}
	if !first.IsZero() {
		live.LagAge = max(0, s.spec.Now.Sub(timeOf(first)))
		live.LagSeconds = live.LagAge.Seconds()
	}
	return nil
}

// beyond gives the first entry in Redis beyond a position, zero if there is none, and
// whether the stream is, as far as shows, the one that was archived up to there.
func (s *surveyor) beyond(ctx context.Context, stream string, at position, info *redisstream.Info) (next event.ID, same bool, err error) {
	if !fits(*info, at.head, at.added) {
		return event.ID{}, false, nil
	}
	var b event.Batch
	if err := s.redis.Range(ctx, stream, at.head, event.MaxID, 2, &b); err != nil {
		return event.ID{}, false, err
	}
	same = !at.gone && (at.digest == "" || info.Explains(at.head))
	for i := range b.Len() {
		if b.ID(i) != at.head {
			return b.ID(i), same, nil
		}
		if at.digest != "" {
			var e event.Event
			b.Event(i, &e)
			same = event.Digest(&e) == at.digest
		}
	}
	return event.ID{}, same, nil
}

// timeOf gives the time of an ID, or of the highest one that is a time.
func timeOf(id event.ID) time.Time {
	return time.UnixMilli(int64(min(id.Ms, 1<<62)))
}
