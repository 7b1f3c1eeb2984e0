package migrations

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"path"
	"strings"
	"time"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/chstore"
)

// filesBlock is how many changes are written at once, more where an hour is not over:
// what compaction does to an hour is seen as a whole.
const filesBlock = 50_000

// Place is where ClickHouse finds the archive.
type Place struct {
	// S3 is the bucket; nil: Root is a directory on the server of ClickHouse. Keys in it
	// are not written into views, but into a named collection, which needs the privilege
	// NAMED COLLECTION ADMIN.
	S3 *chstore.S3
	// Root is the prefix in the bucket, or the absolute path of the directory.
	Root string
	// Grace is how long files stay that the archive does not name any more
	// (retention.gc_grace): views refuse to be read when their lists are older.
	Grace time.Duration
}

// StreamReport says what SyncArchive did for a stream.
type StreamReport struct {
	Stream string `json:"stream"`
	// View is its name; empty when there is none, for want of Parquet files.
	View   string `json:"view,omitempty"`
	Files  uint64 `json:"files"`
	Events uint64 `json:"events"`
	// LeftOut events are in the archive as JSONL only, and not in the view.
	LeftOut uint64 `json:"left_out,omitempty"`
	Added   uint64 `json:"added"`   // files
	Removed uint64 `json:"removed"` // files
	// Made says that the view was made, or made again.
	Made bool `json:"made,omitempty"`
	// ValidUntil is when the view refuses to be read unless it is synced before.
	ValidUntil time.Time `json:"valid_until"`
}

// SyncArchive brings the views over the archive up to date: which files belong to it,
// and a view for each stream. It reads the commit logs, not the files. Several may run
// at once; readers see a compaction of an hour as a whole.
func (m *Migrator) SyncArchive(ctx context.Context, arch *archive.Archive, place Place) ([]StreamReport, error) {
	if err := m.require(ctx, archiveVersion); err != nil {
		return nil, err
	}
	place.Grace = max(place.Grace, archive.MinGrace)
	if err := m.collection(ctx, &place); err != nil {
		return nil, err
	}
	reports := []StreamReport{}
	for stream, err := range arch.Streams(ctx) {
		if err != nil {
			return reports, fmt.Errorf("list the streams of the archive: %w", err)
		}
		report, err := m.syncStream(ctx, arch, stream, place)
		if err != nil {
			return reports, fmt.Errorf("stream %q: %w", stream, err)
		}
		reports = append(reports, report)
	}
	return reports, nil
}

func (m *Migrator) syncStream(ctx context.Context, arch *archive.Archive, stream string, place Place) (StreamReport, error) {
	report := StreamReport{Stream: stream}
	// Another sync may write what it saw before this one: look until nothing differs.
	const looks = 5
	var directories []string
	for range looks {
		seen := time.Now()
		l, err := m.syncFiles(ctx, arch, stream)
		if err != nil {
			return report, err
		}
		report.Files, report.Events, report.LeftOut = l.files, l.events, l.leftOut
		report.Added += l.added
		report.Removed += l.removed
		report.ValidUntil = seen.Add(place.Grace).UTC().Truncate(time.Millisecond)
		directories = l.directories
		if l.added+l.removed == 0 {
			break
		}
	}
	if err := m.streamRow(ctx, &report, viewName(stream)); err != nil {
		return report, err
	}
	if len(directories) == 0 {
		return report, nil
	}
	report.View = viewName(stream)
	var err error
	report.Made, err = m.makeView(ctx, stream, place, directories)
	return report, err
}

func (m *Migrator) streamRow(ctx context.Context, r *StreamReport, view string) error {
	if r.Files == 0 {
		view = ""
	}
	var before uint64
	where := " WHERE stream = " + chstore.Literal(r.Stream)
	if err := m.db.QueryRowContext(ctx, "SELECT max(revision) FROM "+m.table("archive_streams")+where).Scan(&before); err != nil {
		return m.failed("read what is known of the stream", err)
	}
	now := time.Now()
	return m.insert(ctx, "archive_streams", []string{"stream", "view", "files", "events", "left_out", "synced_at", "valid_until", "revision"},
		[][]any{{r.Stream, view, r.Files, r.Events, r.LeftOut, now.UTC(), r.ValidUntil, revision(now, before)}})
}

// fileRow is one row of archive_files.
type fileRow struct {
	incarnation     uint32
	file, directory string
	firstMs, lastMs uint64
	events          uint64
	bytes, raw      uint64
	revision        uint64
}

// compare orders as the table does. Within an incarnation files sort by their first ID.
func (f fileRow) compare(other fileRow) int {
	if f.incarnation != other.incarnation {
		return int(int64(f.incarnation) - int64(other.incarnation))
	}
	return strings.Compare(f.file, other.file)
}

