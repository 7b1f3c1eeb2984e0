package rebuild_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore/faulty"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/rebuild"
)

// hooked is a map projection that does something at one of its events.
type hooked struct {
	calls atomic.Int64
	at    atomic.Int64 // 0: never
	do    func()
}

func (h *hooked) function() projection.Function {
	return projection.NewMap("mapped", func(e *projection.Event) ([]projection.Row, error) {
		if n := h.calls.Add(1); n == h.at.Load() {
			h.do()
		}
		return []projection.Row{{
			"order_id": e.AggregateID, "at": e.OccurredAt, "what": e.Type, "total": 1.0, "position": fmt.Sprintf("%s/%s", e.Stream, e.ID),
		}}, nil
	})
}

// fails runs a rebuild that must fail for some reason, in front of a live table that it
// must leave as it is.
func (k *kitchen) fails(id, name, want string) *jobs.Job {
	k.t.Helper()
	before, live := k.contents(name), k.live(name)
	job, err := k.try(k.t.Context(), k.store, id, time.Minute)
	k.must(err)
	if job.State != jobs.Failed {
		k.t.Errorf("%s: %s", name, messages(job))
	}
	k.failed(job, want)
	if k.contents(name) != before || k.live(name) != live {
		k.t.Errorf("the live table of %s is another one", name)
	}
	return job
}

func (k *kitchen) failed(job *jobs.Job, want string) {
	k.t.Helper()
	if job.State != jobs.Failed || job.LastError == nil || !strings.Contains(job.LastError.Message, want) {
		k.t.Fatalf("the rebuild is %s: %s, %+v; want %q", job.State, job.StateReason, job.LastError, want)
	}
}

// retried goes on with a job that failed, which must succeed.
func (k *kitchen) retried(id string) {
	k.t.Helper()
	_, err := k.jobs.Retry(k.t.Context(), id, jobs.Change{By: "ann"})
	k.must(err)
	k.run(id)
}

// A definition that becomes another one while its rebuild runs is found before the swap,
// also when that happens after the verification of a rebuild that no person approves. With
// the definition put back the rebuild goes on.
func TestDefinitionChangesDuringRebuild(t *testing.T) {
	const changed = "the definition of mapped has changed since the rebuild was created"
	h := &hooked{}
	k := newKitchen(t, false, h.function())
	change := func() {
		k.defs.put("mapped", strings.Replace(mappedYAML, "order_by: [order_id, at]", "order_by: [at, order_id]", 1))
	}
	back := func() { k.defs.put("mapped", mappedYAML) }
	back()
	k.must(k.publish(t.Context(), "shop:orders", 200))
	k.archiveAll(50)
	k.build(rebuild.Spec{Projection: "mapped"})

	h.do = change
	h.calls.Store(0)
	h.at.Store(70)
	loading := k.create(rebuild.Spec{Projection: "mapped"})
	job := k.fails(loading.ID, "mapped", changed)
	if job.LastError.Remedy == "" {
		t.Error("nobody says what to do")
	}
	back()
	k.retried(loading.ID)

	// Its files are written by the phase that has looked at the definition before.
	verified := k.create(rebuild.Spec{Projection: "mapped"})
	var once sync.Once
	store := faulty.New(k.store, func(s faulty.Step) faulty.Fault {
		if s.Op == faulty.Put && strings.HasSuffix(s.Key, "verification.json") {
			once.Do(change)
		}
		return faulty.Fault{}
	})
	live := k.live("mapped")
	job, err := k.try(t.Context(), store, verified.ID, time.Minute)
	k.must(err)
	k.failed(job, changed)
	if k.live("mapped") != live || !strings.Contains(messages(job), "phase "+rebuild.PhaseHandOver) {
		t.Errorf("generation %d is live, and was %d:\n%s", k.live("mapped"), live, messages(job))
	}
	back()
	k.retried(verified.ID)
	if k.live("mapped") == live {
		t.Error("the rebuild that went on did not end")
	}
}

