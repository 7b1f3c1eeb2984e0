package rebuild_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore/faulty"
	"github.com/reservoirhq/reservoir/rebuild"
)

// bad publishes an event that strictYAML cannot use.
func (k *kitchen) bad(id string) {
	k.t.Helper()
	k.must(k.raw.Do(k.t.Context(), "XADD", "shop:orders", "*", "event_id", id, "type", "Noise").Err())
}

// good publishes an event that strictYAML can use.
func (k *kitchen) good(id int) {
	k.t.Helper()
	k.must(k.raw.Do(k.t.Context(), "XADD", "shop:orders", "*", "event_id", fmt.Sprintf("e%d", id), "type", "OrderPaid").Err())
}

// A first build goes live with letters, since nobody has another table. What is put aside
// for the live table counts for as long as it is live, however often it is fed anew, and
// whoever raises the limit lets it go on. A list shows what a rebuild has done.
func TestLettersAreCountedForGood(t *testing.T) {
	k := newKitchen(t, false)
	strict := func(limit int) string {
		return strings.Replace(strictYAML, "dead_letters: 100000", fmt.Sprintf("dead_letters: %d", limit), 1)
	}
	k.defs.put("strict", strict(2))
	k.good(1)
	k.bad("n1")
	k.archiveAll(10)
	job := k.build(rebuild.Spec{Projection: "strict"})
	v, err := k.svc.Verification(t.Context(), job.ID)
	if k.must(err); len(v.Warnings) != 1 || !strings.Contains(v.Warnings[0], "put aside") {
		t.Errorf("the warnings are %q", v.Warnings)
	}
	if job.Progress.Done != 2 || job.Progress.Total != 2 {
		t.Errorf("%d of %d events are done", job.Progress.Done, job.Progress.Total)
	}
	var said lockedBuffer
	k.opts.Logger = slog.New(slog.NewTextHandler(&said, nil))
	k.svc, err = rebuild.New(k.opts)
	k.must(err)
	rows := func(want string) {
		t.Helper()
		eventually(t, 20*time.Second, func() bool { return k.query("SELECT count() FROM strict") == want }, func() string {
			return "there are " + k.query("SELECT count() FROM strict") + " rows, want " + want + ": " + said.String()
		})
	}
	for i := range 2 {
		stop := k.project("strict")
		k.bad(fmt.Sprintf("b%d", i))
		k.good(10 + i)
		rows(fmt.Sprint(2 + i))
		stop()
	}
	k.bad("b2")
	k.good(20)
	k.project("strict")
	for range 2 { // and again, when it is fed anew
		said.mu.Lock()
		said.all.Reset()
		said.mu.Unlock()
		eventually(t, 20*time.Second, func() bool { return strings.Contains(said.String(), "3 events cannot be used") }, said.String)
	}
	if got := k.query("SELECT count() FROM strict"); got != "3" {
		t.Errorf("there are %s rows", got)
	}
	k.defs.put("strict", strict(3))
	rows("4")
}

// A catch-up that begins anew does not count again what it has put aside before.
func TestLettersOfCatchUpCountOnce(t *testing.T) {
	k := newKitchen(t, false)
	k.defs.put("strict", strings.Replace(strictYAML, "dead_letters: 100000", "dead_letters: 1", 1))
	k.good(1)
	k.archiveAll(10)
	job := k.create(rebuild.Spec{Projection: "strict"})
	k.bad("n1")
	aside, failures := false, 0
	store := faulty.New(k.store, func(s faulty.Step) (f faulty.Fault) {
		if s.Op != faulty.Put {
			return f
		}
		if strings.Contains(s.Key, "/letters/") {
			aside = true
		} else if aside && failures < 2 {
			failures++
			f.Err = errors.New("not now")
		}
		return f
	})
	for failed := range 5 {
		done, err := k.try(t.Context(), store, job.ID, 2*time.Second)
		if err == nil && done.State.Ended() {
			if done.State != jobs.Succeeded || failures == 0 {
				t.Errorf("after %d attempts, %d failures: %s, %+v", failed, failures, done.State, done.LastError)
			}
			break
		}
	}
	count := 0
	for _, err := range k.svc.DeadLetters(context.Background(), job.ID) {
		k.must(err)
		count++
	}
	if count != 1 {
		t.Errorf("%d letters, want 1", count)
	}
}

// A batch that was never announced may have other events when it is made again: what was
// put aside of those that it had is forgotten.
func TestLettersOfBatchThatChanges(t *testing.T) {
	k := newKitchen(t, false)
	k.defs.put("strict", strictYAML)
	k.good(1)
	k.archiveAll(10)
	job := k.create(rebuild.Spec{Projection: "strict"})
	bad, err := k.raw.Do(t.Context(), "XADD", "shop:orders", "*", "event_id", "n1", "type", "Noise").Text()
	k.must(err)
	k.good(2)
	aside, gone := false, false
	store := faulty.New(k.store, func(s faulty.Step) (f faulty.Fault) {
		switch {
		case s.Op != faulty.Put || gone:
		case strings.Contains(s.Key, "/letters/"):
			aside = true
		case aside:
			gone, f.Crash = true, true
		}
		return f
	})
	if _, err := k.try(t.Context(), store, job.ID, 2*time.Second); err == nil || !gone {
		t.Fatalf("the worker did not die: %v", err)
	}
	k.must(k.raw.XDel(t.Context(), "shop:orders", bad).Err())
	_, err = k.svc.Approve(t.Context(), job.ID, "ann") // that an entry is lost is a warning
	k.must(err)
	k.run(job.ID)
	for l, err := range k.svc.DeadLetters(context.Background(), job.ID) {
		k.must(err)
		t.Errorf("%s was put aside", l)
	}
	if got := k.query("SELECT count() FROM strict"); got != "2" {
		t.Errorf("there are %s rows", got)
	}
}

// Where the SELECT fails on everything, no more events are looked for than the policy allows,
// and a few to name.
func TestSelectThatFailsOnEverything(t *testing.T) {
	k := newKitchen(t, false)
	k.must(k.publish(t.Context(), "shop:orders", 2000))
	k.archiveAll(1000)
	for policy, want := range map[string]string{
		"stop": "3 events cannot be used, and the definition of throws puts at most 0 aside", "{dead_letters: 5}": "6 events cannot be used, and the definition of throws puts at most 5 aside",
	} {
		k.defs.put("throws", "name: throws\nsource: {streams: [\"shop:orders\"]}\ntable: {engine: MergeTree, order_by: [id], columns: {id: String, n: UInt32}}\n"+
			"failures: "+policy+"\nselect: SELECT event_id AS id, toUInt32(type) AS n FROM events\n")
		job, err := k.try(t.Context(), k.store, k.create(rebuild.Spec{Projection: "throws"}).ID, time.Minute)
		k.must(err)
		k.failed(job, want)
		if named := strings.Count(job.LastError.Message, "event "); named != 3 {
			t.Errorf("%d events are named: %s", named, job.LastError.Message)
		}
	}
}
