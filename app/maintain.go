package app

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/config"
	"github.com/reservoirhq/reservoir/internal/remedy"
)

// maintenance does one thing to many streams, prints a line for each that it
// changed, and a sum.
type maintenance[R any] struct {
	patterns []string
	asJSON   bool
	doing    string // such as "compacting"
	parallel int
	do       func(ctx context.Context, arch *archive.Archive, stream string) (R, error)
	// line says what was done to a stream, or nothing.
	line func(R) string
	add  func(sum *R, r R)
}

// maintained is the JSON of a maintenance command.
type maintained[R any] struct {
	Streams map[string]R `json:"streams"` // those that were changed
	Total   R            `json:"total"`
	DryRun  bool         `json:"dry_run,omitempty"`
}

func (m *maintenance[R]) run(ctx context.Context, a *app, arch *archive.Archive, dryRun bool) error {
	streams, err := archivedStreams(ctx, arch, m.patterns)
	if err != nil {
		return err
	}
	var (
		mu   sync.Mutex
		done int
	)
	out := maintained[R]{Streams: map[string]R{}, DryRun: dryRun}
	status := a.newStatusLine(func() string {
		mu.Lock()
		defer mu.Unlock()
		return strings.TrimSuffix(fmt.Sprintf("%s: %d of %d streams; %s", m.doing, done, len(streams), m.line(out.Total)), "; ")
	})
	err = eachStream(ctx, streams, m.parallel, func(ctx context.Context, stream string) error {
		r, err := m.do(ctx, arch, stream)
		mu.Lock()
		defer mu.Unlock()
		done++
		m.add(&out.Total, r) // what was done before it failed counts too
		if m.line(r) != "" {
			out.Streams[stream] = r
		}
		return err
	})
	status.close()
	if m.asJSON {
		if printErr := a.printJSON(out); printErr != nil && err == nil {
			err = printErr
		}
		return err
	}
	if printErr := m.print(a, streams, out); printErr != nil && err == nil {
		err = printErr
	}
	return err
}

func (m *maintenance[R]) print(a *app, streams []string, out maintained[R]) error {
	for _, stream := range streams {
		if r, ok := out.Streams[stream]; ok {
			if err := a.printf("%s: %s\n", cellText.Replace(stream), m.line(r)); err != nil {
				return err
			}
		}
	}
	sum := m.line(out.Total)
	if sum == "" {
		sum = "nothing to do"
	}
	return a.printf("%s%d streams: %s\n", map[bool]string{true: "dry run: "}[out.DryRun], len(streams), sum)
}

// confirm asks on the terminal; without one the answer must be a flag.
func (a *app) confirm(question string) error {
	if !isTerminalReader(a.stdin) {
		return usageError{remedy.Wrapf(errors.New("not confirmed: "+question), "confirm with --yes; --dry-run shows what would happen")}
	}
	fmt.Fprintf(a.stderr, "%s [y/N] ", question)
	answer, err := bufio.NewReader(a.stdin).ReadString('\n')
	if err != nil && err != io.EOF {
		return fmt.Errorf("read the answer: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	default:
		return usagef("not confirmed: nothing was done")
	}
}

// durationFlag is a flag with days and weeks: 400d.
type durationFlag struct{ d *time.Duration }

func (f durationFlag) String() string {
	if f.d == nil || *f.d == 0 {
		return ""
	}
	return config.Duration(*f.d).String()
}

func (f durationFlag) Set(s string) error {
	d, err := config.ParseDuration(s)
	*f.d = d.D()
	return err
}

func (durationFlag) Type() string { return "duration" }
