package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reservoirhq/reservoir/jobs"
)

// Streams of the benchmark of replays.
const (
	source = "bench" // archived
	copied = "copy"  // the target
)

// replayed is what one replay did and took.
type replayed struct {
	childRun
	job  jobs.Job
	span time.Duration // from its first acquisition to its end
	load load          // on Redis meanwhile
}

// load is what writing meant for Redis.
type load struct {
	ping time.Duration // p95 of PING from another connection
	cpu  time.Duration // of Redis's main thread
}

// writing is one way to write all entries once, and what it took.
type writing struct {
	rate float64 // entries/s
	load load
	run  childRun
}

// replayRound are the writings of one round: plain XADD and replays of the same
// entries, without and with the fields that tell where an entry comes from.
type replayRound struct {
	plain, plainTold        writing
	replay, replayTold, far writing
}

// benchReplay compares replays into Redis with plain XADD, and looks at what they
// read and hold.
func benchReplay(ctx context.Context, opts options) error {
	setDefault(&opts.events, 1_000_000)
	return withServers(ctx, func(s *servers) (err error) {
		admin := redis.NewClient(&redis.Options{Addr: s.redis.Addr(), DisableIdentity: true})
		defer func() { err = errors.Join(err, admin.Close()) }()
		b := &replayBench{servers: s, admin: admin, opts: opts}
		raw, err := s.load(ctx, source, opts.events)
		if err != nil {
			return err
		}
		for _, local := range []bool{true, false} {
			if _, err := s.archiveOnce(ctx, s.storeURL(local, source), source); err != nil {
				return err
			}
		}
		fmt.Fprintf(opts.out, "%d entries of %.0f bytes in one stream; %d rounds\n\n",
			opts.events, float64(raw)/float64(opts.events), opts.rounds)
		var rounds []replayRound
		for i := range opts.rounds {
			r, err := b.round(ctx)
			if err != nil {
				return err
			}
			rounds = append(rounds, r)
			fmt.Fprintf(opts.out, "round %d: plain XADD %.0f/s, replay %.0f/s; with provenance %.0f/s, %.0f/s, from S3 %.0f/s\n",
				i+1, r.plain.rate, r.replay.rate, r.plainTold.rate, r.replayTold.rate, r.far.rate)
		}
		decoding, err := b.decoding(ctx)
		if err != nil {
			return err
		}
		t := newTable(opts.out)
		printReplays(t, rounds, opts.events)
		t.row("decoding Parquet for it", "rows/s of a core", decoding, ">= 3,000,000")
		if err := b.selective(ctx, t); err != nil {
			return err
		}
		return b.memory(ctx, t)
	})
}

// replayBench is what its parts share.
type replayBench struct {
	*servers
	admin *redis.Client
	opts  options
}

// round measures everything once, in turns.
func (b *replayBench) round(ctx context.Context) (r replayRound, err error) {
	local, far := b.storeURL(true, source), b.storeURL(false, source)
	const bare = "provenance=false"
	for _, step := range []struct {
		to   *writing
		work func() (writing, error)
	}{
		{&r.plain, func() (writing, error) { return b.plain(ctx, false) }},
		{&r.replay, func() (writing, error) { return b.whole(ctx, local, "--set", bare) }},
		{&r.plainTold, func() (writing, error) { return b.plain(ctx, true) }},
		{&r.replayTold, func() (writing, error) { return b.whole(ctx, local) }},
		{&r.far, func() (writing, error) { return b.whole(ctx, far) }},
	} {
		if *step.to, err = step.work(); err != nil {
			return r, err
		}
	}
	return r, nil
}

// plain writes all entries with plain XADD into an empty Redis.
func (b *replayBench) plain(ctx context.Context, provenance bool) (w writing, err error) {
	if err := b.empty(ctx); err != nil {
		return w, err
	}
	var took time.Duration
	w.load, err = b.during(ctx, func() (err error) {
		took, err = writeCeiling(ctx, b.redis.Addr(), copied, b.opts.events, provenance)
		return err
	})
	if err != nil {
		return w, fmt.Errorf("plain XADD: %w", err)
	}
	w.rate = float64(b.opts.events) / took.Seconds()
	return w, b.holds(ctx, uint64(b.opts.events))
}

