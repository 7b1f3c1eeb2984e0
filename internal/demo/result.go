package demo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/event"
)

// Result is what was done, and whether it is right.
type Result struct {
	Streams  []Stream // by name
	Kills    int
	Took     time.Duration
	Verified archive.VerifyTotals
	// Problems are what Verify found, and where the archive is not what was
	// published. There should be none.
	Problems []string
	// Tables is what became of the projections; nil when there were none.
	Tables *Tables
	// Replay is what was replayed, nil when nothing was: the archive has problems,
	// or NoReplay says why.
	Replay   *Replay
	NoReplay string
}

// Stream is what became of one stream.
type Stream struct {
	Name           string
	Published      uint64
	PublishedBytes int64 // names and values
	Archived       uint64
	RawBytes       int64 // of what is archived
	Segments       uint64
	JSONLBytes     int64
	ParquetBytes   int64
	Gaps           []archive.RecordedGap
	Lost           uint64
}

// Total adds up the streams.
func (r Result) Total() Stream {
	var t Stream
	for _, s := range r.Streams {
		t.Published += s.Published
		t.PublishedBytes += s.PublishedBytes
		t.Archived += s.Archived
		t.RawBytes += s.RawBytes
		t.Segments += s.Segments
		t.JSONLBytes += s.JSONLBytes
		t.ParquetBytes += s.ParquetBytes
		t.Gaps = append(t.Gaps, s.Gaps...)
		t.Lost += s.Lost
	}
	return t
}

// compare verifies the archive, and reads it once more in each format to compare it
// with the record.
func (d *Demo) compare(ctx context.Context, published *records) (Result, error) {
	var result Result
	problem := func(format string, args ...any) {
		result.Problems = append(result.Problems, fmt.Sprintf(format, args...))
	}
	names, err := d.streamNames(ctx, published)
	if err != nil {
		return result, err
	}
	for _, name := range names {
		report, err := d.archive.Verify(ctx, archive.VerifySpec{Stream: name})
		if err != nil {
			return result, fmt.Errorf("verify %s: %w", name, err)
		}
		for _, f := range report.Findings {
			if f.Severity == archive.Problem {
				problem("%s", f)
			}
		}
		t := &result.Verified
		t.Commits += report.Verified.Commits
		t.Segments += report.Verified.Segments
		t.Events += report.Verified.Events
		t.Bytes += report.Verified.Bytes
		s, err := d.compareStream(ctx, name, published.streams[name], problem)
		if err != nil {
			return result, fmt.Errorf("compare %s with what was published: %w", name, err)
		}
		result.Streams = append(result.Streams, s)
	}
	return result, nil
}

// streamNames are those of both the record and the archive.
func (d *Demo) streamNames(ctx context.Context, published *records) ([]string, error) {
	var names []string
	for name := range published.streams {
		names = append(names, name)
	}
	for name, err := range d.archive.Streams(ctx) {
		if err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

func (d *Demo) compareStream(ctx context.Context, name string, published *record, problem func(string, ...any)) (Stream, error) {
	s := Stream{Name: name}
	if published == nil {
		problem("%s: is in the archive, and nothing was published to it", name)
		return s, nil
	}
	s.Published, s.PublishedBytes = published.count, published.bytes
	for _, format := range []archive.Format{archive.JSONL, archive.Parquet} {
		plan, err := d.archive.Plan(ctx, archive.PlanSpec{Stream: name, Format: format})
		if err != nil {
			return s, err
		}
		s.Gaps, s.Archived, s.Lost = nil, 0, plan.Totals.Lost
		for gap, err := range plan.Gaps(ctx) {
			if err != nil {
				return s, err
			}
			s.Gaps = append(s.Gaps, gap)
		}
		if err := s.addSegments(ctx, plan, format, problem); err != nil {
			return s, err
		}
		sum, err := s.read(ctx, plan)
		if err != nil {
			return s, err
		}
		want, wantSum := published.count, published.sum()
		if len(s.Gaps) > 0 && published.keep {
			want, wantSum = published.without(s.lost)
		}
		if s.Archived != want || sum != wantSum {
			problem("%s: %d events in %s are not the %d that were published, in order and byte for byte", name, s.Archived, format, want)
		}
		if s.Archived+s.Lost != s.Published {
			problem("%s: %d archived in %s and %d recorded as lost are not the %d published", name, s.Archived, format, s.Lost, s.Published)
		}
	}
	return s, nil
}

func (s *Stream) addSegments(ctx context.Context, plan *archive.Plan, format archive.Format, problem func(string, ...any)) error {
	for seg, err := range plan.Segments(ctx) {
		if err != nil {
			return err
		}
		s.Segments++
		switch {
		case seg.Format != format:
			problem("%s: a segment is not there in %s", s.Name, format)
		case format == archive.JSONL:
			s.JSONLBytes += seg.Bytes
		default:
			s.ParquetBytes += seg.Bytes
		}
	}
	return nil
}

// read counts the events of the plan, and gives their hash.
func (s *Stream) read(ctx context.Context, plan *archive.Plan) (sum string, err error) {
	h := sha256.New()
	s.RawBytes = 0
	for e, err := range plan.Events(ctx) {
		if err != nil {
			return "", err
		}
		s.Archived++
		s.RawBytes += int64(e.Size())
		writeEntry(h, e.ID, event.Digest(e))
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// lost reports whether an ID lies in a recorded gap.
func (s *Stream) lost(id event.ID) bool {
	return slices.ContainsFunc(s.Gaps, func(g archive.RecordedGap) bool {
		return g.After.Less(id) && !g.UpTo.Less(id)
	})
}
