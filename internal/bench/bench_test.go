package main

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const mib = 1 << 20

func startServers(t *testing.T) *servers {
	t.Helper()
	if testing.Short() {
		t.Skip("needs servers: run without -short")
	}
	s, err := start(t.Context(), t.TempDir())
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The archiver's memory does not depend on how much there is to archive. (The
// benchmark shows it with millions of entries.)
func TestMemoryIsBounded(t *testing.T) {
	s := startServers(t)
	const short, long, large = 300_000, 600_000, 300
	for stream, n := range map[string]int{"short": short, "long": long} {
		if err := s.loadRepeated(t.Context(), stream, n); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.loadLarge(t.Context(), large); err != nil {
		t.Fatal(err)
	}
	for _, local := range []bool{false, true} {
		t.Run("local="+strconv.FormatBool(local), func(t *testing.T) {
			peak := func(stream string, events uint64) int64 {
				r, err := s.archiveOnce(t.Context(), s.storeURL(local, stream), stream)
				if err != nil || r.events != events {
					t.Fatalf("archived %d events of %s, want %d: %v", r.events, stream, events, err)
				}
				t.Logf("%s: %d MiB", stream, r.peak/mib)
				return r.peak
			}
			once, twice, values := peak("short", short), peak("long", long), peak(largeStream, large)
			if once > 128*mib || twice > 128*mib {
				t.Errorf("peak memory %d and %d MiB, want less than 128", once/mib, twice/mib)
			}
			// How full the heap becomes before it is collected differs a little.
			if twice > once+once/10+8*mib {
				t.Errorf("peak memory %d MiB for %d events, %d MiB for %d", once/mib, short, twice/mib, long)
			}
			if values > 256*mib {
				t.Errorf("peak memory %d MiB for values of 1 MiB, want less than 256", values/mib)
			}
		})
	}
}

// Many quiet streams cost few connections and few commands, and a busy one
// among them is read in large steps.
func TestManyQuietStreams(t *testing.T) {
	s := startServers(t)
	const quiet, busy = 1000, 100_000
	admin := redis.NewClient(&redis.Options{Addr: s.redis.Addr(), DisableIdentity: true})
	t.Cleanup(func() {
		if err := admin.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.loadQuiet(t.Context(), quiet); err != nil {
		t.Fatal(err)
	}
	store := s.storeURL(false, "many")
	if r, err := s.archiveOnce(t.Context(), store, "quiet:*"); err != nil || r.events != quiet {
		t.Fatalf("archived %d events, want %d: %v", r.events, quiet, err)
	}

	const poll = 500 * time.Millisecond
	r, err := s.idle(t.Context(), admin, quiet, 4*time.Second, store,
		"RESERVOIR_ARCHIVE_POLL_INTERVAL=100ms", "RESERVOIR_ARCHIVE_POLL_MAX_INTERVAL="+poll.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("idle for %v: %d connections, %v, %d MiB", r.wall, r.connections, r.calls, r.peak/mib)
	if r.connections > 20 {
		t.Errorf("%d connections to Redis for %d streams", r.connections, quiet)
	}
	if most := quiet * (int64(r.wall/poll) + 2); r.calls["xinfo|stream"] > most || r.calls["xinfo|stream"] < quiet {
		t.Errorf("%d looks at streams in %v, want no more than %d", r.calls["xinfo|stream"], r.wall, most)
	}
	if r.calls["scan"] > quiet/100 || r.calls["keys"]+r.calls["xrange"] > 0 {
		t.Errorf("commands while nothing happened: %v", r.calls)
	}
	if r.peak > 128*mib {
		t.Errorf("peak memory %d MiB", r.peak/mib)
	}

	if err := s.loadRepeated(t.Context(), parked, busy); err != nil {
		t.Fatal(err)
	}
	before := reads(t.Context(), t, admin)
	if r, err := s.archiveOnce(t.Context(), store, "*"); err != nil || r.events != busy {
		t.Fatalf("archived %d events, want %d: %v", r.events, busy, err)
	}
	// Of a quiet one the head is looked at, and whether there is more.
	if n := reads(t.Context(), t, admin) - before; n > 2*quiet+busy/500 {
		t.Errorf("%d reads for %d entries among %d quiet streams", n, busy, quiet)
	}
}

func reads(ctx context.Context, t *testing.T, admin *redis.Client) int64 {
	t.Helper()
	calls, err := commandCalls(ctx, admin)
	if err != nil {
		t.Fatal(err)
	}
	return calls["xrange"]
}

// The speed benchmark runs, and its naive archiver archives what it should.
func TestSpeedRound(t *testing.T) {
	s := startServers(t)
	const events = 5_000
	if _, err := s.load(t.Context(), "bench", events); err != nil {
		t.Fatal(err)
	}
	r, err := s.speedRound(t.Context(), "bench", "round", events)
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]float64{"ceiling": r.ceiling, "reader": r.reader, "archiver": r.archiver, "naive": r.naive, "peak": r.archiverPeak} {
		if v <= 0 {
			t.Error(fmt.Sprint(name, " not measured"))
		}
	}
}
