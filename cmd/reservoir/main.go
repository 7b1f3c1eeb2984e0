// Command reservoir archives Redis Streams and pours the archive back. Each
// subcommand is one file of this package; what they do is done by the packages
// below.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/redis/go-redis/v9/logging"
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

func main() {
	logging.Disable() // go-redis would print to stderr what it returns as errors
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctx, stop := interruptible(context.Background(), func() { os.Exit(exitInterrupted) })
	status := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
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
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	app := newApp(stdin, stdout, stderr, os.Environ())
	root := newRootCmd(app)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	return app.report(ctx, cmd, err)
}
