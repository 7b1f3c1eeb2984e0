package migrations_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/chstore"
)

// facts sums up a view, or the events that the archive itself gives.
const facts = `SELECT concat(toString(count()), ' ', toString(sum(id_ms)), ' ', toString(sum(id_seq)), ' ', toString(sum(cityHash64(event_id, type, tenant, aggregate_id, payload))),
 ' ', toString(sum(ifNull(version, 0))), ' ', toString(countIf(version IS NULL)), ' ', toString(countIf(occurred_at = fromUnixTimestamp64Milli(id_ms::Int64, 'UTC'))),
 ' ', toString(countIf(date = toDate(occurred_at, 'UTC') AND hour = toHour(occurred_at, 'UTC'))), ' ', arrayStringConcat(groupUniqArray(stream), ','))
 FROM archive.`

// archived gives the count and the sum of the milliseconds of a stream in the archive.
func (b *bench) archived(stream string) (events, sum uint64) {
	b.t.Helper()
	plan, err := b.arch.Plan(b.t.Context(), archive.PlanSpec{Stream: stream})
	b.must(err)
	for e, err := range plan.Events(b.t.Context()) {
		b.must(err)
		events++
		sum += e.ID.Ms
	}
	return events, sum
}

// agree holds a view against the archive.
func (b *bench) agree(stream string) {
	b.t.Helper()
	events, sum := b.archived(stream)
	got := b.query(facts + chstore.Identifier(stream))
	want := fmt.Sprintf(`"%d %d %d `, events, sum, events*7)
	if !strings.HasPrefix(got, want) || !strings.HasSuffix(got, fmt.Sprintf(" %d %d %s\"", events, events, stream)) {
		b.t.Errorf("the view of %s has %s, the archive %s", stream, got, want)
	}
}

func TestViews(t *testing.T) {
	for name, onS3 := range map[string]bool{"local": false, "S3": true} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, onS3)
			ctx := t.Context()
			b.up()
			b.add("orders", at(21, 7, 0), 100)
			b.add("orders", at(21, 7, 500), 50)
			b.add("orders", at(21, 8, 0), 30)
			b.add("orders", at(22, 0, 0), 20)
			const odd = "Shop: ein `Ü`/\\'x'.?*{a,b}"
			b.add(odd, at(21, 7, 0), 10)
			b.add("text", at(21, 7, 0), 10, archive.JSONL)
			reports := b.sync()
			if len(reports) != 3 || reports[0].Stream != "orders" || reports[0].Files != 4 || reports[0].Events != 200 || reports[0].Added != 4 || !reports[0].Made {
				t.Errorf("reported %+v", reports)
			}
			for _, r := range reports {
				if r.Stream == "text" && (r.View != "" || r.LeftOut != 10) {
					t.Errorf("reported %+v", r)
				}
			}
			b.agree("orders")
			if n := b.query("SELECT count() FROM archive." + chstore.Identifier(odd) + " WHERE stream = " + chstore.Literal(odd)); n != "10" {
				t.Errorf("odd name: %s events", n)
			}
			for where, want := range map[string]string{
				"date = '2026-11-21'": "180", "date = '2026-11-21' AND hour = 8": "30", "incarnation = 1": "200", "incarnation = 2": "0", "tenant = 't1'": "67",
				"version IS NULL": "100", "type = 'OrderPaid' AND date > '2026-11-21'": "10", "payload LIKE '%99%'": "1", "JSONExtractInt(payload, 'n') = 0": "4",
			} {
				if n := b.query("SELECT count() FROM archive.orders WHERE " + where); n != want {
					t.Errorf("%s: %s, want %s", where, n, want)
				}
			}
			for _, r := range b.sync() {
				if r.Added+r.Removed > 0 || r.Made {
					t.Errorf("a second sync did something: %+v", r)
				}
			}
			// Compaction leaves the small files where they are, for the grace period.
			compacted, err := b.arch.Compact(ctx, archive.CompactSpec{Stream: "orders"})
			b.must(err)
			b.agree("orders")
			r := b.sync()[0]
			if compacted.Commits == 0 || r.Added != 1 || r.Removed != 2 || r.Made {
				t.Errorf("after compaction %+v: %+v", compacted, r)
			}
			b.agree("orders")
			_, err = b.arch.GC(ctx, archive.GCSpec{Stream: "orders", Grace: time.Nanosecond, Force: true})
			b.must(err)
			b.agree("orders")
			_, err = b.arch.Expire(ctx, "orders", time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC))
			b.must(err)
			b.add("orders", at(22, 1, 0), 5)
			b.sync()
			b.agree("orders")
			if onS3 {
				if text := b.query("SELECT arrayStringConcat(groupArray(create_table_query)) FROM system.tables WHERE database = 'archive'"); strings.Contains(text, b.place.S3.SecretKey) || !strings.Contains(text, "reservoir_archive") {
					t.Errorf("views hold keys: %s", text)
				}
			}
		})
	}
}

// TestPruning breaks files that a query is not to open.
func TestPruning(t *testing.T) {
	b := newBench(t, false)
	b.up()
	b.add("orders", at(21, 7, 0), 10)
	b.add("orders", at(21, 8, 0), 10)
	b.sync()
	files, err := filepath.Glob(b.place.Root + "/streams/orders/*/parquet/date=2026-11-21/hour=07/*.parquet")
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	// What a writer left that was killed is in no view.
	b.must(os.WriteFile(filepath.Join(filepath.Dir(files[0]), "left-behind.parquet"), []byte("half"), 0o600))
	b.agree("orders")
	b.must(os.Chmod(files[0], 0o600))
	b.must(os.WriteFile(files[0], []byte("broken"), 0o600))
	if _, err := b.as("default", "SELECT max(payload) FROM archive.orders"); err == nil {
		t.Error("the broken file was not read: the test shows nothing")
	}
	if n := b.query("SELECT uniq(payload) FROM archive.orders WHERE date = '2026-11-21' AND hour >= 8"); n != "10" {
		t.Errorf("%s events", n)
	}
}

