package jobs

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/internal/remedy"
)

// TestStates holds every move from every state to the picture in State's comment.
func TestStates(t *testing.T) {
	moves := []move{pause, resume, cancel, retry, acquire, succeed, fail, hold, release, cleanUp, expire, closeUp}
	want := map[State]map[move]State{
		Pending:    {pause: Paused, cancel: Cancelling, acquire: Running},
		Running:    {pause: Paused, cancel: Cancelling, acquire: Running, succeed: Succeeded, fail: Failed, hold: Paused, release: Pending},
		Paused:     {resume: Pending, cancel: Cancelling},
		Cancelling: {acquire: Cancelling, cleanUp: Cancelled, closeUp: Failed},
		Failed:     {retry: Pending, cancel: Cancelling, expire: Cancelling},
	}
	at := time.Date(2026, 11, 21, 7, 0, 0, 0, time.UTC)
	for _, from := range States() {
		for _, m := range moves {
			j := &Job{ID: NewID(), State: from, Attempt: 3, NotBefore: at, EndedAt: at}
			err := j.apply(m, "because", at.Add(time.Hour))
			to, possible := want[from][m]
			if !possible {
				if !errors.Is(err, ErrState) || j.State != from || j.StateReason != "" {
					t.Errorf("%s from %s: state %s, error %v; want it refused", m, from, j.State, err)
					continue
				}
				for _, word := range []string{string(from), string(m), j.ID} {
					if !strings.Contains(err.Error(), word) {
						t.Errorf("%s from %s: error %q does not say %q", m, from, err, word)
					}
				}
				if remedy.Of(err) == "" {
					t.Errorf("%s from %s: error has no remedy", m, from)
				}
				continue
			}
			if err != nil || j.State != to || j.StateReason != "because" {
				t.Errorf("%s from %s: state %s (%s), error %v; want %s", m, from, j.State, j.StateReason, err, to)
			}
			if closed := to == Succeeded || to == Cancelled || m == closeUp; j.ClosedAt.IsZero() == closed {
				t.Errorf("%s from %s: closed at %v", m, from, j.ClosedAt)
			}
			if anew := m == resume || m == retry || m == cancel || m == expire; anew != (j.Attempt == 0) {
				t.Errorf("%s from %s: attempt %d", m, from, j.Attempt)
			}
			if ended := !j.EndedAt.IsZero(); (m == retry || m == cancel) && ended {
				t.Errorf("%s from %s: still says that it ended", m, from)
			}
			if (m == expire || m == closeUp) && !j.EndedAt.Equal(at) {
				t.Errorf("%s from %s: says that it ended at %v, not when it failed", m, from, j.EndedAt)
			}
		}
		closed := &Job{State: from, ClosedAt: at}
		for _, m := range moves {
			if err := closed.apply(m, "", at); !errors.Is(err, ErrState) || remedy.Of(err) == "" {
				t.Errorf("%s of a closed job: %v", m, err)
			}
		}
	}
}

func TestBackoff(t *testing.T) {
	for attempts, most := range map[int]time.Duration{
		0: time.Second, 1: time.Second, 2: 2 * time.Second, 5: 16 * time.Second, 9: 256 * time.Second, 10: 5 * time.Minute, 1000: 5 * time.Minute,
	} {
		for range 100 {
			if d := backoff(attempts); d > most || d < most/2 {
				t.Fatalf("after %d attempts: %v, want %v to %v", attempts, d, most/2, most)
			}
		}
	}
}

func TestLogIsBounded(t *testing.T) {
	j := &Job{}
	for i := range 250 {
		j.log(LogEntry{Message: strings.Repeat("x", i+1)})
	}
	if len(j.Log) != MaxLog || j.LogDropped != 150 || len(j.Log[0].Message) != 151 {
		t.Errorf("%d entries, %d dropped, the first has %d bytes", len(j.Log), j.LogDropped, len(j.Log[0].Message))
	}
	j.log(j.Log[10])
	if len(j.Log) != MaxLog || j.LogDropped != 150 {
		t.Error("an entry that is there was added once more")
	}
	j.log(LogEntry{Message: strings.Repeat("ä", maxText)})
	if last := j.Log[MaxLog-1].Message; len(last) > maxText+8 {
		t.Errorf("a message of %d bytes", len(last))
	}
}

// TestJournal: what is added while a document is being written is not lost.
func TestJournal(t *testing.T) {
	var l journal
	for range 90 {
		l.add(LogEntry{})
	}
	upTo := l.end()
	for range 30 { // 20 of the 90 are dropped
		l.add(LogEntry{Message: "new"})
	}
	l.cut(upTo)
	if len(l.entries) != 30 || l.entries[0].Message != "new" {
		t.Errorf("%d entries are left to write, want the 30 new ones", len(l.entries))
	}
	l.cut(upTo - 5)
	if len(l.entries) != 30 {
		t.Error("cutting what is gone cut something else")
	}
}

func TestEndedKey(t *testing.T) {
	j := &Job{ID: NewID(), Kind: "replay", State: Succeeded}
	e, ok := parseEnded(endedKey(j))
	if !ok || e.id != j.ID || e.kind != "replay" || e.state != Succeeded {
		t.Errorf("%s reads back as %+v", endedKey(j), e)
	}
	for _, key := range []string{"jobs/ended/x", "jobs/ended/2026-11/x.replay.failed.json", "jobs/ended/2026-11/" + j.ID + ".json"} {
		if e, ok := parseEnded(key); ok {
			t.Errorf("%s reads as %+v", key, e)
		}
	}
}