// whole replays all of the stream into an empty Redis.
func (b *replayBench) whole(ctx context.Context, store string, args ...string) (w writing, err error) {
	r, err := b.replay(ctx, store, append([]string{"--stream", source}, args...)...)
	if err != nil {
		return w, err
	}
	w = writing{rate: float64(b.opts.events) / r.span.Seconds(), load: r.load, run: r.childRun}
	return w, b.holds(ctx, uint64(b.opts.events))
}

// replay runs a replay into the empty Redis as a child process.
func (b *replayBench) replay(ctx context.Context, store string, args ...string) (r replayed, err error) {
	if err := b.empty(ctx); err != nil {
		return r, err
	}
	var out []byte
	r.load, err = b.during(ctx, func() (err error) {
		r.childRun, out, err = b.child(ctx, store, append([]string{"replay", "run", "--json", "--into", "redis:" + copied}, args...)...)
		return err
	})
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(out, &r.job); err != nil {
		return r, fmt.Errorf("the job of reservoir replay: %w", err)
	}
	r.span = r.job.EndedAt.Sub(r.job.StartedAt)
	return r, nil
}

// empty removes everything from Redis.
func (b *replayBench) empty(ctx context.Context) error {
	if err := b.admin.FlushAll(ctx).Err(); err != nil {
		return fmt.Errorf("empty redis: %w", err)
	}
	return nil
}

// holds fails unless the target has so many entries.
func (b *replayBench) holds(ctx context.Context, want uint64) error {
	n, err := b.admin.XLen(ctx, copied).Result()
	if err == nil && uint64(n) != want {
		err = fmt.Errorf("the target has %d entries, want %d", n, want)
	}
	return err
}

func printReplays(t table, rounds []replayRound, events int) {
	of := func(f func(*replayRound) float64) float64 {
		return medianOf(rounds, func(r replayRound) float64 { return f(&r) })
	}
	ms := func(d time.Duration) float64 { return micros(d) / 1000 }
	each := func(d time.Duration) float64 { return micros(d) / float64(events) }
	t.row("plain XADD, pipelined without end", "entries/s", of(func(r *replayRound) float64 { return r.plain.rate }), "")
	t.row("replay of the same entries", "entries/s", of(func(r *replayRound) float64 { return r.replay.rate }), "")
	t.row("replay / plain XADD", "", of(func(r *replayRound) float64 { return r.replay.rate / r.plain.rate }), ">= 0.85")
	t.row("plain XADD, with provenance", "entries/s", of(func(r *replayRound) float64 { return r.plainTold.rate }), "")
	t.row("replay, with provenance (the default)", "entries/s", of(func(r *replayRound) float64 { return r.replayTold.rate }), "")
	t.row("replay / plain XADD, both with provenance", "", of(func(r *replayRound) float64 { return r.replayTold.rate / r.plainTold.rate }), ">= 0.85")
	t.row("the same, from S3 on the same cores", "entries/s", of(func(r *replayRound) float64 { return r.far.rate }), "")
	t.row("replay from S3 / plain XADD", "", of(func(r *replayRound) float64 { return r.far.rate / r.plainTold.rate }), "")
	t.row("replay, its own CPU", "µs/entry", of(func(r *replayRound) float64 { return each(r.replayTold.run.cpu) }), "")
	t.row("Redis's CPU for plain XADD", "µs/entry", of(func(r *replayRound) float64 { return each(r.plainTold.load.cpu) }), "")
	t.row("Redis's CPU for the replay", "µs/entry", of(func(r *replayRound) float64 { return each(r.replayTold.load.cpu) }), "")
	t.row("PING during plain XADD, p95", "ms", of(func(r *replayRound) float64 { return ms(r.plainTold.load.ping) }), "")
	t.row("PING during the replay, p95", "ms", of(func(r *replayRound) float64 { return ms(r.replayTold.load.ping) }), "< 5")
	t.row("replay, peak memory", "MiB", of(func(r *replayRound) float64 { return float64(r.replayTold.run.peak) / (1 << 20) }), "< 128")
	t.row("replay from S3, peak memory", "MiB", of(func(r *replayRound) float64 { return float64(r.far.run.peak) / (1 << 20) }), "< 128")
}
