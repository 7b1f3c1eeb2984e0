package archive

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/objectstore"
)

// TestOnLocalStore lives a small life on a directory, and again with two
// archives that append, compact and collect side by side.
func TestOnLocalStore(t *testing.T) {
	store, err := objectstore.NewLocal(t.TempDir(), objectstore.LocalOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := life(t.Context(), store); err != nil {
		t.Fatal(err)
	}
	checkLife(t, store, 0)
}

// TestOnS3 lives the same life against a real S3 server.
func TestOnS3(t *testing.T) {
	server := stacktest.S3(t, stack.S3Options{Bucket: "archive"})
	store, err := objectstore.NewS3(t.Context(), objectstore.S3Options{
		Bucket: server.Bucket(), Endpoint: server.Endpoint(), AccessKey: stack.S3AccessKey, SecretKey: stack.S3SecretKey,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := life(t.Context(), store); err != nil {
		t.Fatal(err)
	}
	checkLife(t, store, 0)
}

// TestSideBySide appends from two archives to one stream while a third one
// compacts, snapshots, collects garbage and verifies.
func TestSideBySide(t *testing.T) {
	store, err := objectstore.NewLocal(t.TempDir(), objectstore.LocalOptions{})
	if err != nil {
		t.Fatal(err)
	}
	const spans = 40
	done := make(chan error, 2)
	for range cap(done) {
		go func() { done <- appendUntil(t.Context(), store, spans) }()
	}
	a := openTest(t, store)
	a.snapshotEvery = 5
	for running := cap(done); running > 0; {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			running--
		default:
		}
		if _, err := a.Compact(t.Context(), CompactSpec{Stream: "s", TargetEvents: 50}); err != nil {
			t.Fatal(err)
		}
		if _, err := a.GC(t.Context(), GCSpec{Stream: "s", Grace: 2 * time.Hour}); err != nil {
			t.Fatal(err)
		}
		r, err := a.Verify(t.Context(), VerifySpec{Stream: "s"})
		if err != nil || r.Problems > 0 {
			t.Fatalf("%v, %v", r.Findings, err)
		}
	}
	p, err := a.Plan(t.Context(), PlanSpec{Stream: "s"})
	if err != nil {
		t.Fatal(err)
	}
	n := uint64(0)
	for e, err := range p.Events(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if want := hourID(7, int(n)); e.ID != want {
			t.Fatalf("event %d is %s, want %s", n, e.ID, want)
		}
		n++
	}
	if n != 5*spans || loadLog(t, a, "s").EntriesAdded() != n {
		t.Errorf("%d events", n)
	}
}

// appendUntil archives spans of 5 events wherever the head is, until all are there.
func appendUntil(ctx context.Context, store objectstore.Store, spans int) error {
	a, err := Open(ctx, store, Options{})
	if err != nil {
		return err
	}
	l, err := a.Log(ctx, "s")
	if err != nil {
		return err
	}
	for {
		added := int(l.EntriesAdded())
		if added == 5*spans {
			return nil
		}
		err := archiveSpan(ctx, a, l, hourID(7, added))
		if errors.Is(err, ErrConflict) {
			err = l.Refresh(ctx)
		}
		if err != nil {
			return fmt.Errorf("span at %d: %w", added, err)
		}
	}
}
