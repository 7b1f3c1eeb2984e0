// Package archive keeps streams of events on an object store: immutable
// segments in open formats (JSONL and Parquet), and per incarnation of a stream
// one log of commits that says which of them count. A commit is made with one
// conditional write, which is the only coordination there is: any number of
// processes may write, compact and collect garbage side by side, and readers
// hold a consistent view without any lock.
//
// This package alone knows the layout; docs/format.md specifies it.
package archive

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/reservoirhq/reservoir/archive/parquet"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/recent"
	"github.com/reservoirhq/reservoir/objectstore"
)

// FormatVersion is the version of the layout, the log and its snapshots that
// this package writes, and the newest that it reads.
const FormatVersion = 1

// Options tune an Archive. The zero value takes the documented defaults.
type Options struct {
	// Writer tells in every commit who made it; default host, pid and a random text.
	Writer string
	// Clock gives the time of commits and the age of segments; default time.Now.
	Clock func() time.Time
	// Logger gets what has a correct fallback, such as a snapshot that could
	// not be written; default none.
	Logger *slog.Logger
	// Mapping says where events carry their envelope; it is used for what is
	// written, for summaries and for filters.
	Mapping event.Mapping
	// Remember bounds the bytes of memory for commits that were read a moment ago, for
	// who looks at the same logs again and again; 0: none. What is read is no older for
	// it, as commits never change: the end of a log is looked for on the store each
	// time. Only what somebody removes there by hand may be seen for another minute, so
	// it is not for maintenance.
	Remember int64
}

// Archive is all streams kept on one object store. It is safe for concurrent use.
type Archive struct {
	store   objectstore.Store
	opts    Options
	mapping string // digest of opts.Mapping

	snapshotEvery uint64

	parquets, jsonls sync.Pool // writers to Reset
	memory           parquet.Memory
	remembered       *recent.Cache[remembered]

	mu     sync.Mutex
	marked bool // the marker is known to be there
}

// marker is the JSON of the object that tells an archive, and its version.
type marker struct {
	Format  string `json:"format"`
	Version int    `json:"version"`
}

const markerFormat = "reservoir.archive"

// Open opens the archive on store, which holds nothing else (wrap it in a
// prefix otherwise). An empty store is an empty archive: it is marked as one by
// the first commit. An archive of a newer version is refused with an error that
// is ErrNewerVersion.
func Open(ctx context.Context, store objectstore.Store, opts Options) (*Archive, error) {
	if opts.Writer == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "unknown"
		}
		opts.Writer = fmt.Sprintf("%s/%d/%s", host, os.Getpid(), rand.Text())
	}
	if opts.Clock == nil {
		opts.Clock = time.Now
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if err := opts.Mapping.Validate(); err != nil {
		return nil, fmt.Errorf("open archive: %w", err)
	}
	mapping, err := mappingDigest(opts.Mapping)
	if err != nil {
		return nil, fmt.Errorf("open archive: %w", err)
	}
	a := &Archive{store: store, opts: opts, mapping: mapping, snapshotEvery: snapshotEvery}
	if opts.Remember > 0 {
		a.remembered = recent.New[remembered](opts.Remember)
	}
	err = a.checkMarker(ctx)
	switch {
	case err == nil:
		a.marked = true
	case !errors.Is(err, objectstore.ErrNotFound):
		return nil, fmt.Errorf("open archive: %w", err)
	}
	return a, nil
}

// checkMarker wraps objectstore.ErrNotFound when there is none.
func (a *Archive) checkMarker(ctx context.Context) error {
	body, err := a.read(ctx, markerKey)
	if err != nil {
		return err
	}
	var m marker
	if err := json.Unmarshal(body, &m); err != nil || m.Format != markerFormat || m.Version < 1 {
		return fmt.Errorf("%w: %s is not that of a reservoir archive: %.100q", ErrDamaged, markerKey, body)
	}
	if m.Version > FormatVersion {
		return &NewerVersionError{Object: markerKey, Found: m.Version, Supported: FormatVersion}
	}
	return nil
}

// mark makes sure that the marker is there before anything is committed.
func (a *Archive) mark(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.marked {
		return nil
	}
	body, err := json.Marshal(marker{Format: markerFormat, Version: FormatVersion})
	if err != nil {
		return fmt.Errorf("mark archive: %w", err)
	}
	_, err = a.store.Put(ctx, markerKey, bytes.NewReader(append(body, '\n')), objectstore.IfAbsent)
	if errors.Is(err, objectstore.ErrPrecondition) {
		err = a.checkMarker(ctx)
	}
	if err != nil {
		return fmt.Errorf("mark archive: %w", err)
	}
	a.marked = true
	return nil
}

// maxDocument bounds the commits and markers that are read into memory.
const maxDocument = 64 << 20

// read returns a small object whole.
func (a *Archive) read(ctx context.Context, key string) (_ []byte, err error) {
	body, _, err := a.store.Get(ctx, key, objectstore.ByteRange{})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	b, err := io.ReadAll(io.LimitReader(body, maxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	if len(b) > maxDocument {
		return nil, fmt.Errorf("%w: %s has more than %d bytes", ErrDamaged, key, maxDocument)
	}
	return b, nil
}

// Streams gives the names of all streams that have anything in the archive, in
// the order in which the store lists them.
func (a *Archive) Streams(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if _, err := a.streamsUnder(ctx, streamsDir, yield); err != nil {
			yield("", fmt.Errorf("list streams: %w", err))
		}
	}
}

func (a *Archive) streamsUnder(ctx context.Context, dir string, yield func(string, error) bool) (more bool, err error) {
	for info, err := range a.store.List(ctx, dir, objectstore.ListOptions{Delimited: true}) {
		if err != nil {
			return false, err
		}
		element := strings.TrimSuffix(strings.TrimPrefix(info.Key, dir), "/")
		if !info.Prefix || element == "" {
			continue // not ours
		}
		if continued(element) {
			if more, err := a.streamsUnder(ctx, info.Key, yield); err != nil || !more {
				return more, err
			}
			continue
		}
		name, err := unescape(strings.TrimSuffix(strings.TrimPrefix(info.Key, streamsDir), "/"))
		if err != nil {
			a.opts.Logger.Warn("directory in the archive is not that of a stream", "key", info.Key)
			continue
		}
		if !yield(name, nil) {
			return false, nil
		}
	}
	return true, nil
}

// newestIncarnation returns the highest incarnation that a listing knows, or 0.
// There may be a later one: what the seals say counts.
func (a *Archive) newestIncarnation(ctx context.Context, stream string) (int, error) {
	newest := 0
	dir := streamDir(stream)
	for info, err := range a.store.List(ctx, dir, objectstore.ListOptions{Delimited: true}) {
		if err != nil {
			return 0, fmt.Errorf("list incarnations: %w", err)
		}
		if n, ok := parseIncarnation(strings.TrimSuffix(strings.TrimPrefix(info.Key, dir), "/")); ok && info.Prefix {
			newest = max(newest, n)
		}
	}
	return newest, nil
}
