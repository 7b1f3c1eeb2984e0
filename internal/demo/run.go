package demo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/reservoirhq/reservoir/archiver"
)

const (
	lookEvery = 200 * time.Millisecond
	// patience is how long the archiver may make no progress at all.
	patience = 60 * time.Second
	// leastStory is how long publishing must take for the archiver to be killed in
	// the midst of it.
	leastStory = 3 * time.Second
)

// When what happens, as a share of the events that are published by then.
const (
	killAt    = 0.40
	trimAt    = 0.50
	restartAt = 0.55
)

// Run publishes the events, lets happen what is to happen, compares the archive with
// what was published, and replays a part of it. A Result with problems is not an error.
func (d *Demo) Run(ctx context.Context) (Result, error) {
	began := time.Now()
	story := &story{Demo: d, records: &records{streams: map[string]*record{}}}
	story.tables = d.startTables(func() float64 { return float64(story.records.published()) / float64(d.source.total()) })
	err := story.tell(ctx)
	var result Result
	if err == nil {
		result, err = d.compare(ctx, story.records)
		result.Tables = story.result
		result.Problems = append(result.Problems, story.problems...)
	}
	if err == nil && len(result.Problems) == 0 {
		err = d.replay(ctx, &result)
	}
	if ctx.Err() != nil && err != nil {
		return Result{}, ctx.Err()
	}
	d.keep = true // after an error too: the logs may tell why
	if err != nil {
		return Result{}, err
	}
	result.Took = time.Since(began)
	result.Kills = story.kills
	return result, nil
}

// story is what happens between the first event and the last.
type story struct {
	*Demo
	records  *records
	kills    int
	restarts int

	tables   *tables // nil: there are none
	result   *Tables
	problems []string // of the tables
}

// step is done once that share of the events is published.
type step struct {
	at float64
	do func(context.Context, Progress) error
}

func (s *story) tell(ctx context.Context) (err error) {
	if err := s.tellAll(ctx); err != nil {
		return err
	}
	if err := s.archiver.Stop(); err != nil {
		return err
	}
	if s.tables != nil {
		if s.result, s.problems, err = s.tables.settle(ctx); err != nil {
			return fmt.Errorf("look at the tables: %w", err)
		}
	}
	s.opts.Show(Drained{})
	return nil
}

// tellAll returns when everything is published and archived, and the tables are built
// and mended.
func (s *story) tellAll(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done, told := make(chan error, 1), make(chan struct{})
	var others sync.WaitGroup
	others.Go(func() { done <- s.publish(ctx, s.records) })
	others.Go(func() {
		defer close(told)
		if s.tables == nil {
			return
		}
		if err := s.tables.tell(ctx); err != nil {
			cancel(err)
		}
	})
	err := s.follow(ctx, done)
	if err == nil {
		<-told
		err = context.Cause(ctx)
	} else if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	cancel(nil)
	others.Wait()
	if err != nil && s.tables != nil {
		s.tables.analyst.end()
	}
	return err
}

// steps are those that fit the events.
func (s *story) steps() []step {
	if float64(s.source.total())/s.source.rate() < leastStory.Seconds() {
		return nil
	}
	steps := []step{{killAt, s.kill}, {restartAt, s.restart}}
	if s.opts.Input == "" {
		steps = []step{steps[0], {trimAt, s.trim}, steps[1]}
	}
	return steps
}

// follow returns when everything is published and archived.
func (s *story) follow(ctx context.Context, done chan error) error {
	var (
		steps     = s.steps()
		published bool
		last      Progress
		lastNews  = time.Now()
	)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			if err != nil {
				return err
			}
			published = true
			s.opts.Show(Published{s.records.published()})
		default:
		}
		p, err := s.look(ctx)
		if err != nil {
			return err
		}
		s.opts.Show(p)
		for len(steps) > 0 && float64(p.Published) >= steps[0].at*float64(p.Total) {
			if err := steps[0].do(ctx, p); err != nil {
				return err
			}
			steps = steps[1:]
		}
		if published && len(steps) == 0 && p.Archived+p.Lost >= p.Published && p.Lag == 0 {
			return nil
		}
		if p.Published != last.Published || p.Archived != last.Archived || p.Lost != last.Lost {
			last, lastNews = p, time.Now()
		}
		if time.Since(lastNews) > patience {
			return fmt.Errorf("nothing was archived for %s while %d entries wait%s", patience, p.Lag, s.archiver.LastOutput())
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// look asks Redis and the archive, not the archiver, how far it is.
func (s *story) look(ctx context.Context) (Progress, error) {
	p := Progress{Published: s.records.published(), Total: s.source.total(), ArchiverIsRunning: s.archiver.Pid() != 0}
	if !p.ArchiverIsRunning && !s.down() {
		return p, errors.New("the archiver ended by itself" + s.archiver.LastOutput())
	}
	for st, err := range archiver.Statuses(ctx, s.client, s.archive, archiver.StatusSpec{}) {
		if err == nil {
			err = st.Err
		}
		if err != nil {
			return p, fmt.Errorf("look at the streams: %w", err)
		}
		p.Archived += st.Events
		p.Lost += st.Lost
		p.RawBytes += st.RawBytes
		p.StoredBytes += st.Bytes
		if st.Live != nil {
			p.Lag += st.Live.Lag
			p.LagAge = max(p.LagAge, st.Live.LagAge)
		}
	}
	return p, nil
}

// down says that the archiver was killed and not started again.
func (s *story) down() bool { return s.kills > s.restarts }

func (s *story) kill(_ context.Context, p Progress) error {
	pid := s.archiver.Pid()
	if err := s.archiver.Kill(); err != nil {
		return err
	}
	s.kills++
	s.opts.Show(Killed{pid, p.Lag})
	return nil
}

// trim removes all clicks, archived or not, as a careless MAXLEN would.
func (s *story) trim(ctx context.Context, _ Progress) error {
	n, err := s.publisher.XTrimMaxLen(ctx, Clicks, 0).Result()
	if err != nil {
		return fmt.Errorf("trim %s: %w", Clicks, err)
	}
	s.opts.Show(Trimmed{Clicks, uint64(n)})
	return nil
}

func (s *story) restart(ctx context.Context, p Progress) error {
	if err := s.archiver.Restart(ctx); err != nil {
		return err
	}
	s.restarts++
	s.opts.Show(Restarted{s.archiver.Pid(), p.Lag})
	return nil
}
