package app

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/redisstream"
	"github.com/reservoirhq/reservoir/replay"
	"github.com/reservoirhq/reservoir/replay/sink"
)

const replayHelp = `Feed an archived range into a sink again: selected, at a chosen pace, exactly once where the target allows.

A replay is a job in the bucket. "create" makes one, which "reservoir worker" runs; "run" makes one and runs it here. Either survives kill -9: another worker, or
"run" with its ID, goes on where it was. "estimate" says what would happen, and writes nothing.

docs/replay.md is the guide.`

const replayExample = `  reservoir replay estimate --stream 'shop:*' --from 2026-11-21 --type 'Order*'
  reservoir replay run --stream shop:payments --tenant acme --into 'redis:{stream}:replay' --rate 500/s
  reservoir replay list`

func newReplayCmd(app *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "replay",
		Short:   "Feed archived events into streams, files, HTTP or brokers again",
		Long:    replayHelp,
		Example: replayExample,
		Args:    subcommandOnly,
		RunE: func(*cobra.Command, []string) error {
			return usagef("want create, run, estimate, list, show, watch, pause, resume, cancel, retry or dead-letters")
		},
	}
	k := replayKind()
	cmd.AddCommand(
		newReplayCreateCmd(app),
		newReplayRunCmd(app),
		newReplayEstimateCmd(app),
		newListCmd(app, k, "target", "only those with this `target`, as list --json shows it", func(target string) string { return target }),
		newReplayShowCmd(app),
		newWatchCmd(app, k),
	)
	cmd.AddCommand(newChangeCmds(app, k)...)
	cmd.AddCommand(newDeadLettersCmd(app))
	return cmd
}

// sinks gives the kinds of sinks there are. client may be nil.
func (a *app) sinks(client *redisstream.Client, here bool) []replay.SinkKind {
	hosts, environ := sink.Hosts(a.cfg.Replay.AllowHosts), sink.Environ(a.lookupEnv)
	common := sink.Config{Mapping: a.cfg.Envelope, AllowHosts: hosts, Environ: environ}
	kinds := []replay.SinkKind{
		sink.NewRedis(sink.RedisOptions{Default: client, AllowHosts: hosts, Environ: environ, Archived: func(stream string) bool {
			return redisstream.Selected(stream, a.cfg.Streams.Include, a.cfg.Streams.Exclude)
		}}),
		sink.NewHTTP(common),
		sink.NewKafka(common),
		sink.NewNATS(common),
		sink.NewFile(sink.FileConfig{Mapping: a.cfg.Envelope, Dir: a.cfg.Replay.FilesDir, Anywhere: here}),
	}
	for _, own := range a.own.Sinks {
		kinds = append(kinds, own(common))
	}
	if here {
		kinds = append(kinds, sink.NewStdout(a.stdout, a.cfg.Envelope))
	}
	return kinds
}

// lookupEnv gives the value of an environment variable.
func (a *app) lookupEnv(name string) (string, bool) {
	for _, pair := range a.environ {
		if value, ok := strings.CutPrefix(pair, name+"="); ok {
			return value, true
		}
	}
	return "", false
}

// user is who asks, for the job's history.
func (a *app) user() string {
	for _, name := range []string{"RESERVOIR_USER", "USER", "LOGNAME"} {
		if user, _ := a.lookupEnv(name); user != "" {
			return user
		}
	}
	return ""
}

// withRemedies gives joined mistakes a remedy that names those of all of them.
func withRemedies(err error) error {
	all := fieldErrors(err)
	if len(all) < 2 {
		return err
	}
	var text strings.Builder
	for i, e := range all {
		if i > 0 {
			text.WriteByte('\n')
		}
		fmt.Fprintf(&text, "%s: %s", e.Field, e.Remedy())
	}
	return remedy.Wrap(err, text.String())
}

// fieldErrors takes joined errors apart.
func fieldErrors(err error) []*replay.FieldError {
	if field := (*replay.FieldError)(nil); errors.As(err, &field) {
		joined, ok := err.(interface{ Unwrap() []error })
		if !ok {
			return []*replay.FieldError{field}
		}
		var all []*replay.FieldError
		for _, e := range joined.Unwrap() {
			all = append(all, fieldErrors(e)...)
		}
		return all
	}
	return nil
}

// readInput reads a file, or stdin for "-", which must not be large.
func (a *app) readInput(name string) (_ []byte, err error) {
	in := a.stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("read the replay: %w", err)
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		in = f
	}
	const limit = 1 << 20
	text, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read the replay: %w", err)
	}
	if len(text) > limit {
		return nil, fmt.Errorf("read the replay: %s has more than %s", name, humanBytes(limit))
	}
	return text, nil
}
