package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// The benchmark of replays runs, and everything in it arrives.
func TestReplayRound(t *testing.T) {
	s := startServers(t)
	admin := redis.NewClient(&redis.Options{Addr: s.redis.Addr(), DisableIdentity: true})
	t.Cleanup(func() {
		if err := admin.Close(); err != nil {
			t.Error(err)
		}
	})
	var out bytes.Buffer
	b := &replayBench{servers: s, admin: admin, opts: options{events: 5_000, rounds: 1, out: &out}}
	if _, err := s.load(t.Context(), source, b.opts.events); err != nil {
		t.Fatal(err)
	}
	for _, local := range []bool{true, false} {
		if _, err := s.archiveOnce(t.Context(), s.storeURL(local, source), source); err != nil {
			t.Fatal(err)
		}
	}
	r, err := b.round(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, w := range map[string]writing{"plain": r.plain, "plain, told": r.plainTold, "replay": r.replay, "replay, told": r.replayTold, "from S3": r.far} {
		if w.rate <= 0 || w.load.cpu <= 0 {
			t.Errorf("%s: not measured: %+v", name, w)
		}
		if replays := strings.HasPrefix(name, "replay"); replays && w.run.cpu <= 0 {
			t.Errorf("%s: %+v", name, w)
		}
	}
	if rate, err := b.decoding(t.Context()); err != nil || rate <= 0 {
		t.Errorf("decoded %f rows a second: %v", rate, err)
	}
	if err := b.selective(t.Context(), newTable(&out)); err != nil {
		t.Error(err)
	}
	printReplays(newTable(&out), []replayRound{r}, b.opts.events)
	if lines := strings.Count(out.String(), "\n"); lines < 20 {
		t.Errorf("%d lines printed:\n%s", lines, out.String())
	}
}

// The memory of a replay does not depend on how large the values are.
func TestReplayOfLargeValuesIsBounded(t *testing.T) {
	s := startServers(t)
	admin := redis.NewClient(&redis.Options{Addr: s.redis.Addr(), DisableIdentity: true})
	t.Cleanup(func() {
		if err := admin.Close(); err != nil {
			t.Error(err)
		}
	})
	const values = 150
	if err := s.loadLarge(t.Context(), values); err != nil {
		t.Fatal(err)
	}
	b := &replayBench{servers: s, admin: admin, opts: options{events: values, rounds: 1}}
	for _, local := range []bool{true, false} {
		if _, err := s.archiveOnce(t.Context(), s.storeURL(local, largeStream), largeStream); err != nil {
			t.Fatal(err)
		}
	}
	for _, local := range []bool{true, false} {
		r, err := b.replay(t.Context(), s.storeURL(local, largeStream), "--stream", largeStream)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.holds(t.Context(), values); err != nil {
			t.Error(err)
		}
		t.Logf("local=%t: %d MiB", local, r.peak/mib)
		if r.peak > 96*mib {
			t.Errorf("local=%t: peak memory %d MiB, want less than 96", local, r.peak/mib)
		}
	}
}
