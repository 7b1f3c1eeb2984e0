package jsonl_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/reservoirhq/reservoir/archive/jsonl"
	"github.com/reservoirhq/reservoir/event"
)

func TestSmoke(t *testing.T) {
	in := shopEvents(5000)
	var file bytes.Buffer
	w := jsonl.NewWriter(&file, jsonl.Options{Stream: "o\xff", Incarnation: 3})
	if err := errors.Join(w.Write(in, 0, in.Len()), w.Close()); err != nil {
		t.Fatal(err)
	}
	r, err := jsonl.NewReader(&file)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(r.Header())
	var b event.Batch
	var x, y event.Event
	n := 0
	for {
		err := r.Read(&b)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for i := range b.Len() {
			b.Event(i, &x)
			in.Event(n, &y)
			if !x.Equal(&y) {
				t.Fatalf("%v\n%v", x, y)
			}
			n++
		}
	}
	if n != in.Len() {
		t.Fatal(n)
	}
}
