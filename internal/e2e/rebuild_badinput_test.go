package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/rebuild"
)

// someUsers are users of ClickHouse who may read only, and who may do much, beside one
// who may do all.
const someUsers = `<clickhouse><users>
<default><password></password><networks><ip>::/0</ip></networks><profile>default</profile><access_management>1</access_management></default>
<reader><password></password><networks><ip>::/0</ip></networks><profile>readonly</profile></reader>
<builder><password></password><networks><ip>::/0</ip></networks><profile>default</profile><grants>
<query>GRANT SELECT, INSERT, CREATE TABLE, CREATE TEMPORARY TABLE, ALTER ON *.*</query><query>GRANT READ ON S3</query></grants></builder>
</users><profiles><default/><readonly><readonly>1</readonly></readonly></profiles></clickhouse>`

// numberYAML makes numbers of texts, of which some are none.
const numberYAML = `
name: numbers
kind: sql
source: {streams: ["odd"]}
table:
  engine: MergeTree
  order_by: [id]
  columns: {id: String, n: UInt64}
select: |
  SELECT event_id AS id, toUInt64(if(payload = '', '0', JSONExtractString(payload, 'n'))) AS n FROM events
`

// TestRebuildBadInput: whatever is wrong is found and named before the swap, and
// readers go on with the table that they had.
func TestRebuildBadInput(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "users.xml")
	if err := os.WriteFile(file, []byte(someUsers), 0o600); err != nil {
		t.Fatal(err)
	}
	k := newKitchen(t, 10*time.Second, stack.ClickHouseOptions{Config: "<users_config>" + file + "</users_config>"}, "timeline", "orders", "revenue")
	for _, lane := range laneNames {
		if err := k.publish(t.Context(), lane, 300); err != nil {
			t.Fatal(err)
		}
	}
	mustReservoir(t, k.env, "archive", "--once")
	worker := k.hand()
	worker.Projector = false
	k.start(t, worker)
	k.first(t, "timeline", "orders", "revenue")

	t.Run("shadow with a column more", func(t *testing.T) {
		k.spoiled(t, "timeline", func(t *testing.T, shadow string) {
			k.sql(t, "ALTER TABLE "+shadow+" ADD COLUMN mine String FIRST")
		}, "changed by hand")
	})
	t.Run("shadow without some rows", func(t *testing.T) {
		k.spoiled(t, "timeline", func(t *testing.T, shadow string) {
			k.sql(t, "DELETE FROM "+shadow+" WHERE n = 7")
		}, "")
	})
	t.Run("shadow with other values", func(t *testing.T) {
		k.spoiled(t, "timeline", func(t *testing.T, shadow string) {
			k.sql(t, "ALTER TABLE "+shadow+" UPDATE tenant = 'mine' WHERE n = 7 SETTINGS mutations_sync = 2")
		}, "changed by hand")
	})
	t.Run("shadow that replaces, without some rows", func(t *testing.T) {
		k.spoiled(t, "orders", func(t *testing.T, shadow string) { k.sql(t, "DELETE FROM "+shadow+" WHERE order_id = 'o7'") }, "changed by hand")
	})
	t.Run("shadow that adds up, with a row more", func(t *testing.T) {
		k.spoiled(t, "revenue", func(t *testing.T, shadow string) {
			k.sql(t, "INSERT INTO "+shadow+" (lane, tenant, type, events, total) VALUES ('lane:a', 't1', 'Sold', 1, 1)")
		}, "changed by hand")
	})
	t.Run("shadow that is gone", func(t *testing.T) {
		k.spoiled(t, "timeline", func(t *testing.T, shadow string) { k.sql(t, "DROP TABLE "+shadow) }, "does not exist")
	})
	t.Run("live table that somebody exchanged", func(t *testing.T) {
		k.spoiled(t, "timeline", func(t *testing.T, _ string) {
			k.sql(t, "CREATE TABLE other AS timeline")
			k.sql(t, "EXCHANGE TABLES other AND timeline")
		}, "")
	})
	t.Run("definition changed meanwhile", func(t *testing.T) {
		k.spoiled(t, "timeline", func(t *testing.T, _ string) {
			k.define(t, "timeline", strings.Replace(kitchenTables["timeline"], "type, concat", "lower(type) AS type, concat", 1))
		}, "definition of timeline has changed")
		k.define(t, "timeline", kitchenTables["timeline"])
	})
	t.Run("read-only user", func(t *testing.T) {
		svc, _, _ := k.service(t, strings.Replace(k.ch.URL(), "://", "://reader@", 1))
		_, err := svc.Create(t.Context(), rebuild.Spec{Projection: "timeline"}, rebuild.CreateOptions{})
		if err == nil || !strings.Contains(err.Error(), "denies") && !strings.Contains(err.Error(), "readonly") {
			t.Errorf("a rebuild by a user who may only read: %v", err)
		}
	})
	t.Run("user who may not drop", func(t *testing.T) {
		svc, _, _ := k.service(t, strings.Replace(k.ch.URL(), "://", "://builder@", 1))
		_, err := svc.Create(t.Context(), rebuild.Spec{Projection: "timeline"}, rebuild.CreateOptions{})
		if !errors.Is(err, chstore.ErrDenied) || !strings.Contains(err.Error(), "DROP TABLE") || !strings.Contains(remedy.Of(err), "GRANT DROP TABLE") {
			t.Errorf("a rebuild by a user who may not drop tables: %v (%s)", err, remedy.Of(err))
		}
	})
	t.Run("gap", k.gap)
	t.Run("values that are none", k.refused)
}