func TestIncarnations(t *testing.T) {
	b := newBench(t, false)
	b.up()
	b.add("orders", at(21, 7, 0), 10)
	b.sync()
	l, err := b.arch.Log(t.Context(), "orders")
	b.must(err)
	_, err = l.Append(t.Context(), archive.Commit{Kind: archive.KindSeal, Head: l.Head(), EntriesAdded: l.EntriesAdded(), Seal: &archive.Seal{Next: 2, Reason: "test"}})
	b.must(err)
	b.add("orders", at(21, 7, 5), 10)
	if r := b.sync()[0]; !r.Made || r.Added != 1 {
		t.Errorf("a new incarnation: %+v", r)
	}
	b.agree("orders")
	if n := b.query("SELECT groupArray((incarnation, n)) FROM (SELECT incarnation, count() AS n FROM archive.orders GROUP BY incarnation ORDER BY incarnation)"); n != "[[1,10],[2,10]]" {
		t.Errorf("by incarnation: %s", n)
	}
}

// TestStaleViewRefuses has a view whose files may be gone.
func TestStaleViewRefuses(t *testing.T) {
	b := newBench(t, false)
	b.up()
	b.add("orders", at(21, 7, 0), 10)
	b.sync()
	if _, err := b.ch.Query(t.Context(), "INSERT INTO shop.archive_streams SELECT * REPLACE (now64(3) - INTERVAL 1 SECOND AS valid_until, revision + 1 AS revision) FROM shop.archive_streams"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.ch.Query(t.Context(), "OPTIMIZE TABLE shop.archive_streams FINAL"); err != nil {
		t.Fatal(err)
	}
	for _, query := range []string{"SELECT count() FROM archive.orders", "SELECT max(payload) FROM archive.orders WHERE date = '2000-01-01'"} {
		if _, err := b.as("default", query); err == nil || !strings.Contains(err.Error(), "migrate sync") {
			t.Errorf("a stale view: %v", err)
		}
	}
	b.sync()
	b.agree("orders")
}

// TestReader reads as a user that may read views only, and neither files nor S3.
func TestReader(t *testing.T) {
	for name, onS3 := range map[string]bool{"local": false, "S3": true} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, onS3)
			b.up()
			b.add("orders", at(21, 7, 0), 30)
			b.sync()
			if _, err := b.ch.Query(t.Context(), "CREATE TABLE shop.revenue (tenant String, cents UInt64) ENGINE = MergeTree ORDER BY tenant AS SELECT 'a', 7"); err != nil {
				t.Fatal(err)
			}
			for query, want := range map[string]string{
				"SELECT count() FROM archive.orders": "30",
				"SELECT cents FROM shop.revenue":     "7",
				"SELECT count() FROM shop.rebuilds":  "0",
				"SELECT count() FROM shop.job_log":   "0",
				"SELECT uniq(tenant) FROM archive.orders WHERE date = '2026-11-21' SETTINGS max_threads = 1": "3",
			} {
				if got, err := b.as("analyst", query); err != nil || got != want {
					t.Errorf("%s: %s, %v", query, got, err)
				}
			}
			if got, err := b.as("tenant", "SELECT arrayStringConcat(groupUniqArray(tenant), ' ') FROM archive.orders"); err != nil || got != `"t1"` {
				t.Errorf("a tenant sees %s, %v", got, err)
			}
			if got, err := b.as("tenant", "SELECT count() FROM archive.orders"); err != nil || got != "10" {
				t.Errorf("a tenant counts %s, %v", got, err)
			}
			for _, user := range []string{"analyst", "tenant"} {
				store, err := chstore.Connect(t.Context(), chstore.Config{URL: b.ch.URL(), Database: "system", User: user, Password: "secret"})
				b.must(err)
				if err := store.CreateTable(t.Context(), chstore.Table{Database: "shop", Name: "x"}, chstore.TableSpec{
					Columns: []chstore.Column{{Name: "a", Type: "Int8"}}, Engine: "MergeTree", OrderBy: "a",
				}, chstore.Mark{}); !errors.Is(err, chstore.ErrDenied) {
					t.Errorf("%s makes a table: %v", user, err)
				}
				if err := store.DeleteWhere(t.Context(), chstore.Table{Database: "shop", Name: "revenue"}, "1"); !errors.Is(err, chstore.ErrDenied) {
					t.Errorf("%s deletes: %v", user, err)
				}
				for _, query := range []string{
					"SELECT * FROM file('" + b.place.Root + "/*.parquet', 'Parquet', 'a String')",
					"SELECT * FROM s3(reservoir_archive, url = 'http://127.0.0.1:1/x', format = 'Parquet', structure = 'a String')",
				} {
					if _, err := store.Query(t.Context(), query, 1); !errors.Is(err, chstore.ErrDenied) {
						t.Errorf("%s: %s: %v", user, query, err)
					}
				}
				store.Close()
			}
			if _, err := b.as("tenant", "SELECT count() FROM shop.revenue"); !errors.Is(err, chstore.ErrDenied) {
				t.Errorf("a tenant reads a table without a policy: %v", err)
			}
		})
	}
}
