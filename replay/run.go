package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/jobs"
)

const (
	chunksAhead = 2 // read and not yet sent
	// saveEvery is how long what a sink without a record has taken may be unknown
	// to the job's document.
	saveEvery = time.Second
	// reportEvery is how often progress and checkpoint are handed to the job.
	reportEvery = 100 * time.Millisecond
)

// run is one attempt at a replay. Its fields belong to the goroutine that sends.
type run struct {
	svc     *Service
	h       *jobs.Handle
	job     jobs.Job
	spec    Spec
	frozen  *Frozen
	kind    SinkKind
	opening Opening

	sink    Sink
	records bool     // the sink keeps a record that tells what was sent
	has     Position // up to where the target has everything, when it was opened
	// resumed is up to where everything was dealt with before this attempt.
	resumed Position
	begun   bool
	opened  bool // or it was tried

	cp          checkpoint
	bytesBefore int64
	hand        *chunk // the chunk that is dealt with
	// before is how many events and letters beyond the checkpoint's mark the attempt
	// before this one dealt with, as long as there is no chunk to count them in.
	before   [2]uint64
	pacer    pacer
	breaker  breaker
	pressure pressure

	events       chan *chunk
	peeked       *chunk    // taken from events already
	ahead        *outgoing // what the sink was told comes next
	unsaved      int       // events sent since the last save, and their bytes
	unsavedBytes int
	savedAt      time.Time
	reported     time.Time
	phase        string
	holding      string
}

// errBehind says that the target does not have what it had.
var errBehind = errors.New("the target is behind")

// replay reads, sends and finishes.
func (r *run) replay(ctx context.Context) (err error) {
	r.phase, r.savedAt, r.bytesBefore = phaseReplaying, time.Now(), r.cp.Bytes
	defer func() { err = errors.Join(err, r.closeSink()) }()
	for {
		if err := r.withSink(ctx, func(context.Context) error { return nil }); err != nil {
			return err
		}
		if err := r.resume(ctx); err != nil {
			return err
		}
		err := r.pump(ctx)
		if reportErr := r.report(r.beyond()); reportErr != nil {
			return errors.Join(err, reportErr)
		}
		if errors.Is(err, errBehind) {
			continue
		}
		if err != nil {
			return err
		}
		return r.finish(ctx)
	}
}

// pump reads in one goroutine and sends in this one.
func (r *run) pump(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	r.hand, r.events, r.peeked, r.ahead = nil, make(chan *chunk, chunksAhead), nil, nil
	src, err := r.open(ctx)
	if err != nil {
		return err
	}
	spare := make(chan *chunk, chunksAhead+2)
	for range cap(spare) {
		spare <- &chunk{}
	}
	group.Go(func() error {
		defer close(r.events)
		defer src.Close()
		return r.read(ctx, src, spare)
	})
	group.Go(func() error {
		for c := r.take(); c != nil; c = r.take() {
			if err := r.deal(ctx, c); err != nil {
				return err
			}
			spare <- c
		}
		return context.Cause(ctx)
	})
	return group.Wait()
}

