package sink

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/replay"
)

const (
	// maxPatience is the longest pause that a target may ask for while the replay
	// waits; a longer one makes it unavailable.
	maxPatience = 5 * time.Minute
	// maxRefusals is after how many refusals in a row the target refuses the
	// replay, and not its events.
	maxRefusals = 10
	// maxProofs is how often a proof is tried.
	maxProofs = 3
)

// answer is what a target made of a request.
type answer int

const (
	taken   answer = iota
	later          // it may take it another time
	never          // it will not take these events
	refused        // it takes nothing from us, or nothing here
	barred         // as refused, and it will not take anything else either
)

// result is an answer with its reason.
type result struct {
	answer  answer
	err     error         // unless taken
	after   time.Duration // how long the target wants to be left alone
	patient bool          // the target asks for patience: nothing is wrong with the events
	auth    bool          // refused for who we are
}

// queue is a run of requests that go one after another: each a list of indices
// of events.
type queue [][]int

// courier brings the queues of a batch to a target that is at least once: the
// requests of a queue strictly in order, over all retries, and several queues at
// once. R is a request.
//
// An event that will not pass must be told from a target that is down. An event
// whose attempts are used up with errors that may pass is rejected only if the
// target took another request during the last attempt or, when there was none,
// takes the last request that it had taken once more; it carries the same key,
// and is the newest of its queue. Else the target is unavailable, and nothing is
// rejected.
type courier[R any] struct {
	retry   replay.RetryPolicy
	workers int
	prepare func(indices []int) (R, error) // an error is about the one event, or splits the request
	send    func(ctx context.Context, r R) result
	keep    func(r R) R // a copy that outlives the batch

	mu       sync.Mutex
	count    uint64 // requests taken
	last     R      // the last of them
	refusals int    // since
	until    time.Time
	rejected []replay.Rejection
}

// stuck is a queue whose first request has used up its attempts.
type stuck struct {
	queue    queue
	attempts int
	err      error
}

// deliver sends the queues. Its errors are those of Sink.Write.
func (c *courier[R]) deliver(ctx context.Context, queues []queue) error {
	c.rejected = nil
	refusals := c.refusals
	for len(queues) > 0 {
		stuck, err := c.run(ctx, queues)
		if err != nil {
			return err
		}
		if len(stuck) == 0 {
			break
		}
		if err := c.prove(ctx, stuck[0].err); err != nil {
			return err
		}
		queues = queues[:0]
		for _, s := range stuck {
			if rest := c.reject(s.queue, s.attempts, s.err); len(rest) > 0 {
				queues = append(queues, rest)
			}
		}
	}
	if c.count == 0 && c.refusals > refusals {
		return c.refuse(c.rejected[len(c.rejected)-1].Err)
	}
	if c.count > 0 && c.refusals >= maxRefusals { // the events, or the target by now?
		if err := c.prove(ctx, c.rejected[len(c.rejected)-1].Err); err != nil {
			return err
		}
		c.refusals = 0
	}
	if c.count > 0 {
		c.last = c.keep(c.last)
	}
	if len(c.rejected) == 0 {
		return nil
	}
	slices.SortFunc(c.rejected, func(a, b replay.Rejection) int { return a.Index - b.Index })
	return &replay.RejectedError{Events: c.rejected}
}

// run sends queues until each is at its end or stuck.
func (c *courier[R]) run(ctx context.Context, queues []queue) ([]stuck, error) {
	var (
		mu   sync.Mutex
		next int
		all  []stuck
	)
	take := func() (queue, bool) {
		mu.Lock()
		defer mu.Unlock()
		if next == len(queues) {
			return nil, false
		}
		next++
		return queues[next-1], true
	}
	g, ctx := errgroup.WithContext(ctx)
	for range min(c.workers, len(queues)) {
		g.Go(func() error {
			for l, ok := take(); ok; l, ok = take() {
				s, err := c.runQueue(ctx, l)
				if err != nil {
					return err
				}
				if s != nil {
					mu.Lock()
					all = append(all, *s)
					mu.Unlock()
				}
			}
			return nil
		})
	}
	err := g.Wait()
	return all, err
}

// runQueue sends a queue; it returns what is left when it is stuck.
func (c *courier[R]) runQueue(ctx context.Context, l queue) (*stuck, error) {
	for len(l) > 0 {
		request, err := c.prepare(l[0])
		if err != nil {
			l = c.reject(l, 0, err)
			continue
		}
		attempts, proved, r, err := c.try(ctx, request)
		switch {
		case err != nil:
			return nil, err
		case r.answer == taken:
			l = l[1:]
		case r.answer == later && !proved:
			return &stuck{queue: l, attempts: attempts, err: r.err}, nil
		default:
			l = c.reject(l, attempts, r.err)
		}
	}
	return nil, nil
}

