package httpapi

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// An answer is never older than it may be, and everybody who waits shares the next one.
func TestSharedAnswers(t *testing.T) {
	for _, age := range []time.Duration{0, time.Second} {
		synctest.Test(t, func(t *testing.T) {
			s := newShared[time.Time](age, time.Minute)
			asked := 0
			ask := func(context.Context) (time.Time, error) {
				asked++
				began := time.Now()
				time.Sleep(100 * time.Millisecond) //nolint:forbidigo // it is no real time
				return began, nil
			}
			for wave := range 5 { // more while the first is asked for, and after it
				for range 20 {
					came := time.Now()
					go func() {
						got, err := s.get(t.Context(), "k", ask)
						if err != nil || came.Sub(got) > age {
							t.Errorf("age %s, wave %d: %s old, %v", age, wave, came.Sub(got), err)
						}
					}()
				}
				synctest.Wait()
				time.Sleep(30 * time.Millisecond) //nolint:forbidigo // it is no real time
			}
			time.Sleep(time.Second) //nolint:forbidigo // it is no real time
			synctest.Wait()
			s.mu.Lock()
			defer s.mu.Unlock()
			if want := map[time.Duration]int{0: 3, time.Second: 1}[age]; asked != want {
				t.Errorf("age %s: asked %d times, want %d", age, asked, want)
			}
			if age == 0 && len(s.answers) > 0 {
				t.Error("answers are kept for nobody")
			}
		})
	}
}

func TestSharedFailures(t *testing.T) {
	s := newShared[int](time.Minute, time.Minute)
	broken := errors.New("broken")
	if _, err := s.get(t.Context(), "k", func(context.Context) (int, error) { return 0, broken }); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	if _, err := s.get(t.Context(), "k", func(context.Context) (int, error) { panic("no") }); err == nil {
		t.Error("a panic is no error")
	}
	if n, err := s.get(t.Context(), "k", func(context.Context) (int, error) { return 7, nil }); n != 7 || err != nil {
		t.Errorf("%d, %v: a failure is kept", n, err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	blocked := make(chan struct{})
	if _, err := s.get(gone, "other", func(context.Context) (int, error) { <-blocked; return 0, nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	close(blocked)
	for i := range 2 * maxShared {
		if _, err := s.get(t.Context(), fmt.Sprint(i), func(context.Context) (int, error) { return i, nil }); err != nil {
			t.Fatal(err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.answers) > maxShared {
		t.Errorf("%d answers are kept", len(s.answers))
	}
}
