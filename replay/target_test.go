package replay_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/replay"
)

// target is what a memory sink writes to: it outlives sinks and crashes, and it
// holds sinks to the contract.
type target struct {
	mu       sync.Mutex
	records  bool // it keeps positions, as an exactly-once sink
	restores bool
	keys     bool
	discard  bool // it counts only, and looks at the order
	sorted   bool
	epoch    uint64
	position replay.Position
	// slow makes sinks say that their position is that of the last Settle.
	slow    bool
	settled replay.Position
	got     []written
	batches []batchInfo
	poison  func(e *event.Event) error // what is never taken
	// fault is asked at every write, before it and after it, and may return an
	// error that the sink returns then.
	fault    func(write int, after bool) error
	writes   int
	kept     int // batches that came as they were announced
	opens    int
	finished int
	cleaned  int
	written  replay.Position // Opening.Written of the last Open
	pressure func() (string, error)
	openErr  func() error
}

// written is an event as the target has it.
type written struct {
	replay.Origin
	event event.Event
}

// batchInfo is one batch, and when it came.
type batchInfo struct {
	at     time.Time
	events int
	bytes  int
}

// memoryKind makes sinks of one target.
type memoryKind struct{ target *target }

func (memoryKind) Type() string { return "memory" }

func (memoryKind) Parse(string, map[string]string) (json.RawMessage, error) { return nil, nil }

func (k memoryKind) Check(context.Context, replay.Opening) (replay.Target, error) {
	return replay.Target{Key: "memory:a", Guarantee: replay.ExactlyOnce, Restores: k.target.restores}, nil
}

func (k memoryKind) Open(_ context.Context, o replay.Opening) (replay.Sink, error) {
	t := k.target
	t.mu.Lock()
	defer t.mu.Unlock()
	t.opens++
	t.written = o.Written
	if t.openErr != nil {
		if err := t.openErr(); err != nil {
			return nil, err
		}
	}
	if o.Epoch < t.epoch {
		return nil, fmt.Errorf("open: %w", replay.ErrFenced)
	}
	t.epoch = o.Epoch
	return &memorySink{target: t, epoch: o.Epoch}, nil
}

func (k memoryKind) Clean(context.Context, replay.Opening) error {
	k.target.cleaned++
	return nil
}

// memorySink is one sink of a target.
type memorySink struct {
	target *target
	epoch  uint64
	dead   bool

	ahead *replay.Batch // announced
	first replay.Position
	count int
}

// WriteAhead implements replay.AheadWriter: it makes sure that what was announced
// is what comes.
func (s *memorySink) WriteAhead(ctx context.Context, b *replay.Batch, next func() *replay.Batch) error {
	if s.ahead == b && (b.Len() != s.count || b.Origins[0].Position != s.first || b.ID(0) != s.first.ID) {
		return errors.New("contract: a batch that was announced has changed")
	}
	if s.ahead == b {
		s.target.kept++
	}
	if s.ahead = next(); s.ahead != nil {
		s.count, s.first = s.ahead.Len(), s.ahead.Origins[0].Position
	}
	return s.Write(ctx, b)
}

func (s *memorySink) Records() bool   { return s.target.records }
func (s *memorySink) WantsKeys() bool { return s.target.keys }

func (s *memorySink) Position(context.Context) (replay.Position, error) {
	s.target.mu.Lock()
	defer s.target.mu.Unlock()
	if s.target.slow {
		return s.target.settled, nil
	}
	return s.target.position, nil
}

// Settle implements replay.Settler.
func (s *memorySink) Settle(context.Context) error {
	s.target.mu.Lock()
	defer s.target.mu.Unlock()
	s.target.settled = s.target.position
	return nil
}

func (s *memorySink) Pressure(context.Context) (string, error) {
	if s.target.pressure == nil {
		return "", nil
	}
	return s.target.pressure()
}

func (s *memorySink) Write(_ context.Context, b *replay.Batch) (err error) {
	t := s.target
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.dead {
		return errors.New("contract: a sink was used after an error")
	}
	defer func() {
		var rejected *replay.RejectedError
		s.dead = err != nil && !errors.As(err, &rejected)
	}()
	if b.Len() == 0 || b.Len() != len(b.Origins) || b.Len() > 1000 {
		return fmt.Errorf("contract: a batch of %d events and %d origins", b.Len(), len(b.Origins))
	}
	if s.epoch < t.epoch {
		return fmt.Errorf("write: %w", replay.ErrFenced)
	}
	t.writes++
	if t.fault != nil {
		if err := t.fault(t.writes, false); err != nil {
			return err
		}
	}
	err = t.take(b)
	if t.fault != nil {
		if err := t.fault(t.writes, true); err != nil {
			return err
		}
	}
	return err
}

