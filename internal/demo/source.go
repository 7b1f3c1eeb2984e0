package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/archive/jsonl"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/shop"
)

// source gives the events to publish.
type source interface {
	total() uint64
	rate() float64      // events per second
	patterns() []string // that select the streams
	// next returns an event and its stream; io.EOF at the end.
	next() (stream string, e event.Event, err error)
	close() error
}

func openSource(ctx context.Context, opts Options) (source, error) {
	if opts.Input != "" {
		return openFile(ctx, opts)
	}
	every := time.Duration(float64(time.Second) / opts.Rate)
	return &shopSource{
		Shop:  shop.New(shop.Options{Seed: uint64(time.Now().UnixNano()), Start: time.Now(), Every: every, Malformed: 0.01}),
		count: max(1, uint64(opts.Rate*opts.Duration.Seconds())), perSecond: opts.Rate,
	}, nil
}

// Clicks is a stream of the shop that somebody trims before it was archived.
const Clicks = "shop:clicks"

// One event in clickEvery is a click.
const clickEvery = 10

// shopSource is the shop, with the clicks of its visitors.
type shopSource struct {
	*shop.Shop
	n, count  uint64
	perSecond float64
}

func (s *shopSource) total() uint64      { return s.count }
func (s *shopSource) rate() float64      { return s.perSecond }
func (s *shopSource) patterns() []string { return []string{"shop:*"} }
func (s *shopSource) close() error       { return nil }

func (s *shopSource) next() (string, event.Event, error) {
	if s.n == s.count {
		return "", event.Event{}, io.EOF
	}
	s.n++
	if s.n%clickEvery != 0 {
		stream, e := s.Next()
		return stream, e, nil
	}
	page := "/products/" + strconv.FormatUint(s.n%97, 10)
	return Clicks, event.Event{Fields: []event.Field{
		{Name: []byte("type"), Value: []byte("PageViewed")},
		{Name: []byte("tenant"), Value: []byte(shop.Tenants[s.n/clickEvery%uint64(len(shop.Tenants))])},
		{Name: []byte("time"), Value: s.Time().AppendFormat(nil, time.RFC3339Nano)},
		{Name: []byte("data"), Value: fmt.Appendf(nil, `{"page":%q,"visit":%d}`, page, s.n/7)},
	}}, nil
}

// fileSource gives the events of a JSONL file.
type fileSource struct {
	file      *os.File
	stream    string // of all events, or
	field     string // the field that says it
	count     uint64
	perSecond float64

	reader *jsonl.Reader
	batch  event.Batch
	at     int // in the batch
	event  event.Event
}

// leastRate keeps a short file from being shown for all of the duration.
const leastRate = 200

// openFile reads the file through once, so that all that is wrong with it shows before
// anything starts.
func openFile(ctx context.Context, opts Options) (_ *fileSource, err error) {
	f := &fileSource{stream: opts.Stream, field: opts.StreamField, perSecond: opts.Rate}
	if f.stream == "" {
		f.stream = fileStream(opts.Input)
	}
	if f.file, err = os.Open(opts.Input); err != nil {
		return nil, fmt.Errorf("read the input: %w", err)
	}
	if err := f.check(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("read the input %s: %w", opts.Input, err), f.close())
	}
	if f.perSecond == 0 {
		f.perSecond = max(leastRate, float64(f.count)/opts.Duration.Seconds())
	}
	return f, nil
}

// fileStream makes a stream's name of a file's: orders of /data/orders.jsonl.zst.
func fileStream(path string) string {
	name := filepath.Base(path)
	if short, _, ok := strings.Cut(name, "."); ok && short != "" {
		return short
	}
	return name
}

func (f *fileSource) check(ctx context.Context) error {
	info, err := f.file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("not a file: it is read twice, so it must be one")
	}
	for {
		if err := f.rewindAtStart(); err != nil {
			return err
		}
		_, _, err := f.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		f.count++
	}
	if f.count == 0 {
		return errors.New("holds no events")
	}
	f.reader = nil
	return nil
}

// rewindAtStart begins to read the file, unless it is being read.
func (f *fileSource) rewindAtStart() error {
	if f.reader != nil {
		return nil
	}
	if _, err := f.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	f.batch.Reset()
	f.at = 0
	var err error
	f.reader, err = jsonl.NewReader(f.file)
	return err
}

func (f *fileSource) total() uint64 { return f.count }
func (f *fileSource) rate() float64 { return f.perSecond }

// close can be called more than once.
func (f *fileSource) close() error {
	if err := f.file.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

func (f *fileSource) patterns() []string { return []string{"*"} }

func (f *fileSource) next() (string, event.Event, error) {
	if err := f.rewindAtStart(); err != nil {
		return "", event.Event{}, err
	}
	for f.at == f.batch.Len() {
		f.at = 0
		if err := f.reader.Read(&f.batch); err != nil {
			f.batch.Reset()
			return "", event.Event{}, err // io.EOF as it is
		}
	}
	f.batch.Event(f.at, &f.event)
	line := f.reader.Line(f.at)
	f.at++
	stream, err := f.streamOf(&f.event)
	if err != nil {
		return "", event.Event{}, fmt.Errorf("line %d: %w", line, err)
	}
	return stream, f.event.Clone(), nil
}

func (f *fileSource) streamOf(e *event.Event) (string, error) {
	if len(e.Fields) == 0 {
		return "", errors.New("the event has no fields, and Redis takes no such entry")
	}
	stream := f.stream
	if f.field != "" {
		value, ok := e.Get(f.field)
		if !ok || len(value) == 0 {
			return "", fmt.Errorf("the event has no field %q to say its stream", f.field)
		}
		stream = string(value)
	}
	return stream, archive.CheckStreamName(stream)
}
