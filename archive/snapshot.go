package archive

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/reservoirhq/reservoir/objectstore"
)

// A snapshot is what all commits up to one add up to: a zstd stream of JSON
// lines. The first is a snapshotHeader; then come the gaps in the order of
// their commits and the live segments in the order of (First, Format). It is
// written and read as a stream.
type snapshotHeader struct {
	Format  string  `json:"format"` // snapshotFormat
	Version int     `json:"version"`
	Last    *Commit `json:"last"` // without Adds and Removes; its Totals tell how many lines follow
}

const snapshotFormat = "reservoir.snapshot"

// record is one line after the header: one of both is set.
type record struct {
	Gap     *RecordedGap `json:"gap,omitempty"`
	Segment *Segment     `json:"segment,omitempty"`
}

// newestSnapshot returns the last commit of the newest readable snapshot, up to
// commit upTo unless that is 0; nil when there is none.
func (a *Archive) newestSnapshot(ctx context.Context, dir string, upTo uint64) (*Commit, error) {
	numbers, err := a.snapshots(ctx, dir)
	if err != nil {
		return nil, err
	}
	for _, n := range slices.Backward(numbers) {
		if upTo != 0 && n > upTo {
			continue
		}
		if last, _ := a.recall(dir + snapshotKey(n)); last != nil {
			return last, nil
		}
		header, err := a.snapshotHeader(ctx, dir, n)
		switch {
		case err == nil:
			a.remember(dir+snapshotKey(n), header.Last, strippedSize, time.Now())
			return header.Last, nil
		case errors.Is(err, ErrDamaged), errors.Is(err, objectstore.ErrNotFound):
			// Everything in it is in the commits and in older snapshots as well.
			a.opts.Logger.Warn("snapshot not readable; going on from an older one", "key", dir+snapshotKey(n), "error", err)
		default:
			return nil, err
		}
	}
	return nil, nil //nolint:nilnil // no snapshot is no error
}