// take writes the batch.
func (t *target) take(b *replay.Batch) error {
	rejected := &replay.RejectedError{Unwritten: t.records}
	var e event.Event
	for i := range b.Len() {
		if b.Event(i, &e); t.poison != nil {
			if err := t.poison(&e); err != nil {
				rejected.Events = append(rejected.Events, replay.Rejection{Index: i, Attempts: 3, Err: err})
			}
		}
	}
	if len(rejected.Events) > 0 && t.records {
		return rejected
	}
	t.batches = append(t.batches, batchInfo{time.Now(), b.Len(), b.Bytes()})
	if t.discard {
		t.sorted = t.position.IsZero() || t.sorted && t.position.Compare(b.Origins[0].Position) < 0
		for i := 1; i < b.Len(); i++ {
			t.sorted = t.sorted && b.Origins[i-1].Position.Compare(b.Origins[i].Position) < 0
		}
		t.position = b.Origins[b.Len()-1].Position
		return nil
	}
	next := 0
	for i := range b.Len() {
		if next < len(rejected.Events) && rejected.Events[next].Index == i {
			next++
			continue
		}
		if t.records && b.Origins[i].Position.Compare(t.position) <= 0 {
			continue
		}
		b.Event(i, &e)
		t.got = append(t.got, written{b.Origins[i], e.Clone()})
	}
	if last := b.Origins[b.Len()-1].Position; t.records && t.position.Compare(last) < 0 {
		t.position = last
	}
	if len(rejected.Events) > 0 {
		return rejected
	}
	return nil
}

func (s *memorySink) Finish(context.Context) error {
	s.target.finished++
	return nil
}

func (s *memorySink) Close() error {
	s.dead = true
	return nil
}

// bench is a service whose replays go into a target.
type bench struct {
	*shelf
	target *target
	opts   replay.Options
}

func newBench(t testing.TB, change ...func(*replay.Options)) *bench {
	t.Helper()
	b := &bench{shelf: newShelf(t, t.TempDir()), target: &target{records: true}}
	b.opts = replay.Options{Archive: b.arch, Jobs: b.jobs, Sinks: []replay.SinkKind{memoryKind{b.target}}, Clock: func() time.Time { return noon }}
	for _, c := range change {
		c(&b.opts)
	}
	var err error
	if b.svc, err = replay.New(b.opts); err != nil {
		t.Fatal(err)
	}
	return b
}

// create makes a job.
func (b *bench) create(spec replay.Spec) *jobs.Job {
	b.t.Helper()
	spec.Sink = replay.SinkSpec{Type: "memory"}
	if len(spec.Streams) == 0 && spec.DeadLettersOf == "" {
		spec.Streams = []string{"*"}
	}
	job, err := b.svc.Create(b.t.Context(), spec, replay.CreateOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	return job
}

// run runs a job until it ends.
func (b *bench) run(id string) *jobs.Job {
	b.t.Helper()
	job, err := b.try(b.t.Context(), b.store, id)
	if err != nil {
		b.t.Fatal(err)
	}
	return job
}

// try runs a job by a worker of its own on a store.
func (b *bench) try(ctx context.Context, store objectstore.Store, id string) (*jobs.Job, error) {
	b.t.Helper()
	js := jobs.NewStore(store, jobs.StoreOptions{})
	opts := b.opts
	opts.Jobs = js
	svc, err := replay.New(opts)
	if err != nil {
		b.t.Fatal(err)
	}
	lease := 10 * time.Second
	if store != b.store {
		lease = 300 * time.Millisecond // it will die
	}
	runner, err := jobs.NewRunner(js, jobs.RunnerOptions{
		Engines: map[string]jobs.Engine{replay.Kind: svc.Engine()}, LeaseTTL: lease, Poll: 10 * time.Millisecond,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return runner.RunOne(ctx, id)
}

// replay creates and runs a replay, which must succeed.
func (b *bench) replay(spec replay.Spec) *jobs.Job {
	b.t.Helper()
	job := b.run(b.create(spec).ID)
	if job.State != jobs.Succeeded {
		b.t.Fatalf("the replay is %s: %s, %+v", job.State, job.StateReason, job.LastError)
	}
	return job
}
