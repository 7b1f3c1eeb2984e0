package app

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/reservoirhq/reservoir/archive"
)

const gcHelp = `Delete objects that the archive no longer needs, once the grace period has passed: segments that were merged, expired or never
committed (a writer crashed), and old snapshots. Commits are never deleted. It is safe beside archivers, readers and other gc runs, as long
as the grace period is longer than any of them takes.`

const gcExample = `  reservoir gc --dry-run
  reservoir gc --grace 48h`

func newGCCmd(app *app) *cobra.Command {
	var (
		patterns              []string
		dryRun, force, asJSON bool
	)
	cmd := &cobra.Command{
		Use:     "gc",
		Short:   "Delete objects that the archive no longer needs",
		Long:    gcHelp,
		Example: gcExample,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if grace := app.cfg.Retention.GCGrace.D(); grace < archive.MinGrace && !force {
				return usagef("a grace period of %s is too short to be safe beside archivers and readers: want at least %s, or --force when nobody else uses the archive",
					grace, humanDuration(archive.MinGrace))
			}
			return app.collect(cmd.Context(), patterns, dryRun, force, asJSON)
		},
	}
	flags := cmd.Flags()
	streamFlag(flags, &patterns, " to clean; default all")
	bindKey(flags, "grace", "retention.gc_grace")
	flags.BoolVar(&force, "force", false, "allow a grace period that is only safe when nobody else uses the archive")
	flags.BoolVar(&dryRun, "dry-run", false, "say what would be deleted, and delete nothing")
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) collect(ctx context.Context, patterns []string, dryRun, force, asJSON bool) error {
	arch, err := a.openArchive(ctx)
	if err != nil {
		return err
	}
	grace := max(a.cfg.Retention.GCGrace.D(), 1) // 0 would be the default
	m := maintenance[archive.GCReport]{
		patterns: patterns, asJSON: asJSON, doing: "collecting garbage", parallel: 4,
		do: func(ctx context.Context, arch *archive.Archive, stream string) (archive.GCReport, error) {
			return arch.GC(ctx, archive.GCSpec{Stream: stream, Grace: grace, Force: force, DryRun: dryRun})
		},
		line: func(r archive.GCReport) string {
			if r == (archive.GCReport{}) {
				return ""
			}
			text := fmt.Sprintf("%d segments and %d snapshots, %s, deleted", r.Segments, r.Snapshots, humanBytes(r.Bytes))
			if r.Kept > 0 {
				text += fmt.Sprintf("; %d objects kept for the grace period", r.Kept)
			}
			return text
		},
		add: func(sum *archive.GCReport, r archive.GCReport) {
			sum.Segments += r.Segments
			sum.Snapshots += r.Snapshots
			sum.Bytes += r.Bytes
			sum.Kept += r.Kept
		},
	}
	return m.run(ctx, a, arch, dryRun)
}