// A file of definitions that cannot be read, as one that is being written, fails no rebuild:
// it is tried again.
func TestDefinitionIsBeingWritten(t *testing.T) {
	k := newKitchen(t, false)
	k.examples()
	k.must(k.publish(t.Context(), "shop:orders", 100))
	k.archiveAll(50)
	k.build(rebuild.Spec{Projection: "items"})
	id := k.create(rebuild.Spec{Projection: "items"}).ID
	store := faulty.New(k.store, func(s faulty.Step) (none faulty.Fault) {
		if job, err := k.jobs.Get(context.Background(), id); err != nil || s.Op != faulty.Put {
			return none
		} else if job.LastError != nil { // an attempt after that which met it
			k.examples()
		} else if strings.HasSuffix(s.Key, "verification.json") {
			k.defs.put("orders", ordersYAML[:len(ordersYAML)/2])
		}
		return none
	})
	job, err := k.try(t.Context(), store, id, time.Minute)
	k.must(err)
	if log := messages(job); job.State != jobs.Succeeded || !strings.Contains(log, "read the projections") || k.live("items") != 2 {
		t.Errorf("generation %d is live, and the rebuild is %s:\n%s", k.live("items"), job.State, log)
	}
}

// limitedUsers are users of ClickHouse of whom one may do just what %s says.
const limitedUsers = `<clickhouse><users>
<default><password></password><networks><ip>::/0</ip></networks><profile>default</profile><access_management>1</access_management></default>
<limited><password></password><networks><ip>::/0</ip></networks><profile>default</profile><grants>
<query>GRANT SELECT, CREATE TABLE, DROP TABLE, ALTER, CREATE TEMPORARY TABLE%s ON *.*</query><query>GRANT TABLE ENGINE ON *</query></grants></limited>
</users><profiles><default/></profiles></clickhouse>`

// limited has the service work as a user of ClickHouse of few rights, and gives what
// changes them: the engine reads them when it starts.
func (k *kitchen) limited(more string) (grant func(more string)) {
	k.t.Helper()
	file := filepath.Join(k.t.TempDir(), "users.xml")
	write := func(more string) { k.must(os.WriteFile(file, fmt.Appendf(nil, limitedUsers, more), 0o600)) }
	write(more)
	k.ch = stacktest.ClickHouse(k.t, stack.ClickHouseOptions{Config: "<users_config>" + file + "</users_config>"})
	var err error
	k.opts.ClickHouse, err = chstore.Connect(k.t.Context(), chstore.Config{URL: strings.Replace(k.ch.URL(), "://", "://limited@", 1)})
	k.must(err)
	k.t.Cleanup(func() { k.opts.ClickHouse.Close() })
	k.svc, err = rebuild.New(k.opts)
	k.must(err)
	return func(more string) {
		write(more)
		k.must(k.ch.Restart(context.Background()))
	}
}

// What the way that a rebuild will go needs is asked for when it is created.
func TestGrantToReadTheArchive(t *testing.T) {
	k := newKitchen(t, true)
	k.examples()
	k.must(k.publish(t.Context(), "shop:orders", 50))
	k.archiveAll(100)
	grant := k.limited(", INSERT")
	for _, way := range []rebuild.Way{rebuild.WayAuto, rebuild.WayPushdown} {
		_, err := k.svc.Create(t.Context(), rebuild.Spec{Projection: "items", Way: way}, rebuild.CreateOptions{})
		if !errors.Is(err, chstore.ErrDenied) || !strings.Contains(err.Error(), "S3") || !strings.Contains(remedy.Of(err), "GRANT S3 ON *.* TO") ||
			strings.Contains(remedy.Of(err), "way go") != (way == rebuild.WayAuto) {
			t.Errorf("%s without a grant to read S3: %v (%s)", way, err, remedy.Of(err))
		}
	}
	k.build(rebuild.Spec{Projection: "items", Way: rebuild.WayGo})
	k.build(rebuild.Spec{Projection: "items", Format: "jsonl"})
	grant(", INSERT, S3")
	k.build(rebuild.Spec{Projection: "items"})
}