// try sends a request until it is taken or not to be. When the last answer is
// that it may be taken later, proved says whether the target took something else
// meanwhile.
func (c *courier[R]) try(ctx context.Context, request R) (attempts int, proved bool, r result, err error) {
	for {
		before, err := c.wait(ctx)
		if err != nil {
			return attempts, false, r, err
		}
		r = c.send(ctx, request)
		if ctx.Err() != nil && r.answer != taken {
			return attempts, false, r, context.Cause(ctx)
		}
		progress, err := c.note(request, r, before)
		if err != nil || r.answer != later {
			return attempts + 1, false, r, err
		}
		if !r.patient || !progress {
			attempts++ // a target that takes others and is only busy may be asked again
		}
		if attempts >= c.retry.Attempts {
			if r.patient {
				return attempts, false, r, c.unavailable(r.err)
			}
			return attempts, progress, r, nil
		}
		if err := sleep(ctx, max(r.after, backoff(c.retry, attempts))); err != nil {
			return attempts, false, r, err
		}
	}
}

// wait waits until the target wants to be asked, and returns how many requests
// it has taken.
func (c *courier[R]) wait(ctx context.Context) (uint64, error) {
	for {
		c.mu.Lock()
		left, count := time.Until(c.until), c.count
		c.mu.Unlock()
		if left <= 0 {
			return count, context.Cause(ctx)
		}
		if err := sleep(ctx, left); err != nil {
			return 0, err
		}
	}
}

// note keeps what an answer says about the target, and reports whether it took
// others since it had taken so many.
func (c *courier[R]) note(request R, r result, before uint64) (progress bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	progress = c.count > before
	switch r.answer {
	case taken:
		c.count++
		c.last, c.refusals = request, 0
	case later:
		if r.after > maxPatience {
			return progress, c.unavailable(fmt.Errorf("the target wants to be left alone for %s: %w", r.after.Round(time.Second), r.err))
		}
		if until := time.Now().Add(r.after); r.patient && until.After(c.until) {
			c.until = until
		}
	case refused:
		c.refusals++
		if c.refusals >= maxRefusals && (r.auth || c.count == 0) {
			return progress, c.refuse(r.err)
		}
	case barred:
		return progress, c.unavailable(r.err)
	case never:
	}
	return progress, nil
}

// reject sets the first request of a queue aside: of several events it finds out
// which it is, by halves. It returns what is left to send.
func (c *courier[R]) reject(l queue, attempts int, err error) queue {
	first, rest := l[0], l[1:]
	if len(first) > 1 {
		half := len(first) / 2
		return append(queue{first[:half], first[half:]}, rest...)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rejected = append(c.rejected, replay.Rejection{Index: first[0], Attempts: attempts, Err: err})
	return rest
}

// prove sends again what the target had taken last, while nothing else is on
// its way: if it is taken once more, the target is up. cause is why there is
// doubt.
func (c *courier[R]) prove(ctx context.Context, cause error) error {
	if c.count == 0 {
		return c.unavailable(cause)
	}
	for i := range maxProofs {
		if i > 0 {
			if err := sleep(ctx, backoff(c.retry, i)); err != nil {
				return err
			}
		}
		if _, err := c.wait(ctx); err != nil {
			return err
		}
		r := c.send(ctx, c.last)
		if r.answer == taken {
			return nil
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
	}
	return c.unavailable(cause)
}

func (*courier[R]) unavailable(err error) error {
	if errors.Is(err, replay.ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", replay.ErrUnavailable, err)
}

func (c *courier[R]) refuse(err error) error {
	return remedy.Wrap(c.unavailable(fmt.Errorf("it refuses everything: %w", err)),
		"Check the target's address, and the credentials that the sink's options name. Then resume the replay: nothing was left out.")
}

// withDefaults fills in what a policy leaves open.
func withDefaults(p replay.RetryPolicy) replay.RetryPolicy {
	if p.Attempts <= 0 {
		p.Attempts = 8
	}
	if p.Initial <= 0 {
		p.Initial = 200 * time.Millisecond
	}
	if p.Max <= 0 {
		p.Max = 30 * time.Second
	}
	return p
}

// backoff is how long to wait after n failed attempts.
func backoff(p replay.RetryPolicy, n int) time.Duration {
	d := p.Initial
	for i := 1; i < n && d < p.Max; i++ {
		d *= 2
	}
	d = min(d, p.Max)
	return d - d/5 + rand.N(2*d/5+1)
}

// sleep waits, or returns why it cannot.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
