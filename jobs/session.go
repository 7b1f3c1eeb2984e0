package jobs

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"
)

// session is one worker's hold on one job, from the acquisition until the lease
// is given back or lost.
type session struct {
	*Runner
	id, kind string
	epoch    uint64
	slot     *slot
	log      *slog.Logger
	done     uint64 // Progress.Done when it began
	reported bool   // once, by the engine

	writing chan struct{} // is full while the document is written

	mu         sync.Mutex
	job        *Job                    // as last written; never changed in place
	lost       bool                    // write nothing any more
	stop       context.CancelCauseFunc // of the engine that runs, or nil
	expiry     *time.Timer             // loses the lease
	progress   Progress
	checkpoint json.RawMessage
	unwritten  journal
	rate       rate
}

// begin takes a free job and what it needs; nil when there is no room for it
// or another worker was first.
//
// It goes on for a moment when ctx has ended, so as not to leave a lease behind
// that nobody gives back.
func (r *Runner) begin(ctx context.Context, j *Job) (*session, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.opts.LeaseTTL/2)
	defer cancel()
	slot := &slot{}
	if j.State != Cancelling { // cleaning up touches nothing that others write
		var err error
		if slot, err = r.slots.take(ctx, j); err != nil || slot == nil {
			return nil, err
		}
	}
	began := time.Now()
	took, err := r.store.acquire(ctx, j, r.opts.Worker, r.opts.LeaseTTL)
	if err != nil {
		return nil, errors.Join(err, r.slots.free(ctx, slot))
	}
	s := &session{
		Runner: r, id: j.ID, kind: j.Kind, epoch: took.Epoch, slot: slot,
		log:     r.opts.Logger.With("job", j.ID, "kind", j.Kind, "epoch", took.Epoch),
		done:    took.Progress.Done,
		writing: make(chan struct{}, 1),
		job:     took, progress: took.Progress, checkpoint: took.Checkpoint,
	}
	s.rate.add(s.done)
	s.expiry = time.AfterFunc(time.Until(s.expires(began)), func() { s.lose() })
	if ok, err := r.slots.confirm(ctx, slot); !ok {
		s.finish(ctx, func(j *Job) error { return j.giveBack("another job of its target was first", now()) })
		s.expiry.Stop()
		return nil, err
	}
	r.metrics.acquired.WithLabelValues(j.Kind).Inc()
	if j.Lease != nil {
		r.metrics.takeovers.WithLabelValues(j.Kind).Inc()
	}
	s.log.Info("took a job", "state", took.State, "taken_over", j.Lease != nil)
	return s, nil
}

// run runs the job's engine until the job is another's, or nobody's. It returns
// the job as it left it; an error wraps ErrLeaseLost.
func (s *session) run(ctx context.Context) (*Job, error) {
	s.metrics.running.WithLabelValues(s.kind).Inc()
	defer s.metrics.running.WithLabelValues(s.kind).Dec()
	engine := s.opts.Engines[s.kind]
	if s.last().State == Running {
		s.phase(ctx, engine.Run, s.settleRun)
	}
	if j := s.last(); j.State == Cancelling && j.Lease != nil {
		s.phase(ctx, engine.Cancel, s.settleCancel)
	}
	s.expiry.Stop()
	// What is left can be done by others too.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.opts.LeaseTTL)
	defer cancel()
	j := s.last()
	if err := s.slots.free(ctx, s.slot); err != nil {
		s.log.Warn("a slot stays taken until another worker finds it idle", "error", err)
	}
	if j.Lease != nil {
		s.metrics.lost.WithLabelValues(s.kind).Inc()
		return nil, fmt.Errorf("epoch %d: %w", s.epoch, ErrLeaseLost)
	}
	s.metrics.attempts.WithLabelValues(s.kind, string(j.State)).Inc()
	s.log.Info("left a job", "state", j.State, "reason", j.StateReason)
	if !j.ClosedAt.IsZero() {
		if err := s.store.move(ctx, j); err != nil {
			s.log.Warn("an ended job is moved later", "error", err)
		}
	}
	return j, nil
}

// phase calls the engine, keeps the lease while it works, and writes how it ended.
func (s *session) phase(ctx context.Context, do func(context.Context, *Handle) error, settle func(*Job, result) error) {
	engine, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	s.mu.Lock()
	s.stop = stop
	if s.lost {
		stop(ErrLeaseLost)
	}
	s.mu.Unlock()
	if ctx.Err() != nil {
		stop(ErrShutdown)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.guard(engine, do) }()
	err := s.keep(ctx, stop, ended)
	if errors.Is(err, ErrLeaseLost) { // the engine may know before the document tells
		s.lose()
	}
	s.mu.Lock()
	s.stop = nil
	s.mu.Unlock()
	r := result{err: err, stopped: context.Cause(engine), at: now()}
	s.finish(ctx, func(j *Job) error { return settle(j, r) })
}

// guard calls the engine, and turns a panic into an error.
func (s *session) guard(ctx context.Context, do func(context.Context, *Handle) error) (err error) {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("the engine panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = fmt.Errorf("the engine panicked: %v", p)
		}
	}()
	return do(ctx, &Handle{s})
}

// keep renews the lease, and looks for what people asked, until the engine ends.
func (s *session) keep(ctx context.Context, stop context.CancelCauseFunc, ended <-chan error) error {
	beat := time.NewTimer(s.opts.LeaseTTL / 3)
	defer beat.Stop()
	poll := time.NewTicker(min(s.opts.Poll, s.opts.LeaseTTL/3))
	defer poll.Stop()
	shutdown := ctx.Done()
	for {
		select {
		case err := <-ended:
			return err
		case <-shutdown:
			stop(ErrShutdown)
			shutdown = nil
		case <-beat.C:
			beat.Reset(s.beat(ctx))
		case <-poll.C:
			if s.changed(ctx) {
				beat.Reset(s.beat(ctx))
			}
		}
	}
}

// beat renews the lease, and returns when to do it next.
func (s *session) beat(ctx context.Context) time.Duration {
	err := s.write(context.WithoutCancel(ctx), rand.Text(), nil)
	if err == nil || errors.Is(err, ErrLeaseLost) {
		return s.opts.LeaseTTL / 3
	}
	s.log.Warn("could not renew the lease; trying again", "error", err)
	return s.opts.LeaseTTL / 12
}

// changed says whether somebody else wrote the document.
func (s *session) changed(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.opts.LeaseTTL/3)
	defer cancel()
	j, err := s.store.active(ctx, s.id)
	if err != nil {
		return errors.Is(err, ErrNotFound) // else the next heartbeat finds out
	}
	return j.Nonce != s.last().Nonce
}

// lose ends the session: another worker has the job, or may have.
func (s *session) lose() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = true
	if s.stop != nil {
		s.stop(ErrLeaseLost)
	}
}

func (s *session) last() *Job {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.job
}

// expires is when the lease ends that was written in a write which began then.
// Others count from when they see it, which is later; the rest of the margin is
// for the engine to stop, and for clocks that run fast.
func (s *session) expires(began time.Time) time.Time {
	return began.Add(s.opts.LeaseTTL - s.opts.LeaseTTL/6)
}
