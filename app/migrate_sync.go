package app

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/migrations"
)

const migrateSyncHelp = `Copy what analysts see to ClickHouse: the documents of jobs into rebuilds, replays and job_log, and into the views over the archive which
files belong to it. It reads job documents and commit logs, not the archived files, and writes only what changed.

Run it every few minutes, by a timer or with --every: a view shows what was archived when it was last synced, and refuses to be read
when that was longer ago than retention.gc_grace, since files that it lists may be gone by then.`

func newMigrateSyncCmd(app *app) *cobra.Command {
	var (
		every  time.Duration
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "sync",
		Short: "Copy the history of jobs and the lists of archived files to ClickHouse",
		Long:  migrateSyncHelp,
		Example: `  reservoir migrate sync
  reservoir migrate sync --every 1m`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return app.migrateSync(cmd.Context(), every, asJSON) },
	}
	cmd.Flags().Var(durationFlag{&every}, "every", "go on until it is stopped, and sync this often, such as 1m")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// syncReport is the JSON of the command.
type syncReport struct {
	Jobs    migrations.JobsReport     `json:"jobs"`
	Streams []migrations.StreamReport `json:"streams"`
}

func (a *app) migrateSync(ctx context.Context, every time.Duration, asJSON bool) (err error) {
	m, err := a.openMigrator()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	s3, root, err := a.archiveAtClickHouse()
	if err != nil {
		return usageError{err}
	}
	place := migrations.Place{S3: s3, Root: root, Grace: a.cfg.Retention.GCGrace.D()}
	if every <= 0 {
		return a.syncOnce(ctx, m, place, asJSON)
	}
	for {
		if err := a.syncOnce(ctx, m, place, asJSON); err != nil && ctx.Err() == nil {
			a.logger.Error("sync failed: trying again", "error", a.cfg.Redact(err.Error()))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(every):
		}
	}
}

func (a *app) syncOnce(ctx context.Context, m *migrations.Migrator, place migrations.Place, asJSON bool) error {
	jobStore, store, err := a.openJobs(ctx)
	if err != nil {
		return err
	}
	arch, err := archive.Open(ctx, store, a.archiveOptions())
	if err != nil {
		return err
	}
	var report syncReport
	if report.Jobs, err = m.SyncJobs(ctx, jobStore); err != nil {
		return err
	}
	if report.Streams, err = m.SyncArchive(ctx, arch, place); err != nil {
		return err
	}
	if asJSON {
		return a.printJSON(report)
	}
	return a.printSync(&report)
}

func (a *app) printSync(r *syncReport) error {
	if err := a.printf("%d jobs, %d of them changed\n", r.Jobs.Jobs, r.Jobs.Changed); err != nil || len(r.Streams) == 0 {
		return err
	}
	t := a.table("STREAM", "VIEW", "EVENTS", "FILES", "ADDED", "REMOVED", "NOTE")
	for _, s := range r.Streams {
		view, note := "-", ""
		if s.View != "" {
			view = a.cfg.ClickHouse.ArchiveDB + "." + s.View
		}
		if s.LeftOut > 0 {
			note = humanCount(s.LeftOut) + " events are in JSONL only, and not in the view"
		}
		t.row(s.Stream, view, humanCount(s.Events), humanCount(s.Files), strconv.FormatUint(s.Added, 10), strconv.FormatUint(s.Removed, 10), note)
	}
	return t.flush()
}
