package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/rebuild"
	"github.com/reservoirhq/reservoir/redisstream"
)

const rebuildHelp = `Build a projection's table anew from the archive, beside the live one and without pausing it, and swap it in at an exact position.

A rebuild is a job in the bucket. "create" makes one, which "reservoir worker" runs; "run" makes one and runs it here. Either survives kill -9: another worker, or
"run" with its ID, goes on where it was. Before the swap it compares the new table with the live one ("diff") and, unless the definition says otherwise, waits for
"approve". The replaced table is kept: "rollback" makes it live again in an instant.

docs/rebuilds.md is the guide.`

const rebuildExample = `  reservoir rebuild create orders --watch
  reservoir rebuild diff 01KAJ4M5N6P7Q8R9S0T1V2W3X4
  reservoir rebuild approve 01KAJ4M5N6P7Q8R9S0T1V2W3X4
  reservoir rebuild rollback orders`

func newRebuildCmd(app *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "rebuild",
		Short:   "Rebuild projections from the archive, and swap them in",
		Long:    rebuildHelp,
		Example: rebuildExample,
		Args:    subcommandOnly,
		RunE: func(*cobra.Command, []string) error {
			return usagef("want create, run, list, show, watch, diff, approve, pause, resume, cancel, retry, rollback or dry-run")
		},
	}
	bindKey(cmd.PersistentFlags(), "dir", "projections.dir")
	bindKey(cmd.PersistentFlags(), "clickhouse-url", "clickhouse.url")
	cmd.AddCommand(
		newRebuildCreateCmd(app),
		newRebuildRunCmd(app),
		newRebuildListCmd(app),
		newRebuildShowCmd(app),
		newRebuildWatchCmd(app),
		newRebuildDiffCmd(app),
		newRebuildApproveCmd(app),
		newRebuildRollbackCmd(app),
		newRebuildDryRunCmd(app),
	)
	cmd.AddCommand(newRebuildChangeCmds(app)...)
	return cmd
}

// rebuilds is what the commands of rebuilds and the projector work with.
type rebuilds struct {
	svc    *rebuild.Service
	jobs   *jobs.Store
	db     *chstore.Store
	client *redisstream.Client // nil: none is configured
}

func (r *rebuilds) close() error {
	var errs []error
	if r.db != nil {
		errs = append(errs, r.db.Close())
	}
	if r.client != nil {
		errs = append(errs, r.client.Close())
	}
	return errors.Join(errs...)
}

// openRebuilds opens what rebuilds need; its caller closes it.
func (a *app) openRebuilds(ctx context.Context) (_ *rebuilds, err error) {
	r := &rebuilds{}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	if _, err := a.loadProjections(); err != nil {
		return nil, err
	}
	var store objectstore.Store
	if r.jobs, store, err = a.openJobs(ctx); err != nil {
		return nil, err
	}
	arch, err := archive.Open(ctx, store, a.archiveOptions())
	if err != nil {
		return nil, err
	}
	if err := objectstore.Probe(ctx, store); err != nil {
		return nil, fmt.Errorf("probe the object store: %w", err)
	}
	if r.db, err = a.connectClickHouse(ctx); err != nil {
		return nil, err
	}
	if r.client, err = a.connectRedis(ctx); err != nil {
		return nil, err
	}
	upcasters, err := a.upcasters(a.cfg.Replay.Upcasters)
	if err != nil {
		return nil, err
	}
	pushdown, err := a.pushdown()
	if err != nil {
		return nil, err
	}
	r.svc, err = rebuild.New(rebuild.Options{
		Archive: arch, Objects: store, Jobs: r.jobs, ClickHouse: r.db, Redis: r.client, Upcasters: upcasters,
		Definitions: func() (*projection.Set, error) { return a.loadProjections() },
		Pushdown:    pushdown, Mapping: a.cfg.Envelope, StateDir: a.stateDir(), Logger: a.logger,
	})
	return r, err
}

// stateDir is where the states of folds are.
func (a *app) stateDir() string {
	if dir := a.cfg.Projections.State; dir != "" {
		return dir
	}
	return filepath.Join(os.TempDir(), "reservoir-folds")
}

// pushdown says how ClickHouse itself reads the archive: on S3, with keys that it may
// have. What lies in a directory goes through this process.
func (a *app) pushdown() (rebuild.Pushdown, error) {
	s3, prefix, err := a.archiveAtClickHouse()
	if err != nil || s3 == nil {
		return rebuild.Pushdown{}, err
	}
	return rebuild.Pushdown{S3: s3, Prefix: prefix}, nil
}

// refusedRebuild makes the mistakes of a request those of the command line.
func refusedRebuild(err error) error {
	if errors.Is(err, rebuild.ErrInvalid) || errors.Is(err, projection.ErrUnknown) {
		return usageError{err}
	}
	return err
}

// oneRebuild wants the ID of a rebuild.
func oneRebuild(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usagef("which rebuild? Give its ID; `reservoir rebuild list` shows them")
	}
	if err := jobs.CheckID(args[0]); err != nil {
		return usageError{withRebuildList(err)}
	}
	return nil
}

// oneProjection wants the name of a projection.
func oneProjection(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usagef("which projection? Give its name; `reservoir projections list` shows them")
	}
	return nil
}

// withRebuildList says where the IDs are when there is no such job.
func withRebuildList(err error) error {
	if errors.Is(err, jobs.ErrNotFound) && remedy.Of(err) == "" {
		return remedy.Wrap(err, "`reservoir rebuild list --all` shows the rebuilds that there are")
	}
	return err
}
