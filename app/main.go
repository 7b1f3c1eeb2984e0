// Package app is the program reservoir: its command line, and how the packages
// below are wired. Each subcommand is one file.
//
// A main package of a few lines makes a program that is reservoir with projections,
// upcasters and sinks of one's own:
//
//	func main() {
//		os.Exit(app.Main(app.Options{Functions: functions()}))
//	}
package app

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/redis/go-redis/v9/logging"

	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/replay"
	"github.com/reservoirhq/reservoir/replay/sink"
	"github.com/reservoirhq/reservoir/upcast"
)

// Exit statuses, of every subcommand; `reservoir help` documents them.
const (
	exitOK          = 0
	exitProblems    = 1   // the command did its work and found something wrong
	exitUsage       = 2   // wrong command line or configuration: nothing was done
	exitFailure     = 3   // something failed while working
	exitInterrupted = 130 // stopped by a signal before it was done
)

// gcPercent makes the garbage collector run four times as often as by default.
// That is still rarely (every few hundred thousand events, over a heap almost
// without pointers), so it costs no CPU that could be measured, and makes the
// peak of memory a quarter lower and much the same in every run. $GOGC
// overrides it.
const gcPercent = 25

// Options are what a program adds to reservoir. The zero value adds nothing.
type Options struct {
	// Functions are maps and folds that definitions of projections may name, beside
	// those of package projection/examples. Two of the same name are an error of the
	// commands that load definitions.
	Functions []projection.Function

	// Upcasters are rules made in Go, beside those of the configuration.
	Upcasters []upcast.Rule

	// Sinks make more kinds of sinks for replays, of what the process knows.
	Sinks []func(sink.Config) replay.SinkKind

	// Version is what "version" and the metrics say; "": what the Go tool knows.
	Version string
}

// Main is the whole program: it runs what os.Args say, with the environment and the
// standard files of the process, until it is done or interrupted, and returns the exit
// status for os.Exit. It is for the main function alone: it sets the garbage collector's
// pace, and turns off the logging of go-redis.
func Main(opts Options) int {
	logging.Disable() // go-redis would print to stderr what it returns as errors
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctx, stop := interruptible(context.Background(), func() { os.Exit(exitInterrupted) })
	defer stop()
	return run(ctx, opts, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
}

// errInterrupted is the cause of a context that a signal cancelled.
var errInterrupted = errors.New("interrupted")

// interruptible returns a context that the first SIGINT or SIGTERM cancels, so
// that the command can finish what it has in hand. A second one calls abort.
func interruptible(parent context.Context, abort func()) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for n := 0; ; n++ {
			select {
			case <-signals:
				if n > 0 {
					abort()
				}
				cancel(errInterrupted)
			case <-done:
				return
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		<-ended
		cancel(nil)
	}
}

// run is the whole program, but for signals and the exit: tests call it.
func run(ctx context.Context, opts Options, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	app := newApp(opts, stdin, stdout, stderr, os.Environ())
	root := newRootCmd(app)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	return app.report(ctx, cmd, err)
}
