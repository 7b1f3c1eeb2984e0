package app

import (
	"context"
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/archiver"
	"github.com/reservoirhq/reservoir/config"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/telemetry"
)

const archiveHelp = `Drain Redis Streams into the archive: exactly once, in order, byte for byte.

Without --once it follows the streams until it is told to stop, discovers new ones, and commits what is in hand on SIGINT or SIGTERM.
With --once it drains every stream to where it was when the command looked, and exits: 0 when all is archived,
1 when entries had been lost in Redis or a stream was left, with the reasons.

Any number of archivers may run on the same streams: each entry is archived once all the same.`

const archiveExample = `  reservoir archive --stream 'shop:*'                 follow, as a daemon
  reservoir archive --once                            drain and exit, for cron and CronJobs
  reservoir archive --once --json | jq .events        the summary, for scripts`

func newArchiveCmd(app *app) *cobra.Command {
	var once, asJSON bool
	cmd := &cobra.Command{
		Use:     "archive",
		Short:   "Archive Redis Streams, as a daemon or once",
		Long:    archiveHelp,
		Example: archiveExample,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asJSON && !once {
				return usagef("--json goes with --once: it prints the summary at the end")
			}
			return app.archiveStreams(cmd.Context(), once, asJSON)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&once, "once", false, "drain what there is and exit")
	flags.BoolVar(&asJSON, "json", false, "with --once: print the summary as JSON")
	bindKey(flags, "stream", "streams.include")
	bindKey(flags, "exclude", "streams.exclude")
	bindKey(flags, "format", "archive.formats")
	bindKey(flags, "roll-age", "archive.roll.age")
	bindKey(flags, "roll-count", "archive.roll.count")
	bindKey(flags, "roll-size", "archive.roll.size")
	bindKey(flags, "metrics", "metrics.listen")
	return cmd
}

// archiverOptions gives the part of the configuration that tunes an archiver.
func archiverOptions(cfg *config.Loaded) archiver.Options {
	a := cfg.Archive
	opts := archiver.Options{
		Include: cfg.Streams.Include, Exclude: cfg.Streams.Exclude, DiscoverInterval: cfg.Streams.DiscoverInterval.D(),
		Roll:         archiver.Roll{Size: int64(a.Roll.Size), Count: uint64(a.Roll.Count), Age: a.Roll.Age.D()},
		PollInterval: a.Poll.Interval.D(), PollMaxInterval: a.Poll.MaxInterval.D(),
		Concurrency: a.Concurrency, MaxBusy: a.MaxBusy, MaxEntrySize: int64(a.MaxEntrySize), Group: a.Group,
		Trim: archiver.Trim{Enabled: a.Trim.Enabled, Retain: a.Trim.Retain.D()},
	}
	for _, f := range a.Formats {
		opts.Formats = append(opts.Formats, archive.Format(f))
	}
	return opts
}

func (a *app) archiveStreams(ctx context.Context, once, asJSON bool) (err error) {
	registry := telemetry.NewRegistry(a.build())
	arch, err := a.openArchiveForWriting(ctx)
	if err != nil {
		return err
	}
	client, err := a.connectRedis(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	display := a.newDisplay(once)
	engine, err := archiver.New(client, arch, archiverOptions(a.cfg), display.logger, registry)
	if err != nil {
		return err
	}
	work := func(ctx context.Context) error {
		display.show(engine.Progress)
		defer display.close()
		if once {
			return a.archiveOnce(ctx, engine, display, asJSON)
		}
		a.logger.Info("archiving", "streams", a.cfg.Streams.Include, "formats", a.cfg.Archive.Formats)
		if err := engine.Run(ctx); err != nil {
			return err
		}
		p := engine.Progress()
		display.logger.Info("stopped; everything in hand is committed", "events", p.Events, "commits", p.Commits)
		return nil
	}
	return a.withMetrics(ctx, registry, work)
}

// archiveOnce prints what one run did, and fails when it is not all there.
func (a *app) archiveOnce(ctx context.Context, engine *archiver.Archiver, display *display, asJSON bool) error {
	summary, err := engine.Once(ctx)
	display.close()
	if err != nil && ctx.Err() == nil {
		return err
	}
	if asJSON {
		if err := a.printJSON(summary); err != nil {
			return err
		}
	} else if err := a.printSummary(summary); err != nil {
		return err
	}
	a.printLeft(summary)
	switch {
	case err != nil:
		return err
	case len(summary.Left) > 0 || summary.Lost > 0:
		return errProblems
	default:
		return nil
	}
}

func (a *app) printSummary(s archiver.Summary) error {
	return a.printf("archived %s events of %d streams in %s (%s): %s raw, %s stored, %d commits\n",
		humanCount(s.Events), s.Streams, humanDuration(s.Took), humanRate(s.Events, s.Took),
		humanBytes(s.RawBytes), humanBytes(s.StoredBytes), s.Commits)
}

// printLeft says what is not in the archive, where errors go: whoever throws
// the summary away, or reads it as JSON, sees that too.
func (a *app) printLeft(s archiver.Summary) {
	if s.Lost > 0 {
		a.printError(remedy.Wrap(
			fmt.Errorf("LOST: %d entries were gone from Redis before they could be archived (%d gaps)", s.Lost, s.Gaps),
			"see `reservoir streams --gaps` for which; archive more often, or have Redis keep more"))
	}
	for _, l := range s.Left {
		a.printError(withRemedy(fmt.Errorf("LEFT: %s: %w", l.Stream, l.Err)))
	}
}

// withMetrics serves metrics and health, where that is configured, while work
// runs; either one's failure ends the other.
func (a *app) withMetrics(ctx context.Context, registry *prometheus.Registry, work func(context.Context) error) error {
	if a.cfg.Metrics.Listen == "" {
		return work(ctx)
	}
	server, err := telemetry.Listen(ctx, a.cfg.Metrics.Listen, registry, nil, a.logger)
	if err != nil {
		return err
	}
	a.logger.Info("serving metrics", "address", server.Addr())
	group, groupCtx := errgroup.WithContext(ctx)
	serveCtx, stopServing := context.WithCancel(groupCtx)
	group.Go(func() error { return server.Run(serveCtx) })
	group.Go(func() error {
		defer stopServing()
		return work(groupCtx)
	})
	return group.Wait()
}
