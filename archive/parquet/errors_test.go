package parquet_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	pq "github.com/parquet-go/parquet-go"

	"github.com/reservoirhq/reservoir/archive/parquet"
	"github.com/reservoirhq/reservoir/event"
)

// failingWriter takes so many bytes and then fails.
type failingWriter struct{ left int }

var errFull = errors.New("disk full")

func (w *failingWriter) Write(p []byte) (int, error) {
	if len(p) > w.left {
		n := w.left
		w.left = 0
		return n, errFull
	}
	w.left -= len(p)
	return len(p), nil
}

func TestFailedWriterIsDead(t *testing.T) {
	batches := shop(3000)
	whole := new(counter)
	writeSmallGroups := func(out io.Writer) (int, error) {
		w := parquet.NewWriter(out, parquet.Options{RowGroupRows: 1000})
		for i, b := range batches {
			if err := w.Write(b, 0, b.Len()); err != nil {
				if again := w.Write(b, 0, b.Len()); !errors.Is(again, errFull) {
					t.Errorf("a second Write after a failure: %v, want the first error", again)
				}
				if closed := w.Close(); !errors.Is(closed, errFull) {
					t.Errorf("Close after a failure: %v, want the first error", closed)
				}
				return i, err
			}
		}
		err := w.Close()
		if again := w.Close(); again == nil {
			t.Error("a second Close gives no error")
		}
		return len(batches), err
	}
	if _, err := writeSmallGroups(whole); err != nil {
		t.Fatal(err)
	}
	for left := 0; left < int(whole.n); left += int(whole.n) / 37 {
		if _, err := writeSmallGroups(&failingWriter{left}); !errors.Is(err, errFull) {
			t.Errorf("room for %d of %d bytes: error %v, want %v", left, whole.n, err, errFull)
		}
	}
}

func TestObserver(t *testing.T) {
	events := sampleEvents()
	var seen []event.Event
	types := 0
	write(t, events, parquet.Options{Observe: func(e *event.Event, env *event.Envelope) {
		seen = append(seen, e.Clone())
		if _, ok := env.Get(event.Type); ok {
			types++
		}
	}})
	diff(t, seen, events)
	if types < 100 {
		t.Errorf("%d envelopes with a type, want 100 at least", types)
	}
}

func TestNewerVersion(t *testing.T) {
	file := write(t, sampleEvents(), parquet.Options{})
	file = bytes.Replace(file, []byte("reservoir.version\x18\x011"), []byte("reservoir.version\x18\x012"), 1)
	_, err := parquet.Open(bytes.NewReader(file), int64(len(file)))
	var newer *parquet.NewerVersionError
	if !errors.As(err, &newer) || newer.Version != 2 || !strings.Contains(err.Error(), "upgrade") {
		t.Errorf("error %v, want a NewerVersionError of version 2", err)
	}
}

func TestNotASegment(t *testing.T) {
	var foreign bytes.Buffer
	if err := pq.Write(&foreign, []struct{ A int }{{1}}); err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string][]byte{
		"empty":          nil,
		"short":          []byte("PAR1"),
		"text":           []byte(strings.Repeat("not parquet ", 100)),
		"foreign":        foreign.Bytes(),
		"footer too big": binary.LittleEndian.AppendUint32([]byte("PAR1xxxx"), 1<<31),
	} {
		if name == "footer too big" {
			file = append(file, "PAR1"...)
		}
		if _, err := parquet.Open(bytes.NewReader(file), int64(len(file))); !errors.Is(err, parquet.ErrInvalid) {
			t.Errorf("%s: error %v, want %v", name, err, parquet.ErrInvalid)
		}
	}
}

// consume reads until the end or an error.
func consume(file []byte) (events []event.Event, err error) {
	f, err := parquet.Open(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		return nil, err
	}
	r := f.Reader(parquet.ReadSpec{})
	defer func() { err = errors.Join(err, r.Close()) }()
	b := new(event.Batch)
	for {
		err := r.Read(b)
		if errors.Is(err, io.EOF) {
			return events, nil
		}
		if err != nil {
			return nil, err
		}
		var e event.Event
		for i := range b.Len() {
			b.Event(i, &e)
			events = append(events, e.Clone())
		}
	}
}

// A file that is damaged in its pages gives an error or, where nothing that was
// read is damaged, the right events. The footer has no checksum: there it is
// enough not to panic.
func TestDamage(t *testing.T) {
	want := sampleEvents()
	file := write(t, want, parquet.Options{RowGroupRows: 40})
	footer := len(file) - 8 - int(binary.LittleEndian.Uint32(file[len(file)-8:]))
	for i := 0; i < len(file); i += 23 {
		damaged := bytes.Clone(file)
		damaged[i] ^= 0x11
		got, err := consume(damaged)
		if err != nil || i >= footer {
			continue
		}
		if len(got) != len(want) {
			t.Fatalf("byte %d damaged: %d events and no error, want %d", i, len(got), len(want))
		}
		for j := range want {
			if !got[j].Equal(&want[j]) {
				t.Fatalf("byte %d damaged: event %d is wrong and there is no error", i, j)
			}
		}
	}
	for size := 0; size < len(file); size += 1009 {
		if _, err := consume(file[:size]); err == nil {
			t.Fatalf("cut to %d of %d bytes: no error", size, len(file))
		}
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(write(f, oddEvents()[:3], parquet.Options{}))
	f.Add(write(f, nil, parquet.Options{}))
	f.Fuzz(func(_ *testing.T, file []byte) {
		if _, err := consume(file); err != nil {
			return
		}
	})
}

// FuzzFields puts any bytes into fields, and wants them back.
func FuzzFields(f *testing.F) {
	f.Add(uint64(1), uint64(2), []byte("type"), []byte("A"), []byte("payload"), []byte(`{"a":1}`))
	f.Add(^uint64(0), ^uint64(0), []byte("event"), []byte(`{"id":"1","type":"T","data":{}}`), []byte(""), []byte("\xff"))
	f.Add(uint64(0), uint64(1), []byte("ts"), []byte("2026-11-21T07:08:09.123Z"), []byte("version"), []byte("-0"))
	f.Add(uint64(0), uint64(1), []byte("data"), []byte(`{"specversion":"1.0","id":"\u0031","data":[]}`), []byte("content-type"), []byte("application/cloudevents+json"))
	f.Fuzz(func(t *testing.T, ms, seq uint64, name1, value1, name2, value2 []byte) {
		id := event.ID{Ms: ms, Seq: seq}
		want := []event.Event{
			{ID: id, Fields: []event.Field{{Name: name1, Value: value1}}},
			{ID: id, Fields: []event.Field{{Name: name1, Value: value1}, {Name: name2, Value: value2}}},
			{ID: id, Fields: []event.Field{{Name: name1, Value: value2}, {Name: name2, Value: value1}, {Name: name1, Value: name2}}},
		}
		diff(t, read(t, open(t, write(t, want, parquet.Options{})), parquet.ReadSpec{}), want)
	})
}
