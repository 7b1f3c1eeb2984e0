package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/archiver"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/objectstore"
)

// parked holds the busy stream under a name that no archiver follows; renamed,
// it is there all at once.
const parked = "parked"

// benchScale compares the rate at which one busy stream is archived by an
// archiver that follows nothing else with that of one which follows many
// quiet streams too.
func benchScale(ctx context.Context, opts options) error {
	setDefault(&opts.events, 1_000_000)
	return withServers(ctx, func(s *servers) (err error) {
		admin := redis.NewClient(&redis.Options{Addr: s.redis.Addr()})
		defer func() { err = errors.Join(err, admin.Close()) }()
		if err := s.loadQuiet(ctx, opts.quiet); err != nil {
			return err
		}
		if _, err := s.load(ctx, parked, opts.events); err != nil {
			return err
		}
		first, err := s.archiveOnce(ctx, s.storeURL(false, "many"), "quiet:*")
		if err != nil {
			return err
		}
		fmt.Fprintf(opts.out, "%d quiet streams first archived in %v, peak memory %d MiB\n", opts.quiet, first.wall.Round(time.Millisecond), first.peak>>20)
		var alone, among []float64
		for i := range opts.rounds {
			one, err := s.busyRate(ctx, admin, "alone", fmt.Sprintf("busy:%d", 2*i), 0, opts.events)
			if err != nil {
				return err
			}
			many, err := s.busyRate(ctx, admin, "many", fmt.Sprintf("busy:%d", 2*i+1), opts.quiet, opts.events)
			if err != nil {
				return err
			}
			fmt.Fprintf(opts.out, "round %d: alone %.0f/s, among %d quiet streams %.0f/s\n", i+1, one, opts.quiet, many)
			alone, among = append(alone, one), append(among, many)
		}
		idle, err := s.idle(ctx, admin, opts.quiet, 20*time.Second, s.storeURL(false, "many"))
		if err != nil {
			return err
		}
		t := newTable(opts.out)
		one, many := median(alone), median(among)
		t.row("busy stream alone", "events/s", one, "")
		t.row(fmt.Sprintf("busy stream among %d quiet ones", opts.quiet), "events/s", many, "")
		t.row("among / alone", "", many/one, ">= 0.90")
		idle.print(t)
		return nil
	})
}

// loadQuiet makes streams of one entry each.
func (s *servers) loadQuiet(ctx context.Context, n int) error {
	for i := range n {
		w, err := s.client.Writer(ctx, "quiet:"+strconv.Itoa(i))
		if err != nil {
			return err
		}
		var b event.Batch
		b.Append(&event.Event{ID: event.ID{Ms: 1}, Fields: []event.Field{{Name: []byte("n"), Value: strconv.AppendInt(nil, int64(i), 10)}}})
		_, err = w.Add(ctx, &b, 0, 1, true)
		w.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// busyRate has an archiver in this process follow quiet streams and one that
// becomes busy, and returns the events a second from the first one read to the
// last one committed.
func (s *servers) busyRate(ctx context.Context, admin *redis.Client, prefix, busy string, quiet, events int) (rate float64, err error) {
	store, err := objectstore.Open(ctx, objectstore.Config{
		URL: s.storeURL(false, prefix),
		S3: objectstore.S3Options{
			Endpoint: s.s3.Endpoint(), Region: stack.S3Region, AccessKey: stack.S3AccessKey, SecretKey: stack.S3SecretKey,
		},
	})
	if err != nil {
		return 0, err
	}
	arch, err := archive.Open(ctx, store, archive.Options{})
	if err != nil {
		return 0, err
	}
	include := []string{busy}
	if quiet > 0 {
		include = append(include, "quiet:*")
	}
	engine, err := archiver.New(s.client, arch, archiver.Options{Include: include}, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		return 0, err
	}
	before, err := commandCalls(ctx, admin)
	if err != nil {
		return 0, err
	}
	ctx, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- engine.Run(ctx) }()
	defer func() {
		stop()
		err = errors.Join(err, <-done)
	}()
	if err := settled(ctx, admin, before, quiet); err != nil {
		return 0, err
	}
	if err := admin.Rename(ctx, parked, busy).Err(); err != nil {
		return 0, err
	}
	var began time.Time
	err = poll(ctx, 2*time.Millisecond, func() (bool, error) {
		p := engine.Progress()
		if began.IsZero() && p.Read > 0 {
			began = time.Now()
		}
		return p.Events >= uint64(events), nil
	})
	took := time.Since(began)
	if err != nil {
		return 0, err
	}
	return float64(events) / took.Seconds(), admin.Rename(ctx, busy, parked).Err()
}

// settled waits until an archiver has looked at every quiet stream's head and
// only polls: until it reads nothing for two seconds.
func settled(ctx context.Context, admin *redis.Client, before map[string]int64, quiet int) error {
	if quiet == 0 {
		return nil
	}
	reads, since := int64(0), time.Now()
	return poll(ctx, 100*time.Millisecond, func() (bool, error) {
		calls, err := commandCalls(ctx, admin)
		if err != nil {
			return false, err
		}
		if now := calls["xrange"] - before["xrange"]; now != reads {
			reads, since = now, time.Now()
		}
		return reads >= int64(quiet) && time.Since(since) > 2*time.Second, nil
	})
}

// poll calls f at intervals until it says that it is done, fails, or ctx ends.
func poll(ctx context.Context, every time.Duration, f func() (bool, error)) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if done, err := f(); done || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// commandCalls returns how often each command was called; subcommands count
// with a | between the names.
func commandCalls(ctx context.Context, admin *redis.Client) (map[string]int64, error) {
	info, err := admin.Info(ctx, "commandstats").Result()
	if err != nil {
		return nil, err
	}
	calls := map[string]int64{}
	for line := range strings.Lines(info) {
		name, rest, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "cmdstat_"), ":calls=")
		if !ok {
			continue
		}
		count, _, _ := strings.Cut(rest, ",")
		if calls[name], err = strconv.ParseInt(count, 10, 64); err != nil {
			return nil, err
		}
	}
	return calls, nil
}