// sql has ClickHouse do something.
func (k *kitchen) sql(t *testing.T, statement string) {
	t.Helper()
	if _, err := k.ch.Query(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

// spoiled has a rebuild wait for approval, spoils something, and approves: the rebuild
// must not go on to the swap, and say why. Or, if want is empty, swap a table that is
// as it should be.
func (k *kitchen) spoiled(t *testing.T, name string, spoil func(t *testing.T, shadow string), want string) {
	t.Helper()
	before := k.document(t, name)
	id := k.order(t, rebuild.Spec{Projection: name, Approval: projection.Required}, "")
	job := k.await(t, id, time.Minute, "waiting", func(j *jobs.Job) bool { return j.State == jobs.Paused || j.State.Ended() })
	if !strings.Contains(job.StateReason, "approv") {
		t.Fatalf("the rebuild does not wait for approval:\n%s", describe(job))
	}
	spoil(t, fmt.Sprintf("%s__g%d", name, k.document(t, name).LastGeneration))
	if _, err := k.svc.Approve(t.Context(), id, "test"); err != nil {
		t.Fatal(err)
	}
	job = k.await(t, id, time.Minute, "over", func(j *jobs.Job) bool {
		return j.State.Ended() || j.Attempt > 0 || j.State == jobs.Paused && !strings.Contains(j.StateReason, "approv")
	})
	said := job.StateReason
	if job.LastError != nil {
		said += " " + job.LastError.Message
	}
	t.Logf("the rebuild is %s: %s", job.State, said)
	after := k.document(t, name)
	if job.State == jobs.Succeeded {
		if _, err := k.exact(t.Context(), name, name); err != nil || want != "" {
			t.Errorf("the rebuild swapped in a table that was spoiled: %v", err)
		}
		return
	}
	if after.Live.Generation != before.Live.Generation {
		t.Errorf("generation %d is live, want %d", after.Live.Generation, before.Live.Generation)
	}
	if !strings.Contains(said, want) || !strings.Contains(said, name) {
		t.Errorf("the rebuild says %q, want %q and the table", said, want)
	}
	if !job.State.Ended() || job.State == jobs.Failed {
		if _, err := k.jobs.Cancel(t.Context(), id, jobs.Change{By: "test"}); err != nil {
			t.Error(err)
		}
		k.await(t, id, time.Minute, "cancelled", func(j *jobs.Job) bool { return j.State == jobs.Cancelled })
	}
}

func (k *kitchen) document(t *testing.T, name string) *projection.Document {
	t.Helper()
	doc, err := k.svc.Documents().Get(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// gap has entries lost before they are archived: a rebuild that needs nobody's approval
// waits for one all the same, and names the loss.
func (k *kitchen) gap(t *testing.T) {
	ctx, lane := t.Context(), laneNames[0]
	if err := k.publish(ctx, lane, 100); err != nil {
		t.Fatal(err)
	}
	if err := k.raw.XTrimMaxLen(ctx, lane, 20).Err(); err != nil {
		t.Fatal(err)
	}
	if r := reservoir(t, k.env, "archive", "--once"); r.status != 1 || !strings.Contains(r.stderr, "LOST") {
		t.Fatalf("status %d\n%s", r.status, r.stderr)
	}
	id := k.order(t, rebuild.Spec{Projection: "revenue"}, "")
	job := k.await(t, id, time.Minute, "waiting", func(j *jobs.Job) bool { return j.State == jobs.Paused || j.State.Ended() })
	if job.State != jobs.Paused || !strings.Contains(job.StateReason, "lost") || !strings.Contains(job.StateReason, lane) {
		t.Errorf("over a gap the rebuild is %s: %s", job.State, job.StateReason)
	}
	if got := k.document(t, "revenue").Live.Generation; got != 1 {
		t.Errorf("generation %d is live", got)
	}
}

// refused has values that the SELECT cannot use: by the definition's policy the rebuild
// stops and names them, or puts them aside and names them for the approval.
func (k *kitchen) refused(t *testing.T) {
	for i, n := range []string{`"1"`, `"2"`, `"three"`, `"4"`, `"18446744073709551616000"`, `null`, `"7"`} {
		if err := k.raw.Do(t.Context(), "XADD", "odd", "*", "event_id", fmt.Sprintf("odd-%d", i+1), "type", "Odd", "payload", `{"n":`+n+`}`).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if r := reservoir(t, k.env, "archive", "--once"); !strings.Contains(r.stdout, "archived 7 events") {
		t.Fatalf("status %d\n%s\n%s", r.status, r.stdout, r.stderr)
	}
	k.define(t, "numbers", numberYAML)
	id := k.order(t, rebuild.Spec{Projection: "numbers"}, "")
	job := k.await(t, id, time.Minute, "over", func(j *jobs.Job) bool { return j.State.Ended() })
	if job.State != jobs.Failed || !strings.Contains(job.StateReason, `of stream "odd"`) || !strings.Contains(job.StateReason, "three") {
		t.Errorf("with values that cannot be used the rebuild is %s: %s", job.State, job.StateReason)
	}
	k.define(t, "numbers", numberYAML+"failures: {dead_letters: 10}\n")
	// There is no table that the first one could harm: it goes live with what it has.
	id = k.order(t, rebuild.Spec{Projection: "numbers"}, "")
	if job = k.await(t, id, time.Minute, "over", func(j *jobs.Job) bool { return j.State == jobs.Paused || j.State.Ended() }); job.State != jobs.Succeeded || job.Progress.DeadLetters == 0 {
		t.Fatalf("with events put aside the first rebuild is\n%s", describe(job))
	}
	id = k.order(t, rebuild.Spec{Projection: "numbers"}, "")
	job = k.await(t, id, time.Minute, "waiting", func(j *jobs.Job) bool { return j.State == jobs.Paused || j.State.Ended() })
	if job.State != jobs.Paused || !strings.Contains(job.StateReason, "put aside") {
		t.Fatalf("with events put aside the rebuild is\n%s", describe(job))
	}
	var named []string
	for l, err := range k.svc.DeadLetters(t.Context(), id) {
		if err != nil {
			t.Fatal(err)
		}
		if l.Reason == "" || l.Stream != "odd" {
			t.Errorf("the dead letter %+v does not say why, or where from", l)
		}
		named = append(named, l.EventID)
	}
	t.Logf("put aside: %v", named)
	if _, err := k.svc.Approve(t.Context(), id, "test"); err != nil {
		t.Fatal(err)
	}
	k.built(t, id, time.Minute)
	text, err := k.ch.Query(t.Context(), "SELECT groupArray(id) FROM (SELECT id FROM numbers ORDER BY id)")
	if err != nil {
		t.Fatal(err)
	}
	if want := 7 - len(named); strings.Count(text, "odd-") != want || !strings.Contains(strings.Join(named, " "), "odd-3") {
		t.Errorf("the table has %s and %v were put aside", text, named)
	}
}

// TestRebuildOnFullDisk has no room at ClickHouse: the rebuild says so, its readers have
// the table that they had, and when there is room again both it and the feeding go on.
func TestRebuildOnFullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	k := newKitchen(t, 10*time.Second, stack.ClickHouseOptions{Dir: dir}, "timeline")
	for _, lane := range laneNames {
		if err := k.publish(t.Context(), lane, 300); err != nil {
			t.Fatal(err)
		}
	}
	mustReservoir(t, k.env, "archive", "--once")
	k.start(t, k.hand())
	k.first(t, "timeline")
	k.awaitAll(t, "timeline")
	const full = "<clickhouse><merge_tree><min_free_disk_bytes_to_perform_insert>1000000000000000000</min_free_disk_bytes_to_perform_insert></merge_tree></clickhouse>"
	file := filepath.Join(dir, "config.d", "full.xml")
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(full), 0o600), k.ch.Restart(t.Context())); err != nil {
		t.Fatal(err)
	}
	if err := k.publish(t.Context(), laneNames[0], 300); err != nil {
		t.Fatal(err)
	}
	id := k.order(t, rebuild.Spec{Projection: "timeline"}, "")
	job := k.await(t, id, time.Minute, "over", func(j *jobs.Job) bool { return j.State.Ended() || j.State == jobs.Paused })
	if job.State != jobs.Failed || !strings.Contains(job.StateReason, "disk") && !strings.Contains(job.StateReason, "space") || !strings.Contains(job.LastError.Remedy, "Free space") {
		t.Errorf("without room the rebuild is\n%s", describe(job))
	}
	if at, err := k.exact(t.Context(), "timeline", "timeline"); err != nil || at[laneNames[0]] != 225 {
		t.Errorf("readers see %v, %v", at, err)
	}
	if err := errors.Join(os.Remove(file), k.ch.Restart(t.Context())); err != nil {
		t.Fatal(err)
	}
	if _, err := k.jobs.Retry(t.Context(), id, jobs.Change{By: "test"}); err != nil {
		t.Fatal(err)
	}
	k.built(t, id, time.Minute)
	k.settled(t, "timeline")
}
