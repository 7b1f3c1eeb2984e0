package app

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/reservoirhq/reservoir/rebuild"
	"github.com/reservoirhq/reservoir/telemetry"
)

const projectorHelp = `Keep projections live, as a daemon: what is published comes into their tables in ClickHouse, each event once.

Any number of projectors may run, anywhere: each projection is fed by one of them, and if that one dies, by another. A projection is fed from where its table is,
by the definition that the table was built by. One that was never built waits for "reservoir rebuild", or is built with --build.`

func newProjectorCmd(app *app) *cobra.Command {
	var opts rebuild.ProjectorOptions
	cmd := &cobra.Command{
		Use:   "projector [PROJECTION...]",
		Short: "Keep projections live, as a daemon",
		Long:  projectorHelp,
		Example: `  reservoir projector --dir projections/ --build
  reservoir projector orders revenue --metrics :9464`,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.Names = args
			return app.project(cmd.Context(), opts)
		},
	}
	flags := cmd.Flags()
	bindKey(flags, "dir", "projections.dir")
	bindKey(flags, "clickhouse-url", "clickhouse.url")
	bindKey(flags, "metrics", "metrics.listen")
	flags.DurationVar(&opts.Batch, "batch", 500*time.Millisecond, "gather events for so `long` at most")
	flags.BoolVar(&opts.Build, "build", false, "create a rebuild of each projection that was never built, for a `reservoir worker` to run")
	return cmd
}

// project keeps projections live until ctx ends.
func (a *app) project(ctx context.Context, opts rebuild.ProjectorOptions) (err error) {
	r, err := a.openServices(ctx, forRebuilds())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	registry := telemetry.NewRegistry(a.build())
	opts.Worker, opts.Registerer = workerName(), registry
	p, err := r.rebuilds.Projector(opts)
	if err != nil {
		return err
	}
	return a.withMetrics(ctx, registry, func(ctx context.Context) error {
		a.logger.Info("keeping projections live", "worker", opts.Worker)
		if err := p.Run(ctx); err != nil {
			return err
		}
		a.logger.Info("stopped; projections are given back")
		return nil
	})
}

// workerName names this process; it is another one in every process.
func workerName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s-%d-%s", host, os.Getpid(), rand.Text()[:6])
}
