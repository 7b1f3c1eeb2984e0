package app

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/reservoirhq/reservoir/archiver"
	"github.com/reservoirhq/reservoir/redisstream"
)

const streamsHelp = `List every stream that is archived, or in Redis and to be archived, with how far the archive is behind.

LENGTH is what Redis holds now, LAG what was added beyond the archive's HEAD, AGE how old the first entry of that is. LOST counts
entries that were gone from Redis before they could be archived; --gaps lists each such loss. EVENTS, SEGMENTS, STORED and RAW are
what the archive holds: bytes on the store, and bytes of names and values.

Without Redis (--offline, or when it cannot be reached, which is said) it shows what the archive alone knows.
Exit status 1 when a stream could not be looked at.`

const streamsExample = `  reservoir streams
  reservoir streams --gaps 'shop:*'                       each loss, of some streams
  reservoir streams --json | jq '.streams[] | select(.live.lag_entries > 1000) | .stream'`

func newStreamsCmd(app *app) *cobra.Command {
	var asJSON, gaps, offline bool
	cmd := &cobra.Command{
		Use:     "streams [PATTERN...]",
		Short:   "List streams with length, head, lag, losses and sizes",
		Long:    streamsHelp,
		Example: streamsExample,
		RunE: func(cmd *cobra.Command, patterns []string) error {
			return app.listStreams(cmd.Context(), patterns, offline, gaps, asJSON)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	flags.BoolVar(&gaps, "gaps", false, "list every loss with its range and cause")
	flags.BoolVar(&offline, "offline", false, "do not ask Redis")
	return cmd
}

// streamList is the JSON of the command.
type streamList struct {
	// Redis says why Redis was not asked; empty when it was.
	Redis   string            `json:"redis_not_asked,omitempty"`
	Streams []archiver.Status `json:"streams"`
}

func (a *app) listStreams(ctx context.Context, patterns []string, offline, gaps, asJSON bool) (err error) {
	arch, err := a.openArchive(ctx)
	if err != nil {
		return err
	}
	spec := archiver.StatusSpec{Include: patterns, Gaps: gaps}
	list := streamList{Streams: []archiver.Status{}}
	var client *redisstream.Client
	if offline {
		list.Redis = "--offline"
	} else if client, err = a.connectRedis(ctx); err != nil {
		if !errors.Is(err, redisstream.ErrUnreachable) || ctx.Err() != nil {
			return err
		}
		client, list.Redis = nil, a.cfg.Redact(err.Error())
		a.logger.Warn("redis cannot be reached: showing what the archive knows", "error", list.Redis)
	} else {
		defer func() { err = errors.Join(err, client.Close()) }()
	}
	if len(patterns) == 0 && client != nil {
		spec.Include, spec.Exclude = a.cfg.Streams.Include, a.cfg.Streams.Exclude
	}
	failed := false
	for st, err := range archiver.Statuses(ctx, client, arch, spec) {
		if err != nil {
			return err
		}
		failed = failed || st.Err != nil
		st.Reason = a.cfg.Redact(st.Reason)
		list.Streams = append(list.Streams, st)
	}
	if asJSON {
		err = a.printJSON(list)
	} else {
		err = a.printStreams(list.Streams, client != nil, gaps)
	}
	if err == nil && failed {
		return errProblems
	}
	return err
}

func (a *app) printStreams(streams []archiver.Status, live, gaps bool) error {
	header := []string{"STREAM", "LENGTH", "HEAD", "LAG", "AGE", "EVENTS", "GAPS", "LOST", "INCARNATIONS", "SEGMENTS", "STORED", "RAW"}
	if !live {
		header = append([]string{"STREAM", "HEAD"}, header[5:]...)
	}
	t := a.table(header...)
	var notes []string
	for _, st := range streams {
		cells := []string{st.Stream}
		head := "-"
		if st.Archived {
			head = st.Head.String()
		}
		if live {
			cells = append(cells, liveCells(&st, head)...)
		} else {
			cells = append(cells, head)
		}
		t.row(append(cells, humanCount(st.Events), strconv.FormatUint(st.Gaps, 10), strconv.FormatUint(st.Lost, 10),
			strconv.Itoa(st.Incarnations), humanCount(st.Segments), humanBytes(st.Bytes), humanBytes(st.RawBytes))...)
		notes = append(notes, streamNotes(&st)...)
	}
	if err := t.flush(); err != nil {
		return err
	}
	for _, note := range notes {
		if err := a.printf("%s\n", cellText.Replace(note)); err != nil {
			return err
		}
	}
	if !gaps {
		return nil
	}
	return a.printGaps(streams)
}

func liveCells(st *archiver.Status, head string) []string {
	l := st.Live
	if l == nil {
		return []string{"-", head, "-", "-"}
	}
	age := "-"
	if l.Lag > 0 {
		age = humanDuration(l.LagAge.Truncate(time.Millisecond))
	}
	return []string{humanCount(l.Length), head, humanCount(l.Lag), age}
}

// streamNotes says what does not fit in a table.
func streamNotes(st *archiver.Status) []string {
	var notes []string
	if st.Err != nil {
		note := fmt.Sprintf("FAILED: %s: %s", st.Stream, st.Reason)
		if r := remedyOf(st.Err); r != "" {
			note += " (" + r + ")"
		}
		notes = append(notes, note)
	}
	if l := st.Live; l != nil && l.Unarchived > 0 {
		notes = append(notes, fmt.Sprintf("LOST: %s: %d entries beyond the head are gone from Redis; the archiver will record that", st.Stream, l.Unarchived))
	}
	if l := st.Live; l != nil && l.Replaced {
		notes = append(notes, fmt.Sprintf("REPLACED: %s: Redis holds another history than the archive; the archiver will begin a new incarnation", st.Stream))
	}
	return notes
}

func (a *app) printGaps(streams []archiver.Status) error {
	t := a.table("STREAM", "INCARNATION", "AFTER", "UP TO", "LOST", "CAUSE", "RECORDED")
	found := false
	for _, st := range streams {
		for _, g := range st.GapList {
			found = true
			lost := strconv.FormatUint(g.Lost, 10)
			if !g.Exact {
				lost = "at least " + lost
			}
			t.row(st.Stream, strconv.Itoa(g.Incarnation), g.After.String(), g.UpTo.String(), lost, string(g.Cause), g.Time.UTC().Format(time.RFC3339))
		}
	}
	if !found {
		return a.printf("\nno gaps: nothing was lost\n")
	}
	if err := a.printf("\n"); err != nil {
		return err
	}
	return t.flush()
}