// read fills chunks until there are no more.
func (r *run) read(ctx context.Context, src *selector, spare <-chan *chunk) error {
	for {
		var c *chunk
		select {
		case c = <-spare:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		c.reset()
		if err := src.Read(ctx, c); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return readError(err)
		}
		select {
		case r.events <- c:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// resume goes on after what the target has.
func (r *run) resume(ctx context.Context) error {
	from, to, counted := r.cp.Sent, r.has, false
	if r.records && r.has.Compare(r.cp.Written) < 0 {
		r.h.Log("info", fmt.Sprintf("the target has everything up to %s, not up to %s: going back", r.has, r.cp.Written))
		if !r.cp.canGoBack(r.has) {
			return remedy.Wrap(errors.New("the target has lost events of a live stream that this replay cannot put in order again"),
				"Cancel the replay, and create a new one from the last event that the target has.")
		}
		from, to, counted = r.has, r.cp.Sent, true
		r.cp.backTo(r.has)
		r.before = [2]uint64{}
	} else {
		r.cp.wrote(r.has)
	}
	r.resumed, r.begun = r.cp.Sent, true
	if from.Compare(to) >= 0 {
		return nil
	}
	// The events that were rejected between are among the letters: they are
	// counted by then, or not any more.
	for d, err := range deadLetters(ctx, r.h.Files(), deadLetterKey(from)) {
		if err != nil {
			return readError(err)
		}
		if d.Position.Compare(to) > 0 {
			break
		}
		switch {
		case d.Attempts == 0:
		case !counted:
			r.cp.Rejected++
		case r.cp.Rejected > 0:
			r.cp.Rejected--
		}
	}
	return nil
}

// deal sends a chunk.
func (r *run) deal(ctx context.Context, c *chunk) error {
	if err := r.follow(ctx, c); err != nil {
		return err
	}
	r.hand = c
	at, letters := 0, 0
	for {
		for ; letters < len(c.letters) && c.letters[letters].at <= at; letters++ {
			if err := r.setAside(ctx, c.letters[letters].letter, uint64(letters)); err != nil {
				return err
			}
		}
		end := c.Len()
		if letters < len(c.letters) {
			end = c.letters[letters].at
		}
		if at = r.skipped(c, at, end); at == end {
			if at == c.Len() && letters == len(c.letters) {
				break
			}
			continue
		}
		n, err := r.send(ctx, c, at, end, uint64(letters))
		if err != nil {
			return err
		}
		at += n
		if err := r.progress(uint64(at), uint64(letters)); err != nil {
			return err
		}
		if err := r.saveSent(ctx, n, c.RangeBytes(at-n, at), uint64(at), uint64(letters)); err != nil {
			return err
		}
	}
	if c.read > 0 {
		r.cp.passed(c)
	}
	r.hand, r.before = nil, [2]uint64{}
	r.cp.Bytes = max(r.cp.Bytes, r.bytesBefore+c.fetched)
	return r.progress(0, 0)
}

// follow takes note that a chunk comes from the live streams. What several of
// them had is in the job's document before the sink has any of it.
func (r *run) follow(ctx context.Context, c *chunk) error {
	if c.live && r.phase != phaseFollowing {
		r.phase = phaseFollowing
		if err := r.report(0, 0); err != nil {
			return err
		}
	}
	if c.lap == nil {
		return nil
	}
	err := r.withSink(ctx, func(ctx context.Context) error {
		if s, ok := r.sink.(Settler); ok {
			return s.Settle(ctx)
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.cp.enter(c.lap)
	if err := r.report(0, 0); err != nil {
		return err
	}
	return r.save(ctx)
}

// skipped returns the first event from at on, and before end, that the target
// does not have.
func (r *run) skipped(c *chunk, at, end int) int {
	for at < end && c.Origins[at].Position.Compare(r.cp.Sent) <= 0 {
		at++
	}
	return at
}

// send sends a batch of the events from at on, and returns how many there were.
func (r *run) send(ctx context.Context, c *chunk, at, end int, letters uint64) (int, error) {
	n := r.cut(c, at, end)
	if err := r.hold(ctx); err != nil {
		return 0, err
	}
	ms := func(i int) uint64 { return c.Origins[at+i].Ms }
	n, err := r.pacer.wait(ctx, n, ms, r.holds)
	if err != nil {
		return 0, err
	}
	r.pacer.sent(time.Now(), n, ms)
	return n, r.write(ctx, c, at, at+n, letters)
}

// cut returns how many events from at on, and before end, make a batch.
func (r *run) cut(c *chunk, at, end int) int {
	limit := min(end-at, maxSendEvents, r.pressure.limit(&r.spec.BackPressure))
	if c.Bytes() <= maxBatchBytes {
		return limit
	}
	n, size := 0, 0
	for n < limit {
		if size += c.RangeBytes(at+n, at+n+1); n > 0 && size > maxBatchBytes {
			break
		}
		n++
	}
	return n
}

// write writes events [from, to) of the chunk, whatever it takes.
func (r *run) write(ctx context.Context, c *chunk, from, to int, letters uint64) error {
	for {
		from = r.skipped(c, from, to)
		if from == to {
			return nil
		}
		var rejected *RejectedError
		err := r.withSink(ctx, func(ctx context.Context) error {
			if r.skipped(c, from, to) > from {
				return nil // it was written before the sink failed: look again
			}
			err := r.put(ctx, c, from, to)
			if errors.As(err, &rejected) {
				return nil
			}
			if err == nil {
				r.cp.wrote(c.Origins[to-1].Position)
			}
			return err
		})
		if err != nil {
			return err
		}
		if rejected != nil {
			return r.reject(ctx, c, from, to, rejected, letters)
		}
	}
}

// withSink calls do with an open sink: again after failures that may pass, with
// a new sink, until the target has failed too often.
func (r *run) withSink(ctx context.Context, do func(context.Context) error) error {
	for {
		err := r.openSink(ctx)
		opened := err == nil
		if opened {
			if err = do(ctx); err == nil {
				r.breaker.ok()
				return nil
			}
		}
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		if errors.Is(err, ErrFenced) {
			return fmt.Errorf("%w: %w", jobs.ErrLeaseLost, err)
		}
		lost := errors.Is(err, ErrRecordLost)
		if lost && !opened {
			return r.recordLost(err)
		}
		if !lost && !errors.Is(err, ErrUnavailable) {
			return err
		}
		delay, tired := r.breaker.failed(r.target(), time.Now(), err)
		if tired != nil {
			return tired
		}
		r.h.Log("warn", fmt.Sprintf("the target is unavailable, trying again in %s: %v", delay.Round(time.Millisecond), err))
		if err := r.closeSink(); err != nil {
			r.h.Log("warn", fmt.Sprintf("close the sink: %v", err))
		}
		if err := r.pause(ctx, "the target is unavailable", delay); err != nil {
			return err
		}
	}
}

// openSink opens the sink, if it is not open, and asks it what it has.
func (r *run) openSink(ctx context.Context) error {
	if r.sink != nil {
		return nil
	}
	// A worker that slept past its lease must not take the target from the one that
	// has the job now, or had it and has cleaned up.
	if r.opened {
		if err := r.save(ctx); err != nil {
			return err
		}
	}
	r.opened = true
	r.opening.Written = r.cp.Written
	sink, err := r.kind.Open(ctx, r.opening)
	if err != nil {
		return fmt.Errorf("open the sink: %w", err)
	}
	r.sink = sink
	position, err := sink.Position(ctx)
	if err != nil {
		return fmt.Errorf("ask the sink for its position: %w", err)
	}
	if recorder, ok := sink.(Recorder); ok {
		r.records = recorder.Records()
	}
	r.has = position
	switch {
	case !r.begun:
	case r.records && position.Compare(r.cp.Written) < 0:
		return errBehind
	default:
		r.cp.wrote(position)
	}
	return nil
}

func (r *run) closeSink() error {
	if r.sink == nil {
		return nil
	}
	sink := r.sink
	r.sink = nil
	return sink.Close() //nolint:wrapcheck // the caller says what it was
}

// target names the target for people.
func (r *run) target() string {
	if r.job.Target != "" {
		return r.job.Target
	}
	return r.spec.Sink.Type
}
