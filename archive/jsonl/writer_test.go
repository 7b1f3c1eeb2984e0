package jsonl_test

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/reservoirhq/reservoir/archive/jsonl"
	"github.com/reservoirhq/reservoir/event"
)

// failAfter takes n bytes, then fails; or it takes too little without a word.
type failAfter struct {
	n   int
	err error
}

func (f *failAfter) Write(p []byte) (int, error) {
	if len(p) <= f.n {
		f.n -= len(p)
		return len(p), nil
	}
	n := f.n
	f.n = 0
	return n, f.err
}

func TestWriterFails(t *testing.T) {
	batch := shopEvents(50)
	size := len(encode(t, jsonl.Options{FrameBytes: 2000}, shop(50)...))
	full := errors.New("disk full")
	w := jsonl.NewWriter(nil, jsonl.Options{})
	for n := 0; n < size; n += 37 {
		for err, want := range map[error]error{full: full, nil: io.ErrShortWrite} {
			w.Reset(&failAfter{n, err}, jsonl.Options{FrameBytes: 2000})
			werr := w.Write(batch, 0, batch.Len())
			cerr := w.Close()
			if !errors.Is(cerr, want) || werr != nil && !errors.Is(werr, want) {
				t.Fatalf("after %d bytes: %v, %v", n, werr, cerr)
			}
			if w.Bytes() != int64(n) {
				t.Fatalf("Bytes() = %d, want %d", w.Bytes(), n)
			}
			if again := w.Write(batch, 0, 1); again == nil {
				t.Fatal("a failed writer went on")
			}
			if again := w.Close(); !errors.Is(again, want) {
				t.Fatalf("second Close: %v", again)
			}
		}
	}
}

func TestWriterClosed(t *testing.T) {
	var file bytes.Buffer
	w := jsonl.NewWriter(&file, jsonl.Options{})
	batch := shopEvents(2)
	if err := errors.Join(w.Write(batch, 1, 2), w.Close()); err != nil {
		t.Fatal(err)
	}
	size := file.Len()
	if w.Write(batch, 0, 1) == nil {
		t.Error("wrote after Close")
	}
	if err := w.Close(); err != nil || file.Len() != size {
		t.Errorf("second Close: %v, %d more bytes", err, file.Len()-size)
	}
	if got, err := decode(file.Bytes()); err != nil || sameEvents(got, shop(2)[1:]) != nil {
		t.Errorf("%v, %v", got, err)
	}
}

// TestWriterReset: a recycled writer writes the same as a new one.
func TestWriterReset(t *testing.T) {
	batch := shopEvents(3000)
	want := encode(t, jsonl.Options{Stream: "b"}, shop(3000)...)
	w := jsonl.NewWriter(&failAfter{1000, io.ErrClosedPipe}, jsonl.Options{Stream: "a"})
	if w.Write(batch, 0, batch.Len()) == nil {
		t.Fatal("no error")
	}
	for range 2 {
		var file bytes.Buffer
		w.Reset(&file, jsonl.Options{Stream: "b"})
		if err := errors.Join(w.Write(batch, 0, batch.Len()), w.Close()); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(file.Bytes(), want) || w.Bytes() != int64(len(want)) {
			t.Error("another file")
		}
	}
}

func TestAllocations(t *testing.T) {
	batch := shopEvents(5000)
	w := jsonl.NewWriter(io.Discard, jsonl.Options{})
	write := func() {
		if err := w.Write(batch, 0, batch.Len()); err != nil {
			t.Fatal(err)
		}
	}
	write()
	if n := testing.AllocsPerRun(3, write) / float64(batch.Len()); n > 0.001 {
		t.Errorf("writing allocates %.4f times an event", n)
	}
	file := encode(t, jsonl.Options{}, shop(5000)...)
	var b event.Batch
	read := func() {
		r, err := jsonl.NewReader(bytes.NewReader(file))
		for err == nil {
			err = r.Read(&b)
		}
		if !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
	read()
	if n := testing.AllocsPerRun(3, read) / float64(batch.Len()); n > 0.05 { // what opening a file takes
		t.Errorf("reading allocates %.4f times an event", n)
	}
}

// TestMemoryAfterGiants: an enormous value does not stay in memory.
func TestMemoryAfterGiants(t *testing.T) {
	giant := batchOf(event.Event{Fields: fields("a", strings.Repeat("\xff", 16<<20), "b", `["`+strings.Repeat("x", 16<<20)+`"]`)})
	small := shopEvents(3000)
	var file bytes.Buffer
	w := jsonl.NewWriter(&file, jsonl.Options{})
	for _, b := range []*event.Batch{giant, small, small} {
		if err := w.Write(b, 0, b.Len()); err != nil {
			t.Fatal(err)
		}
	}
	before := heap()
	err := w.Close()
	w.Reset(io.Discard, jsonl.Options{})
	if held := before - heapWithout(&w); err != nil || held > 8<<20 {
		t.Errorf("the writer holds %d MiB (%v)", held>>20, err)
	}
	r, err := jsonl.NewReader(&file)
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < 4000; {
		var b event.Batch
		if err := r.Read(&b); err != nil {
			t.Fatal(err)
		}
		n += b.Len()
	}
	before = heap()
	if held := before - heapWithout(&r); held > 12<<20 {
		t.Errorf("the reader holds %d MiB", held>>20)
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// heapWithout returns the heap after *p was dropped.
func heapWithout[T any](p *T) int64 {
	var zero T
	*p = zero
	return heap()
}