// A grant that is revoked while a rebuild loads is named; with it the rebuild goes on.
func TestGrantIsRevokedDuringLoad(t *testing.T) {
	h := &hooked{}
	k := newKitchen(t, false, h.function())
	k.defs.put("mapped", mappedYAML)
	k.must(k.publish(t.Context(), "shop:orders", 200))
	k.archiveAll(50)
	grant := k.limited(", INSERT")
	k.build(rebuild.Spec{Projection: "mapped"})
	h.do = func() { grant("") }
	h.calls.Store(0)
	h.at.Store(70)
	id := k.create(rebuild.Spec{Projection: "mapped"}).ID
	job := k.fails(id, "mapped", "INSERT")
	if h.calls.Load() < 70 || !strings.Contains(job.LastError.Message, "rant") {
		t.Errorf("after %d events: %+v", h.calls.Load(), job.LastError)
	}
	grant(", INSERT")
	k.retried(id)
}

// Events without any of the fields that a definition needs follow its policy, whatever
// makes the rows and whoever reads them.
func TestEventsWithoutFieldsInRebuild(t *testing.T) {
	k := newKitchen(t, true, functions()...)
	k.withStates()
	const policy = "failures: {dead_letters: 10}\n"
	texts := map[string]string{
		"mapped": strings.Replace(mappedYAML, `, types: ["Order*"]`, "", 1), "counts": countsYAML,
		"strict": strings.NewReplacer("type != 'Noise'", "event_id != ''", "it is noise", "it has no event_id", "failures: {dead_letters: 100000}\n", "").Replace(strictYAML),
	}
	k.must(k.publish(t.Context(), "shop:orders", 100))
	k.archiveAll(1000)
	for name, text := range texts {
		k.defs.put(name, text)
		k.build(rebuild.Spec{Projection: name})
	}
	for _, event := range [][]any{
		{"aggregate_id", "o1", "payload", "{}"}, {"x", "y"}, {"type", "", "aggregate_id", "o1", "payload", ""}, {"event_id", "", "aggregate_id", "o1", "payload", "[]"},
	} {
		k.must(k.raw.Do(t.Context(), append([]any{"XADD", "shop:orders", "*"}, event...)...).Err())
	}
	k.must(k.publish(t.Context(), "shop:orders", 10))
	k.archiveAll(1000)
	refused := map[string]int{"strict": 4, "mapped": 3, "counts": 3} // {} has a total of 0 for the map, and what is about no order is none of the fold's
	for name, text := range texts {
		ways := []rebuild.Way{rebuild.WayGo}
		if name == "strict" {
			ways = append(ways, rebuild.WayPushdown)
		}
		for _, way := range ways {
			k.defs.put(name, text)
			job := k.fails(k.create(rebuild.Spec{Projection: name, Way: way}).ID, name, "events cannot be used")
			if m := job.LastError.Message; !strings.Contains(m, `of stream "shop:orders": `) || !strings.Contains(m, fmt.Sprintf("%d events", refused[name])) {
				t.Errorf("%s: the events are not named: %s", name, m)
			}
			k.defs.put(name, text+policy)
			id := k.create(rebuild.Spec{Projection: name, Way: way}).ID
			_, err := k.svc.Approve(t.Context(), id, "ann") // with what is put aside
			k.must(err)
			k.run(id)
			letters := 0
			for l, err := range k.svc.DeadLetters(t.Context(), id) {
				k.must(err)
				if letters++; l.Reason == "" || l.Stream != "shop:orders" || l.ID.IsZero() || l.EventID != "" {
					t.Errorf("%s: %+v", name, l)
				}
			}
			if letters != refused[name] {
				t.Errorf("%s by %s: %d events were put aside, want %d", name, way, letters, refused[name])
			}
			rows := map[string]string{"strict": "SELECT count() FROM strict", "mapped": "SELECT count() - 1 FROM mapped", "counts": "SELECT sum(events) FROM counts FINAL"}[name]
			if got := k.query("%s", rows); got != "110" {
				t.Errorf("%s by %s has the rows of %s events, want 110", name, way, got)
			}
		}
	}
}

