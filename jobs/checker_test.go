package jobs_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore"
)

// checker is a memory that holds every revision of a job to the one before it.
type checker struct {
	*memory

	mu       sync.Mutex
	last     map[string]*jobs.Job
	holders  map[string]string // worker by job and epoch
	problems []string
}

func newChecker() *checker {
	return &checker{memory: newMemory(), last: map[string]*jobs.Job{}, holders: map[string]string{}}
}

func (c *checker) Put(ctx context.Context, key string, r io.Reader, cond objectstore.Condition) (objectstore.Info, error) {
	body, err := io.ReadAll(r)
	if err != nil {
		return objectstore.Info{}, err
	}
	c.mu.Lock() // so that revisions are checked in the order in which they take effect
	defer c.mu.Unlock()
	info, err := c.memory.Put(ctx, key, bytes.NewReader(body), cond)
	if id, ok := strings.CutPrefix(key, "jobs/active/"); ok && err == nil {
		j := &jobs.Job{}
		if err := json.Unmarshal(body, j); err != nil {
			c.problem("%s: %v", id, err)
		}
		c.check(j)
	}
	return info, err
}

func (c *checker) Delete(ctx context.Context, key string) error {
	if id, ok := strings.CutPrefix(key, "jobs/active/"); ok && len(c.keys("jobs/ended/2000-01/"+strings.TrimSuffix(id, ".json"))) != 1 {
		c.problem("%s deleted before it was among the ended", id)
	}
	return c.memory.Delete(ctx, key)
}

func (c *checker) problem(format string, args ...any) {
	c.problems = append(c.problems, fmt.Sprintf(format, args...))
}

// check holds a revision to the state machine and to the rules of leases.
func (c *checker) check(j *jobs.Job) {
	was := c.last[j.ID]
	c.last[j.ID] = j
	if j.Lease != nil {
		key := fmt.Sprint(j.ID, " ", j.Epoch)
		if holder := c.holders[key]; holder != "" && holder != j.Lease.Worker {
			c.problem("epoch %s is of %s and %s", key, holder, j.Lease.Worker)
		}
		c.holders[key] = j.Lease.Worker
	}
	if was == nil {
		return
	}
	to := map[jobs.State][]jobs.State{
		jobs.Pending:    {jobs.Running, jobs.Paused, jobs.Cancelling},
		jobs.Running:    {jobs.Pending, jobs.Paused, jobs.Cancelling, jobs.Succeeded, jobs.Failed},
		jobs.Paused:     {jobs.Pending, jobs.Cancelling, jobs.Running}, // the last by RunOne, which resumes too
		jobs.Cancelling: {jobs.Cancelled, jobs.Failed},
		jobs.Failed:     {jobs.Pending, jobs.Cancelling},
	}
	switch {
	case !was.ClosedAt.IsZero():
		c.problem("%s was changed after it was closed", j.ID)
	case was.State == jobs.Cancelling && j.State == jobs.Failed && (was.EndedAt.IsZero() || j.ClosedAt.IsZero()):
		c.problem("%s was cancelled and then failed", j.ID)
	case was.State != j.State && !slices.Contains(to[was.State], j.State):
		c.problem("%s went from %s to %s", j.ID, was.State, j.State)
	case j.Epoch != was.Epoch && j.Epoch != was.Epoch+1:
		c.problem("%s went from epoch %d to %d", j.ID, was.Epoch, j.Epoch)
	case j.Epoch == was.Epoch && was.Lease == nil && j.Lease != nil:
		c.problem("%s was taken without a new epoch", j.ID)
	case j.State == jobs.Running && j.Lease == nil, j.State.Ended() && j.Lease != nil:
		c.problem("%s is %s with lease %v", j.ID, j.State, j.Lease)
	case j.Progress.Done < was.Progress.Done && j.Epoch == was.Epoch:
		c.problem("%s went back from %d to %d", j.ID, was.Progress.Done, j.Progress.Done)
	case j.Nonce == was.Nonce:
		c.problem("%s has the same nonce twice", j.ID)
	}
}

// err gives what was found, with what is wrong now.
func (c *checker) err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.problems) > 0 {
		return errors.New(strings.Join(c.problems, "\n"))
	}
	return nil
}

// target is where the jobs of a test write: exactly once, fenced by the epoch.
type target struct {
	mu      sync.Mutex
	epochs  map[string]uint64
	items   map[string][]uint64
	engines map[string]int // at work, by job and by target
	found   []string
}

func newTarget() *target {
	return &target{epochs: map[string]uint64{}, items: map[string][]uint64{}, engines: map[string]int{}}
}

// open fences out lower epochs, and says what is written already.
func (s *target) open(h *jobs.Handle) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := h.Job()
	if s.epochs[j.ID] >= h.Epoch() {
		return 0, fmt.Errorf("fenced: %w", jobs.ErrLeaseLost)
	}
	s.epochs[j.ID] = h.Epoch()
	return uint64(len(s.items[j.ID])), nil
}

func (s *target) write(id string, epoch, item uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epochs[id] != epoch {
		return fmt.Errorf("fenced: %w", jobs.ErrLeaseLost)
	}
	s.items[id] = append(s.items[id], item)
	return nil
}

// enter notes an engine at work, and returns what ends that.
func (s *target) enter(names ...string) func() {
	count := func(by int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, name := range names {
			if s.engines[name] += by; s.engines[name] > 1 {
				s.found = append(s.found, "two engines at work at once on "+name)
			}
		}
	}
	count(1)
	return func() { count(-1) }
}

// complete says whether a job wrote 0 to n-1, each once and in order.
func (s *target) complete(id string, n uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range n {
		if i >= uint64(len(s.items[id])) || s.items[id][i] != i {
			return fmt.Errorf("job %s wrote %v, want 0 to %d", id, s.items[id], n-1)
		}
	}
	if uint64(len(s.items[id])) != n || len(s.found) > 0 {
		return fmt.Errorf("job %s wrote %v, want 0 to %d; %v", id, s.items[id], n-1, s.found)
	}
	return nil
}
