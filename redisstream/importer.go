package redisstream

import (
	"context"
	"errors"
	"fmt"

	"github.com/reservoirhq/reservoir/event"
)

// ErrNotEmpty is wrapped when the stream holds entries that an import which keeps IDs did not
// make; see ImportOptions.Among.
var ErrNotEmpty = errors.New("stream is not empty")

// ErrNoID is wrapped when an entry that is to keep its ID has none.
var ErrNoID = errors.New("entry has no ID to keep")

// ImportError says which event of a batch cannot be imported. The ones before
// it were.
type ImportError struct {
	Index int // in the batch
	ID    event.ID
	Err   error
}

func (e *ImportError) Error() string {
	if e.ID.IsZero() {
		return e.Err.Error()
	}
	return fmt.Sprintf("entry %s: %v", e.ID, e.Err)
}

func (e *ImportError) Unwrap() error { return e.Err }

// ImportOptions say how entries are imported. The zero value appends events
// with new IDs.
type ImportOptions struct {
	// KeepIDs adds entries with the IDs they have, in ascending order, which
	// restores a stream. It can be done again: what is there already, and is
	// equal, is skipped.
	KeepIDs bool
	// Among lets an import that keeps IDs add to a stream that has other entries
	// too. Without it that is an ErrNotEmpty.
	Among bool
}

// Importer adds events to one stream. It is used by one goroutine at a time.
type Importer struct {
	client *Client
	stream string
	opts   ImportOptions
	writer *Writer
	there  Info     // of the stream when the import began
	last   event.ID // of the events imported
	same   event.ID // up to which the stream is known to hold the same events
	page   event.Batch
}

// Importer opens an Importer. The caller must Close it.
func (c *Client) Importer(ctx context.Context, stream string, opts ImportOptions) (*Importer, error) {
	info, err := c.Info(ctx, stream)
	if err != nil && !errors.Is(err, ErrNoStream) {
		return nil, fmt.Errorf("import into stream %q: %w", stream, err)
	}
	writer, err := c.Writer(ctx, stream)
	if err != nil {
		return nil, err
	}
	return &Importer{client: c, stream: stream, opts: opts, writer: writer, there: info}, nil
}

// Close gives the connection back. It can be called more than once.
func (i *Importer) Close() { i.writer.Close() }

// Add imports the events of a batch, in order, and returns how many it added
// and how many it skipped because they were there. An event that cannot be
// imported is an ImportError; other errors say that Redis failed. After an
// error of an import that keeps IDs the same events can be imported again, by
// another Importer.
func (i *Importer) Add(ctx context.Context, b *event.Batch) (added, skipped int, err error) {
	sound, invalid := i.check(b)
	if i.opts.KeepIDs {
		if skipped, err = i.skip(ctx, b, sound); err != nil {
			return 0, skipped, err
		}
	}
	if skipped < sound {
		added, err = i.writer.Add(ctx, b, skipped, sound, i.opts.KeepIDs)
		var low *IDTooLowError
		if errors.As(err, &low) {
			at := index(b, low.First)
			return added, skipped, &ImportError{at, low.First, fmt.Errorf("somebody else adds to stream %q: %w", i.stream, ErrIDTooLow)}
		}
		if err != nil {
			return added, skipped, err
		}
	}
	if invalid != nil {
		return added, skipped, invalid
	}
	return added, skipped, nil
}

// check returns how many events can be imported, and what is wrong with the
// next one.
func (i *Importer) check(b *event.Batch) (sound int, invalid error) {
	var e event.Event
	for n := range b.Len() {
		b.Event(n, &e)
		var err error
		switch {
		case len(e.Fields) == 0:
			err = errors.New("has no fields: Redis has no such entries")
		case !i.opts.KeepIDs:
		case e.ID.IsZero():
			err = ErrNoID
		case !i.last.Less(e.ID):
			err = fmt.Errorf("comes after %s: IDs must go up", i.last)
		}
		if err != nil {
			return n, &ImportError{n, e.ID, err}
		}
		i.last = e.ID
	}
	return b.Len(), nil
}

// skip returns how many of the first n events are in the stream already: all
// with IDs up to its last one must be.
func (i *Importer) skip(ctx context.Context, b *event.Batch, n int) (int, error) {
	below := 0
	for below < n && !i.there.LastGeneratedID.Less(b.ID(below)) {
		below++
	}
	if n == 0 || !i.same.Less(i.there.LastGeneratedID) {
		return 0, nil
	}
	from, to := i.same.Next(), i.there.LastGeneratedID
	if i.opts.Among {
		from = b.ID(0)
	}
	if below == n {
		to = b.ID(n - 1)
	}
	for found := 0; ; from = i.page.ID(i.page.Len() - 1).Next() {
		if err := i.client.Range(ctx, i.stream, from, to, writeCount, &i.page); err != nil {
			return 0, fmt.Errorf("import into stream %q: %w", i.stream, err)
		}
		var err error
		if found, err = i.compare(b, found, below); err != nil {
			return 0, err
		}
		if i.page.Len() == writeCount {
			continue
		}
		if found < below {
			return 0, i.missing(b, found)
		}
		i.same = to
		return below, nil
	}
}

// compare looks for the events [found, below) in the page, and returns how many
// are found then.
func (i *Importer) compare(b *event.Batch, found, below int) (int, error) {
	var want, have event.Event
	for k := range i.page.Len() {
		i.page.Event(k, &have)
		if found < below {
			b.Event(found, &want)
		}
		switch {
		case found < below && want.Equal(&have):
			found++
		case found < below && want.ID == have.ID:
			return found, &ImportError{found, want.ID, fmt.Errorf("stream %q has another entry with this ID", i.stream)}
		case found < below && want.ID.Less(have.ID):
			return found, i.missing(b, found)
		case !i.opts.Among:
			at := min(found, b.Len()-1)
			return found, &ImportError{at, b.ID(at), fmt.Errorf("stream %q holds %s, which is not imported: %w", i.stream, have.ID, ErrNotEmpty)}
		}
	}
	return found, nil
}

func (i *Importer) missing(b *event.Batch, n int) error {
	return &ImportError{n, b.ID(n), fmt.Errorf("cannot be added to stream %q, which is beyond it at %s and does not hold it: %w", i.stream, i.there.LastGeneratedID, ErrIDTooLow)}
}

// index finds an event by its ID.
func index(b *event.Batch, id event.ID) int {
	for n := range b.Len() {
		if b.ID(n) == id {
			return n
		}
	}
	return 0
}
