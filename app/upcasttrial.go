package app

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/upcast"
)

// maxTrialTypes bounds what is counted apart, for streams whose types are made
// up as they go; no set of rules has as many.
const maxTrialTypes = 10000

// trial is the JSON of `upcast test --stream`.
type trial struct {
	Events  uint64       `json:"events"` // that were read
	Changed uint64       `json:"changed"`
	Failed  uint64       `json:"failed"`
	Types   []*typeTrial `json:"types"` // those that there are rules for

	set     *upcast.Set
	mapping event.Mapping
	within  event.Range
	limit   uint64 // of events of a stream; 0: none

	counts   map[[3]string]*typeTrial // by stream, type and version
	progress atomic.Uint64            // events read, for the status line
}

// tryUpcasters runs the upcasters over archived events.
func (a *app) tryUpcasters(ctx context.Context, set *upcast.Set, spec *upcastTestSpec) error {
	within, err := event.ParseRange(spec.from, spec.to, time.Now())
	if err != nil {
		return usageError{err}
	}
	arch, err := a.openArchive(ctx)
	if err != nil {
		return err
	}
	streams, err := archivedStreams(ctx, arch, spec.patterns)
	if err != nil {
		return err
	}
	t := &trial{
		set: set, mapping: a.cfg.Envelope, within: within, limit: spec.limit,
		counts: map[[3]string]*typeTrial{}, Types: []*typeTrial{},
	}
	began := time.Now()
	line := a.newStatusLine(func() string {
		n := t.progress.Load()
		return fmt.Sprintf("trying upcasters: %s events (%s)", humanCount(n), humanRate(n, time.Since(began)))
	})
	err = t.read(ctx, arch, streams)
	line.close()
	if err != nil {
		return err
	}
	t.Types = slices.SortedFunc(maps.Values(t.counts), func(x, y *typeTrial) int {
		return cmp.Or(strings.Compare(x.Stream, y.Stream), strings.Compare(x.Type, y.Type), strings.Compare(x.Version, y.Version))
	})
	if spec.asJSON {
		err = a.printJSON(t)
	} else {
		err = a.printTrial(t)
	}
	if err == nil && t.Failed > 0 {
		return errProblems
	}
	return err
}

// read tries the events of streams.
func (t *trial) read(ctx context.Context, arch *archive.Archive, streams []string) error {
	for _, stream := range streams {
		plan, err := arch.Plan(ctx, archive.PlanSpec{Stream: stream, Range: t.within})
		if err != nil {
			return err
		}
		if err := t.run(ctx, plan); err != nil {
			return fmt.Errorf("read %s: %w", stream, err)
		}
	}
	return nil
}

// run tries the events of one stream, up to the limit.
func (t *trial) run(ctx context.Context, plan *archive.Plan) error {
	var (
		x    = t.mapping.Extractor()
		u    = t.set.Upcaster(t.mapping)
		env  event.Envelope
		out  event.Batch
		read uint64
	)
	if plan.Totals.Events == 0 {
		return nil
	}
	for e, err := range plan.Events(ctx) {
		if err != nil {
			return err
		}
		read++
		t.Events++
		t.progress.Store(t.Events)
		if shape := x.Extract(e, &env); t.set.Wants(&env) {
			out.Reset()
			_, err := u.Apply(e, &env, shape, &out)
			if err := t.count(plan.Stream(), e.ID, &env, err); err != nil {
				return err
			}
		}
		if read == t.limit {
			return nil
		}
	}
	return nil
}

// count notes what became of an event.
func (t *trial) count(stream string, id event.ID, env *event.Envelope, failure error) error {
	name, _ := env.Get(event.Type)
	version, _ := env.Get(event.SchemaVersion)
	key := [3]string{stream, string(name), string(version)}
	c := t.counts[key]
	if c == nil {
		if len(t.counts) == maxTrialTypes {
			return fmt.Errorf("there are more than %d types and versions to count: choose fewer streams", maxTrialTypes)
		}
		c = &typeTrial{Stream: stream, Type: key[1], Version: key[2]}
		t.counts[key] = c
	}
	if failure == nil {
		c.Changed++
		t.Changed++
		return nil
	}
	c.Failed++
	t.Failed++
	if len(c.Errors) < shownErrors {
		c.Errors = append(c.Errors, trialError{id, failure.Error()})
	}
	return nil
}

func (a *app) printTrial(t *trial) error {
	rows := a.table("STREAM", "TYPE", "VERSION", "CHANGED", "FAILED")
	for _, c := range t.Types {
		rows.row(c.Stream, c.Type, c.Version, humanCount(c.Changed), humanCount(c.Failed))
	}
	if err := rows.flush(); err != nil {
		return err
	}
	for _, c := range t.Types {
		for _, e := range c.Errors {
			if err := a.printLine("failed: %s: %s", c.Stream, e.Error); err != nil {
				return err
			}
		}
	}
	return a.printf("%s events: %s changed, %s failed, %s have no rule\n", humanCount(t.Events),
		humanCount(t.Changed), humanCount(t.Failed), humanCount(t.Events-t.Changed-t.Failed))
}
