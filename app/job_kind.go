package app

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/rebuild"
	"github.com/reservoirhq/reservoir/replay"
)

// jobKind is what the commands of replays and those of rebuilds differ in; all else
// they share.
type jobKind struct {
	name string // jobs.Job.Kind, and that of the command

	cancels   string // short help of cancel
	cancelled string // what comes after it
	watches   string // short help of watch
	exits     string // more help of watch

	header []string // of lists
	row    func(*jobs.Job) []string
	// waits: it may wait for a person, at which watch ends.
	waits bool
	// ended sums up a job that runs no more.
	ended func(out io.Writer, job *jobs.Job) error
	// unwell reports whether a job that succeeded did so with something left to see to.
	unwell func(*jobs.Job) bool
}

func replayKind() *jobKind {
	return &jobKind{
		name:    replay.Kind,
		cancels: "End a replay for good; what was sent stays sent", cancelled: "a `reservoir worker` cleans up",
		watches: "Show a replay's progress until it ends",
		exits:   "Exit status: 0 succeeded; 1 succeeded with dead letters, or cancelled; 3 failed.",
		header:  []string{"ID", "STATE", "CREATED", "DONE", "SELECTED", "DEAD", "RATE", "LEFT", "NAME", "TARGET"},
		row: func(job *jobs.Job) []string {
			p := &job.Progress
			rate, left := speedTexts(job)
			return []string{job.ID, string(job.State), createdText(job), doneText(p), humanCount(p.Selected), fmt.Sprint(p.DeadLetters), rate, left, job.Name, job.Target}
		},
		ended:  printEnded,
		unwell: func(job *jobs.Job) bool { return job.Progress.DeadLetters > 0 },
	}
}

func rebuildKind() *jobKind {
	return &jobKind{
		name:    rebuild.Kind,
		cancels: "End a rebuild for good, and drop its new table", cancelled: "a `reservoir worker` drops its tables",
		watches: "Show a rebuild's progress until it ends or waits for a person",
		exits:   "Exit status: 0 succeeded; 1 it waits for a person, or was cancelled; 3 failed.",
		header:  []string{"ID", "STATE", "PHASE", "CREATED", "DONE", "ROWS", "RATE", "LEFT", "PROJECTION", "WHY"},
		row: func(job *jobs.Job) []string {
			p := &job.Progress
			rate, left := speedTexts(job)
			return []string{
				job.ID, string(job.State), p.Phase, createdText(job), doneText(p), humanCount(p.Selected), rate, left,
				strings.TrimPrefix(job.Target, rebuild.Target("")), job.StateReason,
			}
		},
		waits: true,
		ended: func(out io.Writer, job *jobs.Job) error {
			if _, err := fmt.Fprintf(out, "%s\n", cellText.Replace(stateText(job))); err != nil {
				return fmt.Errorf("write output: %w", err)
			}
			return nil
		},
		unwell: func(*jobs.Job) bool { return false },
	}
}

// command is one of the kind's, as people write it.
func (k *jobKind) command(verb, args string) string {
	return strings.TrimSpace("reservoir " + k.name + " " + verb + " " + args)
}

// anID is in examples.
const anID = "01KAJ4M5N6P7Q8R9S0T1V2W3X4"

// one wants the ID of a job.
func (k *jobKind) one(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usagef("which %s? Give its ID; `%s` shows them", k.name, k.command("list", ""))
	}
	if err := jobs.CheckID(args[0]); err != nil {
		return usageError{k.listed(err)}
	}
	return nil
}

// listed says where the IDs are when there is no such job.
func (k *jobKind) listed(err error) error {
	if errors.Is(err, jobs.ErrNotFound) && remedy.Of(err) == "" {
		return remedy.Wrapf(err, "`%s` shows the %ss that there are", k.command("list", "--all"), k.name)
	}
	return err
}

// refused makes the mistakes of a request those of the command line.
func refused(err error) error {
	for _, mistake := range []error{replay.ErrInvalid, replay.ErrNoStream, replay.ErrNothing, rebuild.ErrInvalid, projection.ErrUnknown, chstore.ErrData} {
		if errors.Is(err, mistake) {
			return usageError{withRemedies(err)}
		}
	}
	return err
}
