package app

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/event"
)

const verifyHelp = `Read again everything that the archive holds, or a range of it, and say what is wrong: commits and snapshots, checksums, counts,
order, contiguity, and whether both formats hold the same events. Nothing is changed, and Redis is not asked.

Exit status 1 when there is a problem. Warnings (such as objects that no commit names yet) and gaps that were recorded are not problems.`

const verifyExample = `  reservoir verify
  reservoir verify --stream orders --from 2026-11-01 --to 2026-11-07
  reservoir verify --json | jq -r '.streams[].findings[].key'`

// verifyParallel is how many streams are verified at once; each reads several
// segments at a time.
const verifyParallel = 4

func newVerifyCmd(app *app) *cobra.Command {
	var (
		patterns []string
		from, to string
		asJSON   bool
	)
	cmd := &cobra.Command{
		Use:     "verify",
		Short:   "Check that the archive holds what it promises",
		Long:    verifyHelp,
		Example: verifyExample,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := event.ParseRange(from, to, time.Now())
			if err != nil {
				return usageError{err}
			}
			return app.verify(cmd.Context(), patterns, r, asJSON)
		},
	}
	flags := cmd.Flags()
	streamFlag(flags, &patterns, " to verify; default all")
	rangeFlags(flags, &from, &to)
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// verification is the JSON of the command.
type verification struct {
	Streams  []*archive.VerifyReport `json:"streams"`
	Verified archive.VerifyTotals    `json:"verified"`
	Problems uint64                  `json:"problems"`
	Warnings uint64                  `json:"warnings"`
}

// verifyProgress sums up what the verifications at work have done so far.
type verifyProgress struct {
	mu      sync.Mutex
	streams map[string]archive.VerifyTotals
	done    int
	began   time.Time
}

func (p *verifyProgress) totals() (t archive.VerifyTotals) {
	for _, s := range p.streams {
		t.Commits += s.Commits
		t.Segments += s.Segments
		t.Events += s.Events
		t.Bytes += s.Bytes
	}
	return t
}

func (a *app) verify(ctx context.Context, patterns []string, r event.Range, asJSON bool) error {
	arch, err := a.openArchive(ctx)
	if err != nil {
		return err
	}
	streams, err := archivedStreams(ctx, arch, patterns)
	if err != nil {
		return err
	}
	progress := &verifyProgress{streams: map[string]archive.VerifyTotals{}, began: time.Now()}
	line := a.newStatusLine(func() string {
		progress.mu.Lock()
		defer progress.mu.Unlock()
		t, took := progress.totals(), time.Since(progress.began)
		return fmt.Sprintf("verifying: %d of %d streams, %d segments, %s events (%s), %s (%s)", progress.done, len(streams),
			t.Segments, humanCount(t.Events), humanRate(t.Events, took), humanBytes(t.Bytes), humanByteRate(t.Bytes, took))
	})
	result := verification{Streams: []*archive.VerifyReport{}}
	err = eachStream(ctx, streams, verifyParallel, func(ctx context.Context, stream string) error {
		spec := archive.VerifySpec{Stream: stream, Range: r, Progress: func(t archive.VerifyTotals) {
			progress.mu.Lock()
			defer progress.mu.Unlock()
			progress.streams[stream] = t
		}}
		var printed error
		if !asJSON {
			spec.Found = func(f archive.Finding) {
				if err := line.above(func() error { return a.printFinding(f) }); err != nil {
					printed = err
				}
			}
		}
		report, err := arch.Verify(ctx, spec)
		if err != nil {
			return err
		}
		progress.mu.Lock()
		defer progress.mu.Unlock()
		progress.done++
		progress.streams[stream] = report.Verified
		if report.Findings == nil {
			report.Findings = []archive.Finding{}
		}
		result.Streams = append(result.Streams, report)
		result.Problems += report.Problems
		result.Warnings += report.Warnings
		return printed
	})
	line.close()
	if err != nil {
		return err
	}
	result.Verified = progress.totals()
	slices.SortFunc(result.Streams, func(x, y *archive.VerifyReport) int { return strings.Compare(x.Stream, y.Stream) })
	return a.printVerification(result, time.Since(progress.began), asJSON)
}

func (a *app) printFinding(f archive.Finding) error {
	if err := a.printf("%s\n", cellText.Replace(f.String())); err != nil || f.Remedy == "" || strings.Contains(f.String(), f.Remedy) {
		return err
	}
	return a.printf("  remedy: %s\n", f.Remedy)
}

func (a *app) printVerification(v verification, took time.Duration, asJSON bool) error {
	var err error
	if asJSON {
		err = a.printJSON(v)
	} else {
		t := v.Verified
		err = a.printf("verified %d streams in %s: %d commits, %d segments, %s events, %s: %d problems, %d warnings\n", len(v.Streams),
			humanDuration(took), t.Commits, t.Segments, humanCount(t.Events), humanBytes(t.Bytes), v.Problems, v.Warnings)
	}
	if err == nil && v.Problems > 0 {
		return errProblems
	}
	return err
}
