package jobs

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/reservoirhq/reservoir/internal/remedy"
)

// move is a change of state, named as in "cannot be …".
type move string

const (
	pause  move = "paused" // by people, from here
	resume move = "resumed"
	cancel move = "cancelled"
	retry  move = "retried"

	acquire move = "taken by a worker" // by workers, from here
	succeed move = "succeeded"
	fail    move = "failed"
	hold    move = "held for a person"
	release move = "given back"
	cleanUp move = "cleaned up"
	expire  move = "cleaned up after it failed" // by whoever finds it overdue
	closeUp move = "closed"
)

// States lists every state, in the order of a life.
func States() []State {
	return []State{Pending, Running, Paused, Cancelling, Succeeded, Failed, Cancelled}
}

// Ended says whether a job in this state has come to an end; a failed one may
// still be retried.
func (s State) Ended() bool { return s == Succeeded || s == Failed || s == Cancelled }

// after gives the state that a move leads to, and whether it is possible at all.
func (s State) after(m move) (State, bool) {
	type from struct {
		State
		move
	}
	switch (from{s, m}) {
	case from{Pending, pause}, from{Running, pause}, from{Running, hold}:
		return Paused, true
	case from{Paused, resume}, from{Failed, retry}, from{Running, release}:
		return Pending, true
	case from{Pending, cancel}, from{Running, cancel}, from{Paused, cancel}, from{Failed, cancel}, from{Failed, expire}, from{Cancelling, acquire}:
		return Cancelling, true
	case from{Pending, acquire}, from{Running, acquire}:
		return Running, true
	case from{Running, succeed}:
		return Succeeded, true
	case from{Running, fail}, from{Cancelling, closeUp}:
		return Failed, true
	case from{Cancelling, cleanUp}:
		return Cancelled, true
	}
	return s, false
}

// apply makes a move, with what belongs to it in the document.
func (j *Job) apply(m move, reason string, now time.Time) error {
	if !j.ClosedAt.IsZero() {
		return remedy.Wrapf(fmt.Errorf("%w: job %s has ended (%s) and cannot be %s", ErrState, j.ID, j.State, m),
			"create a new job")
	}
	to, ok := j.State.after(m)
	if !ok {
		return remedy.Wrap(fmt.Errorf("%w: job %s is %s and cannot be %s", ErrState, j.ID, j.State, m), j.State.remedy())
	}
	j.State, j.StateReason, j.UpdatedAt = to, reason, now
	switch m {
	case resume, cancel, retry:
		j.Attempt, j.NotBefore, j.EndedAt = 0, time.Time{}, time.Time{}
	case expire: // it keeps EndedAt: see hasFailed
		j.Attempt, j.NotBefore = 0, time.Time{}
	case acquire:
		j.NotBefore = time.Time{}
	}
	if to.Ended() && m != closeUp {
		j.EndedAt = now
	}
	if to.Ended() && m != fail {
		j.ClosedAt = now
	}
	return nil
}

// hasFailed says whether a job that is cancelling failed, and was not retried in
// time: it is failed again when it is cleaned up.
func (j *Job) hasFailed() bool { return j.State == Cancelling && !j.EndedAt.IsZero() }

// remedy says what people can do with a job in this state.
func (s State) remedy() string {
	if s == Cancelling {
		return "wait until a worker has cleaned up, and create a new job"
	}
	names := map[move]string{pause: "pause", resume: "resume", cancel: "cancel", retry: "retry"}
	var can []string
	for _, m := range []move{pause, resume, retry, cancel} {
		if _, ok := s.after(m); ok {
			can = append(can, names[m]+" it")
		}
	}
	if len(can) == 0 {
		return "create a new job"
	}
	return strings.Join(can, ", or ")
}

func (s State) known() bool { return slices.Contains(States(), s) }