// smallDisk has the ClickHouse engines that are started from here on in dir keep their data
// on a file system of so many bytes, in a mount namespace of a process of its own. It gives
// the path of that for others.
func smallDisk(t *testing.T, dir, size string) string {
	t.Helper()
	engine, err := stack.Binary("chengine")
	if err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "unshare", "--user", "--map-root-user", "--mount", "sh", "-c",
		fmt.Sprintf("mount -t tmpfs -o size=%s none %s && echo mounted && exec cat", size, data))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Skipf("there is no mount namespace to be had: %v", err)
	}
	if said, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Skipf("this kernel lets nobody mount a small file system: %q, %v, %v", said, err, errors.Join(in.Close(), cmd.Wait()))
	}
	t.Cleanup(func() { // its context has ended, and so has it
		if err := in.Close(); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Logf("the mount namespace: %v", err)
		}
	})
	script := filepath.Join(t.TempDir(), "chengine")
	text := fmt.Sprintf("#!/bin/sh\nexec nsenter --preserve-credentials --user --mount --target %d %s \"$@\"\n", cmd.Process.Pid, engine)
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil { //nolint:gosec // it is run
		t.Fatal(err)
	}
	t.Setenv("RESERVOIR_TOOL_CHENGINE", script)
	return fmt.Sprintf("/proc/%d/root%s", cmd.Process.Pid, data)
}

// fill writes a file until there is no space left.
func fill(file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	zeros := make([]byte, 4096)
	for {
		if _, err = f.Write(zeros); err != nil {
			break
		}
	}
	if errors.Is(err, syscall.ENOSPC) {
		err = nil
	}
	return errors.Join(err, f.Close())
}

// The disk of ClickHouse becomes full while a rebuild loads: it says so, and readers go on
// with the table that they have. With space it goes on with the chunk at which it stopped.
func TestDiskFillsUpDuringLoad(t *testing.T) {
	h := &hooked{}
	k := newKitchen(t, false, h.function())
	dir := t.TempDir()
	disk := smallDisk(t, dir, "96m")
	k.ch = stacktest.ClickHouse(t, stack.ClickHouseOptions{Dir: dir})
	var err error
	k.opts.ClickHouse, err = chstore.Connect(t.Context(), chstore.Config{URL: k.ch.URL()})
	k.must(err)
	t.Cleanup(func() { k.opts.ClickHouse.Close() })
	k.svc, err = rebuild.New(k.opts)
	k.must(err)
	k.defs.put("mapped", strings.Replace(mappedYAML, `, types: ["Order*"]`, "", 1))
	k.must(k.publish(t.Context(), "shop:orders", 1500))
	k.archiveAll(10) // 64 objects are a chunk
	k.build(rebuild.Spec{Projection: "mapped"})
	want := k.contents("mapped")

	filler := filepath.Join(disk, "filler")
	h.do = func() {
		if err := fill(filler); err != nil {
			t.Error(err)
		}
	}
	h.calls.Store(0)
	h.at.Store(800)
	id := k.create(rebuild.Spec{Projection: "mapped", Concurrency: 1}).ID
	job := k.fails(id, "mapped", "not enough space")
	if !strings.Contains(job.LastError.Remedy, "Free space") || !strings.Contains(job.LastError.Message, "chunk") {
		t.Errorf("the rebuild says %+v", job.LastError)
	}
	k.must(os.Remove(filler))
	loaded := h.calls.Load()
	k.retried(id)
	if again := h.calls.Load() - loaded; again >= 1500 {
		t.Errorf("%d events were loaded again", again)
	}
	if got := k.contents("mapped"); got != want || k.live("mapped") != 2 {
		t.Errorf("generation %d is live, and %s", k.live("mapped"), firstDifference("mapped", got, want))
	}
}
