package app

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/reservoirhq/reservoir/telemetry"
)

const workerHelp = `Run jobs - replays, and rebuilds where clickhouse.url and projections.dir are set - as a daemon. Any number of workers, anywhere, share the jobs of a bucket: each job has one worker at a time, and if that
one dies, another goes on where it was within jobs.lease_ttl.

On SIGINT or SIGTERM it finishes what is in hand, gives its jobs back for another worker to go on with, and exits 0.`

const workerExample = `  reservoir worker
  reservoir worker --concurrency 8 --metrics :9464`

func newWorkerCmd(app *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "worker",
		Short:   "Run replays and other jobs, as a daemon",
		Long:    workerHelp,
		Example: workerExample,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return app.work(cmd.Context()) },
	}
	flags := cmd.Flags()
	bindKey(flags, "concurrency", "jobs.concurrency")
	bindKey(flags, "poll", "jobs.poll")
	bindKey(flags, "metrics", "metrics.listen")
	return cmd
}

// work runs jobs until ctx ends.
func (a *app) work(ctx context.Context) (err error) {
	s, err := a.openServices(ctx, servicesSpec{redis: true, probe: true, rebuilds: a.hasRebuilds()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	registry := telemetry.NewRegistry(a.build())
	runner, err := a.newRunner(s, registry)
	if err != nil {
		return err
	}
	return a.withMetrics(ctx, registry, func(ctx context.Context) error {
		a.logger.Info("working", "concurrency", a.cfg.Jobs.Concurrency, "per_target", a.cfg.Jobs.PerTarget)
		if err := runner.Run(ctx); err != nil {
			return err
		}
		a.logger.Info("stopped; jobs that ran are given back")
		return nil
	})
}