// look is what one comparison of a stream's files found and did.
type look struct {
	m                      *Migrator
	stream                 string
	now                    time.Time
	pending                [][]any
	hour                   string // of the last one pending
	files, events, leftOut uint64
	added, removed         uint64
	directories            []string // of the formats, one of each incarnation
}

// syncFiles compares the files of a stream with those that the table knows, side by
// side, and writes what differs.
func (m *Migrator) syncFiles(ctx context.Context, arch *archive.Archive, stream string) (*look, error) {
	l := &look{m: m, stream: stream, now: time.Now()}
	// The view of the archive is newer than that of the table, or what the table got
	// meanwhile would look as if it were gone.
	rows, err := m.db.QueryContext(ctx, "SELECT incarnation, file, directory, first_ms, last_ms, events, bytes, raw_bytes, revision FROM "+
		m.table("archive_files")+" FINAL WHERE stream = "+chstore.Literal(stream)+" AND removed = 0 ORDER BY incarnation, file")
	if err != nil {
		return nil, m.failed("read the list of files", err)
	}
	plan, err := arch.Plan(ctx, archive.PlanSpec{Stream: stream, Format: archive.Parquet})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("look at the archive: %w", err), rows.Close())
	}
	next, stop := iter.Pull2(l.archived(ctx, plan))
	err = l.compare(ctx, rows, next)
	stop()
	err = errors.Join(err, rows.Close())
	if err == nil {
		err = l.flush(ctx)
	}
	return l, m.failed("bring the list of files up to date", err)
}

// archived gives the Parquet files of a plan.
func (l *look) archived(ctx context.Context, plan *archive.Plan) iter.Seq2[fileRow, error] {
	return func(yield func(fileRow, error) bool) {
		for segment, err := range plan.Segments(ctx) {
			if err != nil {
				yield(fileRow{}, err)
				return
			}
			if segment.Format != archive.Parquet {
				l.leftOut += segment.Count
				continue
			}
			row := fileRow{
				incarnation: uint32(segment.Incarnation), file: path.Base(segment.Path), directory: path.Dir(segment.Path),
				firstMs: segment.First.Ms, lastMs: segment.Last.Ms, events: segment.Count,
				bytes: uint64(segment.Bytes), raw: uint64(segment.Raw),
			}
			l.files++
			l.events += row.events
			if d := path.Dir(path.Dir(row.directory)); len(l.directories) == 0 || l.directories[len(l.directories)-1] != d {
				l.directories = append(l.directories, d)
			}
			if !yield(row, nil) {
				return
			}
		}
	}
}

// compare merges what the table lists with what is archived.
func (l *look) compare(ctx context.Context, rows *sql.Rows, next func() (fileRow, error, bool)) error {
	listed, more, err := scanFile(rows)
	if err != nil {
		return err
	}
	for {
		archived, err, ok := next()
		if err != nil {
			return err
		}
		for more && (!ok || listed.compare(archived) < 0) {
			l.removed++
			if err := l.write(ctx, listed, true); err != nil {
				return err
			}
			if listed, more, err = scanFile(rows); err != nil {
				return err
			}
		}
		if !ok {
			return rows.Err()
		}
		if more && listed.compare(archived) == 0 {
			if listed, more, err = scanFile(rows); err != nil {
				return err
			}
			continue
		}
		l.added++
		if err := l.write(ctx, archived, false); err != nil {
			return err
		}
	}
}

func scanFile(rows *sql.Rows) (f fileRow, ok bool, err error) {
	if !rows.Next() {
		return f, false, rows.Err()
	}
	err = rows.Scan(&f.incarnation, &f.file, &f.directory, &f.firstMs, &f.lastMs, &f.events, &f.bytes, &f.raw, &f.revision)
	return f, true, err
}

func (l *look) write(ctx context.Context, f fileRow, removed bool) error {
	if len(l.pending) >= filesBlock && f.directory != l.hour {
		if err := l.flush(ctx); err != nil {
			return err
		}
	}
	l.hour = f.directory
	gone := uint8(0)
	if removed {
		gone = 1
	}
	l.pending = append(l.pending, []any{l.stream, f.incarnation, f.file, f.directory, f.firstMs, f.lastMs, f.events, f.bytes, f.raw, gone, revision(l.now, f.revision)})
	return nil
}

func (l *look) flush(ctx context.Context) error {
	err := l.m.insert(ctx, "archive_files", []string{"stream", "incarnation", "file", "directory", "first_ms", "last_ms", "events", "bytes", "raw_bytes", "removed", "revision"}, l.pending)
	l.pending = l.pending[:0]
	return err
}
