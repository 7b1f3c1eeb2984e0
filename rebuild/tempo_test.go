package rebuild

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"
)

func TestTempo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		at := func(what string, want time.Duration) {
			t.Helper()
			if got := time.Since(began); got != want {
				t.Errorf("%s comes after %v, want %v", what, got, want)
			}
		}
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		none := newTempo(0)
		none.spend(1e9)
		must(none.begin(t.Context(), 1e9))
		must(none.keep(t.Context()))
		at("what has no rate", 0)

		tempo := newTempo(100)
		must(tempo.begin(t.Context(), 200))
		at("the first chunk", 0)
		must(tempo.begin(t.Context(), 300))
		at("the second chunk", 2*time.Second)
		tempo.spend(500)
		must(tempo.keep(t.Context()))
		at("the end", 10*time.Second)
		must(wait(t.Context(), time.Minute))
		must(tempo.begin(t.Context(), 100))
		at("what comes after a minute in which nothing was done", 70*time.Second)
		must(tempo.begin(t.Context(), 100))
		at("the one after it", 71*time.Second)
		slow := newTempo(math.SmallestNonzeroFloat64)
		must(slow.begin(t.Context(), 1))
		if !slow.free.After(time.Now().AddDate(99, 0, 0)) {
			t.Errorf("the slowest of all has its turn again at %s", slow.free)
		}
		ended, end := context.WithCancelCause(t.Context())
		end(errEnded)
		if err := tempo.begin(ended, 1); !errors.Is(err, errEnded) {
			t.Errorf("when it has ended: %v", err)
		}
		at("the end of the context", 71*time.Second)
	})
}

var errEnded = errors.New("ended")
