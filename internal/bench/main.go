// Command bench measures Reservoir against real servers: a redis-server, an
// S3 server and the program share the machine. The interesting numbers are the
// ratios, taken in one run and in turns, so that they hold on a busy machine
// too. docs/benchmarks.md explains them.
//
//	go run ./internal/bench api       the API under load, beside archiver and jobs
//	go run ./internal/bench archive   speed, against the ceiling and a naive archiver
//	go run ./internal/bench memory    peak memory over short and long streams
//	go run ./internal/bench replay    replays into Redis, against plain XADD
//	go run ./internal/bench rebuild   rebuilds of projections, against one INSERT SELECT
//	go run ./internal/bench scale     a busy stream among ten thousand quiet ones
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options of all benchmarks.
type options struct {
	events int
	rounds int
	quiet  int
	// seconds is how long clients ask an API.
	seconds int
	every   time.Duration // between the requests of a client of an API; 0: none
	only    string        // parts of rebuild
	dir     string        // that archives are kept in
	out     io.Writer

	profiles string // the directory for profiles of rebuild's workers
}

func run(ctx context.Context, args []string, out io.Writer) error {
	opts := options{out: out}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.IntVar(&opts.events, "events", 0, "entries in the stream (default: api 200,000; archive 2,000,000; replay 1,000,000; many 50,000,000; memory and rebuild 5,000,000; scale 1,000,000)")
	flags.IntVar(&opts.rounds, "rounds", 3, "how often everything is measured, in turns; medians are shown")
	flags.IntVar(&opts.quiet, "quiet", 10_000, "quiet streams, for scale")
	flags.IntVar(&opts.seconds, "seconds", 60, "of api: how long clients ask")
	flags.DurationVar(&opts.every, "every", 100*time.Millisecond, "of api: how often each client asks; 0: as soon as it has its answer")
	flags.StringVar(&opts.only, "only", "", "of rebuild: some of push, compare (what push has loaded), send, map, fold and scope, with commas between; default all")
	flags.StringVar(&opts.dir, "dir", "", "of rebuild: a directory that keeps the archives for the next run; default a temporary one")
	flags.StringVar(&opts.profiles, "profiles", "", "of rebuild: a directory for profiles of the workers' CPU; default none are written")
	benchmarks := map[string]func(context.Context, options) error{
		"api": benchAPI, "archive": benchArchive, "many": benchMany, "memory": benchMemory, "rebuild": benchRebuild, "replay": benchReplay, "scale": benchScale,
		"rebuild-worker": rebuildWorker, // what rebuild starts
	}
	if len(args) == 0 || benchmarks[args[0]] == nil {
		return errors.New("name a benchmark: api, archive, many, memory, rebuild, replay or scale")
	}
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	return benchmarks[args[0]](ctx, opts)
}

func setDefault(field *int, value int) {
	if *field == 0 {
		*field = value
	}
}
