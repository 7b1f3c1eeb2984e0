package app

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/reservoirhq/reservoir/archive"
)

const expireHelp = `Drop old events from the archive: whole segments, all of whose events are older than --older-than by their IDs.
It cannot be undone once "reservoir gc" has deleted the objects, after the grace period. It asks before it begins, unless --yes is given.`

const expireExample = `  reservoir expire --older-than 400d --dry-run
  reservoir expire --older-than 400d --stream 'shop:*' --yes`

func newExpireCmd(app *app) *cobra.Command {
	var (
		patterns            []string
		older               time.Duration
		yes, dryRun, asJSON bool
	)
	cmd := &cobra.Command{
		Use:     "expire",
		Short:   "Drop events older than an age from the archive",
		Long:    expireHelp,
		Example: expireExample,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if older == 0 {
				older = app.cfg.Retention.ExpireAfter.D()
			}
			if older <= 0 {
				return usagef("how old? Give --older-than 400d, or set retention.expire_after")
			}
			return app.expire(cmd.Context(), patterns, older, yes, dryRun, asJSON)
		},
	}
	flags := cmd.Flags()
	streamFlag(flags, &patterns, " to expire; default all")
	flags.Var(durationFlag{&older}, "older-than", "age from which events are dropped, such as 400d (default retention.expire_after)")
	flags.BoolVar(&yes, "yes", false, "do not ask")
	flags.BoolVar(&dryRun, "dry-run", false, "say what would be dropped, and drop nothing")
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) expire(ctx context.Context, patterns []string, older time.Duration, yes, dryRun, asJSON bool) error {
	before := time.Now().Add(-older)
	open := a.openArchiveForWriting
	if dryRun {
		open = a.openArchive
	}
	arch, err := open(ctx)
	if err != nil {
		return err
	}
	m := maintenance[archive.Removed]{
		patterns: patterns, asJSON: asJSON, doing: "expiring", parallel: 4,
		do: func(ctx context.Context, arch *archive.Archive, stream string) (archive.Removed, error) {
			if dryRun {
				return arch.Expirable(ctx, stream, before)
			}
			return arch.Expire(ctx, stream, before)
		},
		line: func(r archive.Removed) string {
			if r == (archive.Removed{}) {
				return ""
			}
			return fmt.Sprintf("%s events in %d segments, %s, dropped", humanCount(r.Events), r.Segments, humanBytes(r.Bytes))
		},
		add: func(sum *archive.Removed, r archive.Removed) {
			sum.Events += r.Events
			sum.Segments += r.Segments
			sum.Bytes += r.Bytes
		},
	}
	if !dryRun && !yes {
		which := "all streams"
		if len(patterns) > 0 {
			which = fmt.Sprintf("streams %q", patterns)
		}
		question := fmt.Sprintf("Drop the events of %s before %s from %s?", which, before.UTC().Format(time.RFC3339), a.cfg.Store.URL)
		if err := a.confirm(question); err != nil {
			return err
		}
	}
	return m.run(ctx, a, arch, dryRun)
}
