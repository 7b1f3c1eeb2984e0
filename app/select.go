package app

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/redisstream"
)

// streamFlag adds --stream to a command that works on what is archived.
func streamFlag(flags *pflag.FlagSet, patterns *[]string, meaning string) {
	flags.StringArrayVar(patterns, "stream", nil, "`name` or pattern of streams"+meaning+"; can be given several times")
}

// filterFlags adds the flags that select events.
func filterFlags(flags *pflag.FlagSet, f *event.Filter) {
	flags.StringArrayVar(&f.Types, "type", nil, "only events of this `type`, or of a pattern: 'Order*'; any of several")
	flags.StringArrayVar(&f.Tenants, "tenant", nil, "only events of this `tenant`; any of several")
	flags.StringArrayVar(&f.AggregateTypes, "aggregate-type", nil, "only events of aggregates of this `type`; any of several")
	flags.StringArrayVar(&f.Aggregates, "aggregate", nil, "only events of this aggregate, by `ID` or type/ID; any of several")
	flags.StringArrayVar(&f.EventIDs, "event-id", nil, "only the event with this `ID` of its producer's; any of several")
	flags.StringVar(&f.Where, "where", "", "only events that meet this `condition`")
}

// archivedStreams gives the streams of the archive that the patterns select, by
// name; no pattern selects all. A pattern that selects none is an error.
func archivedStreams(ctx context.Context, arch *archive.Archive, patterns []string) ([]string, error) {
	used := make([]bool, len(patterns))
	var names []string
	for name, err := range arch.Streams(ctx) {
		if err != nil {
			return nil, fmt.Errorf("list the streams of the archive: %w", err)
		}
		selected := len(patterns) == 0
		for i, p := range patterns {
			if redisstream.Selected(name, []string{p}, nil) {
				selected, used[i] = true, true
			}
		}
		if selected {
			names = append(names, name)
		}
	}
	if i := slices.Index(used, false); i >= 0 {
		return nil, fmt.Errorf("nothing in the archive matches %q: %w", patterns[i], redisstream.ErrNoStream)
	}
	slices.Sort(names)
	return names, nil
}

// eachStream does the same for several streams at once, and stops at the first
// error.
func eachStream(ctx context.Context, streams []string, parallel int, do func(ctx context.Context, stream string) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for _, stream := range streams {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return do(ctx, stream)
		})
	}
	return group.Wait()
}

// statusLine shows a text that changes on a terminal's stderr; elsewhere
// nothing.
type statusLine struct {
	out  io.Writer // nil: no terminal
	text func() string
	mu   sync.Mutex
	done chan struct{}
	wg   sync.WaitGroup
}

const eraseLine = "\r\x1b[K"

// newStatusLine begins one; its caller closes it.
func (a *app) newStatusLine(text func() string) *statusLine {
	s := &statusLine{text: text, done: make(chan struct{})}
	if !a.errTerminal {
		return s
	}
	s.out = a.stderr
	s.wg.Go(func() {
		tick := time.NewTicker(displayEvery)
		defer tick.Stop()
		for {
			select {
			case <-s.done:
				return
			case <-tick.C:
				s.mu.Lock()
				fmt.Fprint(s.out, eraseLine+cellText.Replace(s.text()))
				s.mu.Unlock()
			}
		}
	})
	return s
}

// above calls write while the line is out of the way.
func (s *statusLine) above(write func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out != nil {
		fmt.Fprint(s.out, eraseLine)
	}
	return write()
}

func (s *statusLine) close() {
	close(s.done)
	s.wg.Wait()
	if s.out != nil {
		fmt.Fprint(s.out, eraseLine)
	}
}
