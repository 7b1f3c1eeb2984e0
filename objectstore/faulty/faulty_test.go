package faulty_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/objectstore/faulty"
	"github.com/reservoirhq/reservoir/objectstore/storetest"
)

func local(t *testing.T) objectstore.Store {
	t.Helper()
	s, err := objectstore.NewLocal(t.TempDir(), objectstore.LocalOptions{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(ctx context.Context, s objectstore.Store, key, text string) error {
	_, err := s.Put(ctx, key, strings.NewReader(text), objectstore.IfAbsent)
	return err
}

func read(ctx context.Context, s objectstore.Store, key string) (string, error) {
	body, _, err := s.Get(ctx, key, objectstore.ByteRange{})
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(body)
	return string(text), errors.Join(err, body.Close())
}

func TestNoFaults(t *testing.T) {
	storetest.Run(t, func(t *testing.T) objectstore.Store { return faulty.New(local(t), nil) })
}

// TestCrashSweep runs three puts and two reads with a crash at each step.
func TestCrashSweep(t *testing.T) {
	run := func(s objectstore.Store) error {
		ctx := t.Context()
		for i := range 3 {
			if err := put(ctx, s, fmt.Sprint("k", i), "text"); err != nil {
				return err
			}
		}
		if _, err := read(ctx, s, "k0"); err != nil {
			return err
		}
		return s.Delete(ctx, "k0")
	}
	calm := faulty.New(local(t), nil)
	if err := run(calm); err != nil || calm.Steps() != 5 {
		t.Fatalf("without faults: %v after %d steps", err, calm.Steps())
	}
	for n := 1; n <= calm.Steps(); n++ {
		for _, after := range []bool{false, true} {
			inner := local(t)
			s := faulty.New(inner, faulty.CrashAt(n, after))
			if err := run(s); !errors.Is(err, faulty.ErrCrashed) {
				t.Errorf("crash at %d: %v", n, err)
			}
			if s.Steps() != n || !s.Crashed() {
				t.Errorf("crash at %d came after %d steps", n, s.Steps())
			}
			effects := n - 1
			if after {
				effects = n
			}
			for i := range 3 {
				_, err := inner.Head(t.Context(), fmt.Sprint("k", i))
				want := i < effects && (i > 0 || effects < 5)
				if (err == nil) != want {
					t.Errorf("crash at %d, after=%v: k%d is there: %v, want %v", n, after, i, err == nil, want)
				}
			}
			if err := put(t.Context(), s, "later", "x"); !errors.Is(err, faulty.ErrCrashed) {
				t.Errorf("after the crash: %v", err)
			}
		}
	}
}

func TestCrashReachesOpenBodiesAndListings(t *testing.T) {
	s := faulty.New(local(t), faulty.CrashAt(5, false))
	for _, key := range []string{"a", "b"} {
		if err := put(t.Context(), s, key, "text"); err != nil {
			t.Fatal(err)
		}
	}
	body, _, err := s.Get(t.Context(), "a", objectstore.ByteRange{})
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	for _, err := range s.List(t.Context(), "", objectstore.ListOptions{}) {
		if failed = err; err == nil {
			if err := s.Delete(t.Context(), "a"); !errors.Is(err, faulty.ErrCrashed) {
				t.Fatal(err)
			}
		}
	}
	if !errors.Is(failed, faulty.ErrCrashed) {
		t.Errorf("the listing ends with %v", failed)
	}
	if _, err := io.ReadAll(body); !errors.Is(err, faulty.ErrCrashed) {
		t.Errorf("the body ends with %v", err)
	}
	if err := body.Close(); err != nil {
		t.Error(err)
	}
}

func TestFailAtAndBreak(t *testing.T) {
	boom := errors.New("boom")
	inner := local(t)
	s := faulty.New(inner, faulty.FailAt(1, true, boom))
	if err := put(t.Context(), s, "k", "text"); !errors.Is(err, boom) {
		t.Errorf("the first put gives %v", err)
	}
	if err := put(t.Context(), s, "k", "text"); !errors.Is(err, objectstore.ErrPrecondition) {
		t.Errorf("the second put gives %v, though the first had its effect", err)
	}
	broken := faulty.New(inner, func(faulty.Step) faulty.Fault { return faulty.Fault{Break: true, Keep: 2} })
	if text, err := read(t.Context(), broken, "k"); text != "te" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("read %q, %v", text, err)
	}
}

func TestRandomRepeatsAndKeepsItsRates(t *testing.T) {
	rates := faulty.Rates{Before: 0.2, After: 0.1, Break: 0.3, MaxDelay: time.Second}
	one, two := faulty.Random(7, rates), faulty.Random(7, rates)
	const n = 20000
	var before, after, breaks int
	for i := range n {
		a, b := one(faulty.Step{N: i}), two(faulty.Step{N: i})
		if a != b {
			t.Fatalf("step %d: %+v and %+v", i, a, b)
		}
		switch {
		case a.Err != nil && a.After:
			after++
		case a.Err != nil:
			before++
		}
		if a.Break {
			breaks++
		}
	}
	for name, got := range map[string][2]float64{"before": {float64(before) / n, 0.2}, "after": {float64(after) / n, 0.1}, "break": {float64(breaks) / n, 0.3}} {
		if got[0] < got[1]-0.02 || got[0] > got[1]+0.02 {
			t.Errorf("%s: rate %v, want %v", name, got[0], got[1])
		}
	}
}

func TestDelay(t *testing.T) {
	s := faulty.New(local(t), func(faulty.Step) faulty.Fault { return faulty.Fault{Delay: time.Hour} })
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		if err := put(t.Context(), s, "k", "text"); err != nil || time.Since(start) != time.Hour {
			t.Errorf("put: %v after %v", err, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := s.Head(ctx, "k"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("head: %v", err)
		}
	})
}
