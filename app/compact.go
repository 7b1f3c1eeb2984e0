package app

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/reservoirhq/reservoir/archive"
)

const compactHelp = `Merge small segments of the same hour into large ones, without changing an event: what is read is checked, what is written is counted.
It is safe beside archivers and readers; the old objects stay for readers until "reservoir gc" comes by after the grace period.
Interrupted, it has done a part, and goes on when it is run again.`

const compactExample = `  reservoir compact
  reservoir compact --stream 'shop:*' --target-size 512MiB`

func newCompactCmd(app *app) *cobra.Command {
	var (
		patterns []string
		asJSON   bool
	)
	cmd := &cobra.Command{
		Use:     "compact",
		Short:   "Merge small segments into large ones",
		Long:    compactHelp,
		Example: compactExample,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return app.compact(cmd.Context(), patterns, asJSON)
		},
	}
	flags := cmd.Flags()
	streamFlag(flags, &patterns, " to compact; default all")
	bindKey(flags, "target-size", "retention.compact.target_size")
	bindKey(flags, "target-count", "retention.compact.target_count")
	bindKey(flags, "min-age", "retention.compact.min_age")
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) compact(ctx context.Context, patterns []string, asJSON bool) error {
	arch, err := a.openArchiveForWriting(ctx)
	if err != nil {
		return err
	}
	cfg := a.cfg.Retention.Compact
	m := maintenance[archive.CompactReport]{
		patterns: patterns, asJSON: asJSON, doing: "compacting", parallel: 1, // each merge needs memory and both cores
		do: func(ctx context.Context, arch *archive.Archive, stream string) (archive.CompactReport, error) {
			return arch.Compact(ctx, archive.CompactSpec{
				Stream: stream, TargetBytes: int64(cfg.TargetSize), TargetEvents: uint64(cfg.TargetCount), MinAge: cfg.MinAge.D(),
			})
		},
		line: func(r archive.CompactReport) string {
			if r == (archive.CompactReport{}) {
				return ""
			}
			text := fmt.Sprintf("%d segments became %d: %s events, %s became %s",
				r.Before, r.After, humanCount(r.Events), humanBytes(r.Bytes), humanBytes(r.NewSize))
			if r.Skipped > 0 {
				text += fmt.Sprintf("; %d merges left to another writer", r.Skipped)
			}
			return text
		},
		add: func(sum *archive.CompactReport, r archive.CompactReport) {
			sum.Commits += r.Commits
			sum.Before += r.Before
			sum.After += r.After
			sum.Events += r.Events
			sum.Bytes += r.Bytes
			sum.NewSize += r.NewSize
			sum.Skipped += r.Skipped
		},
	}
	return m.run(ctx, a, arch, false)
}