// snapshots lists the numbers of a log's snapshots, lowest first.
func (a *Archive) snapshots(ctx context.Context, dir string) ([]uint64, error) {
	var numbers []uint64
	for info, err := range a.store.List(ctx, dir+snapshotDir, objectstore.ListOptions{}) {
		if err != nil {
			return nil, fmt.Errorf("list snapshots: %w", err)
		}
		if n, ok := parseSnapshot(strings.TrimPrefix(info.Key, dir+snapshotDir)); ok {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// snapshotReader reads one snapshot, line by line.
type snapshotReader struct {
	key    string
	body   io.ReadCloser
	zr     *zstd.Decoder
	dec    *json.Decoder
	header snapshotHeader
}

func (a *Archive) openSnapshot(ctx context.Context, dir string, number uint64, part objectstore.ByteRange) (*snapshotReader, error) {
	key := dir + snapshotKey(number)
	body, _, err := a.store.Get(ctx, key, part)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	zr, err := zstd.NewReader(body, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read %s: %w", key, err), body.Close())
	}
	r := &snapshotReader{key: key, body: body, zr: zr, dec: json.NewDecoder(bufio.NewReaderSize(zr, 16<<10))}
	if err := r.readHeader(number); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

func (r *snapshotReader) readHeader(number uint64) error {
	h := &r.header
	err := r.dec.Decode(h)
	switch {
	case err != nil:
		return r.damage(err)
	case h.Version > FormatVersion:
		return &NewerVersionError{Object: r.key, Found: h.Version, Supported: FormatVersion}
	case h.Format != snapshotFormat || h.Last == nil || h.Last.Number != number:
		return fmt.Errorf("%w: %s does not begin as a snapshot", ErrDamaged, r.key)
	}
	return nil
}

// damage tells bad content from an interrupted read.
func (r *snapshotReader) damage(err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax), errors.As(err, &kind), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, zstd.ErrMagicMismatch), errors.Is(err, zstd.ErrCRCMismatch), errors.Is(err, zstd.ErrReservedBlockType):
		return fmt.Errorf("%w: read %s: %w (it may be deleted: the commits hold all that it does)", ErrDamaged, r.key, err)
	default:
		return fmt.Errorf("read %s: %w", r.key, err)
	}
}

// records gives all lines after the header and insists on getting all of them.
func (r *snapshotReader) records(yield func(record, error) bool) {
	want := r.header.Last.Totals
	gaps, segments := uint64(0), uint64(0)
	for {
		var rec record
		switch err := r.dec.Decode(&rec); {
		case errors.Is(err, io.EOF) && gaps == want.Gaps && segments == want.Segments:
			return
		case err != nil:
			yield(record{}, r.damage(err))
			return
		case rec.Gap != nil:
			gaps++
		case rec.Segment != nil:
			segments++
		}
		if !yield(rec, nil) {
			return
		}
	}
}

func (r *snapshotReader) close() error {
	r.zr.Close()
	if err := r.body.Close(); err != nil {
		return fmt.Errorf("close %s: %w", r.key, err)
	}
	return nil
}

// headerPart is enough of a snapshot for its header, which is compressed as a
// block of its own.
var headerPart = objectstore.ByteRange{Length: 32 << 10}

func (a *Archive) snapshotHeader(ctx context.Context, dir string, number uint64) (_ *snapshotHeader, err error) {
	r, err := a.openSnapshot(ctx, dir, number, headerPart)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	return &r.header, nil
}

// snapshotRecords gives the lines of a snapshot after its header.
func (a *Archive) snapshotRecords(ctx context.Context, dir string, number uint64) iter.Seq2[record, error] {
	return func(yield func(record, error) bool) {
		r, err := a.openSnapshot(ctx, dir, number, objectstore.ByteRange{})
		if err != nil {
			yield(record{}, err)
			return
		}
		stopped := false
		r.records(func(rec record, err error) bool {
			stopped = !yield(rec, err) || err != nil
			return !stopped
		})
		if err := r.close(); err != nil && !stopped {
			yield(record{}, err)
		}
	}
}

// writeSnapshot makes the snapshot of commit number, which exists, from the
// newest one before it. Two writers make the same one.
func (a *Archive) writeSnapshot(ctx context.Context, dir string, number uint64) error {
	base, err := a.newestSnapshot(ctx, dir, number-1)
	if err != nil {
		return err
	}
	v, err := a.viewAfter(ctx, dir, base, number)
	if err != nil {
		return err
	}
	pr, pw := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		pw.CloseWithError(v.encode(ctx, pw))
	}()
	_, err = a.store.Put(ctx, dir+snapshotKey(number), pr, objectstore.IfAbsent)
	pr.CloseWithError(errors.New("snapshot upload ended")) // frees the encoder
	<-done
	if err != nil && !errors.Is(err, objectstore.ErrPrecondition) {
		return fmt.Errorf("write snapshot %d: %w", number, err)
	}
	return nil
}

func (v *view) encode(ctx context.Context, w io.Writer) error {
	zw, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(64<<10))
	if err != nil {
		return fmt.Errorf("encode snapshot: %w", err)
	}
	enc := json.NewEncoder(zw)
	if err := enc.Encode(snapshotHeader{Format: snapshotFormat, Version: FormatVersion, Last: v.last}); err != nil {
		return fmt.Errorf("encode snapshot: %w", err)
	}
	if err := zw.Flush(); err != nil {
		return fmt.Errorf("encode snapshot: %w", err)
	}
	for rec, err := range v.records(ctx) {
		if err != nil {
			return err
		}
		if err := enc.Encode(rec); err != nil {
			return fmt.Errorf("encode snapshot: %w", err)
		}
	}
	if err := zw.Close(); err != nil {
		return fmt.Errorf("encode snapshot: %w", err)
	}
	return nil
}