// idleRun is what an archiver of quiet streams does when there is nothing to do.
type idleRun struct {
	wall        time.Duration
	calls       map[string]int64
	connections int
	cpu         time.Duration
	peak        int64
}

func (r idleRun) print(t table) {
	t.row("idle: connections to Redis", "", float64(r.connections), "<= 20")
	for _, name := range []string{"xinfo|stream", "scan", "xrange"} {
		t.row("idle: "+name, "commands/s", float64(r.calls[name])/r.wall.Seconds(), "")
	}
	t.row("idle: CPU", "% of a core", 100*r.cpu.Seconds()/r.wall.Seconds(), "")
	t.row("idle: peak memory", "MiB", float64(r.peak)/(1<<20), "< 128")
}

// idle watches an archiver process that follows quiet streams, all archived,
// for a while; env adds settings.
func (s *servers) idle(ctx context.Context, admin *redis.Client, quiet int, during time.Duration, storeURL string, env ...string) (r idleRun, err error) {
	own, err := connections(ctx, admin)
	if err != nil {
		return r, err
	}
	before, err := commandCalls(ctx, admin)
	if err != nil {
		return r, err
	}
	ctx, stop := context.WithCancel(ctx)
	cmd, errs := s.command(ctx, storeURL, "archive", "--stream", "quiet:*")
	cmd.Env = append(cmd.Env, env...)
	if err := cmd.Start(); err != nil {
		stop()
		return r, err
	}
	defer func() {
		stop()
		if waitErr := cmd.Wait(); waitErr != nil && !errors.Is(waitErr, context.Canceled) {
			err = errors.Join(err, fmt.Errorf("reservoir archive: %w: %s", waitErr, errs))
		}
	}()
	if err := settled(ctx, admin, before, quiet); err != nil {
		return r, err
	}
	if before, err = commandCalls(ctx, admin); err != nil {
		return r, err
	}
	cpu, err := processTime(cmd.Process.Pid)
	if err != nil {
		return r, err
	}
	began := time.Now()
	err = poll(ctx, 100*time.Millisecond, func() (bool, error) {
		n, err := connections(ctx, admin)
		r.connections = max(r.connections, n-own)
		return time.Since(began) > during, err
	})
	if err != nil {
		return r, err
	}
	r.wall = time.Since(began)
	if r.calls, err = commandCalls(ctx, admin); err != nil {
		return r, err
	}
	for name, n := range before {
		r.calls[name] -= n
	}
	spent, err := processTime(cmd.Process.Pid)
	if err != nil {
		return r, err
	}
	r.cpu = spent - cpu
	r.peak, err = peakMemory(cmd.Process.Pid)
	return r, err
}

func connections(ctx context.Context, admin *redis.Client) (int, error) {
	list, err := admin.ClientList(ctx).Result()
	return strings.Count(list, "\n"), err
}
