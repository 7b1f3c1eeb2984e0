package rebuild_test

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/rebuild"
)

// dry gives the rows of a dry run.
func (k *kitchen) dry(name string, opts rebuild.DryRunOptions) (string, *rebuild.DryRunResult) {
	k.t.Helper()
	result, err := k.svc.DryRun(k.t.Context(), name, opts)
	k.must(err)
	return k.text(result.Rows), result
}

// text is sorted: rows of the same keys have no order.
func (k *kitchen) text(rows chstore.Rows) string {
	k.t.Helper()
	columns, err := json.Marshal(rows.Columns)
	k.must(err)
	lines := make([]string, len(rows.Rows))
	for i, row := range rows.Rows {
		text, err := json.Marshal(row)
		k.must(err)
		lines[i] = string(text)
	}
	slices.Sort(lines)
	return string(columns) + "\n" + strings.Join(lines, "\n")
}

// built gives rows of a live table as a dry run shows them.
func (k *kitchen) built(name, where string) string {
	k.t.Helper()
	set, err := k.defs.set()
	k.must(err)
	d, err := set.Get(name)
	k.must(err)
	rows, err := k.db.Read(k.t.Context(), k.db.Table(d.Table.Name), chstore.Page{OrderBy: d.Keys, Final: true, Where: where, Limit: 10_000})
	k.must(err)
	return k.text(rows)
}

// objects are the keys of all that is in the store.
func (k *kitchen) objects() string {
	k.t.Helper()
	var keys []string
	for info, err := range k.store.List(k.t.Context(), "", objectstore.ListOptions{}) {
		k.must(err)
		keys = append(keys, info.Key)
	}
	return strings.Join(keys, "\n")
}

// A dry run shows what a table of the same events would hold, whatever makes its rows, and
// leaves nothing.
func TestDryRun(t *testing.T) {
	states := t.TempDir()
	t.Setenv("TMPDIR", states)
	k := newKitchen(t, false, functions()...)
	k.examples()
	k.withStates()
	k.defs.put("mapped", mappedYAML)
	k.defs.put("counts", countsYAML)
	names := []string{"timeline", "orders", "revenue", "items", "lines", "mapped", "counts"}
	streams := []string{"shop:orders", "shop:payments"}
	for _, stream := range streams {
		k.must(k.publish(t.Context(), stream, 200))
	}
	k.archiveAll(70)
	first := map[string]string{}
	for _, name := range names {
		k.build(rebuild.Spec{Projection: name})
		first[name] = k.built(name, "")
	}
	for _, stream := range streams {
		k.must(k.publish(t.Context(), stream, 100))
	}
	k.archiveAll(70)
	for _, name := range []string{"orders", "items", "mapped", "counts", "timeline"} {
		k.build(rebuild.Spec{Projection: name, Way: rebuild.WayGo})
	}
	k.must(k.publish(t.Context(), "shop:orders", 50)) // these are not archived
	tables, objects := k.tables(), k.objects()
	for _, name := range names {
		got, result := k.dry(name, rebuild.DryRunOptions{Events: 200, Rows: 1_000_000})
		if got != first[name] {
			t.Errorf("of the first events %s", firstDifference(name, got, first[name]))
		}
		if want := uint64(400); result.Read != want && name != "items" || result.Refused != 0 || len(result.Rows.Rows) < 2 {
			t.Errorf("%s: %d events were read, and %d refused", name, result.Read, result.Refused)
		}
		if _, result = k.dry(name, rebuild.DryRunOptions{Rows: 1}); len(result.Rows.Rows) != 1 {
			t.Errorf("%s: %d rows are shown, want 1", name, len(result.Rows.Rows))
		}
	}
	k.aggregate()
	if got := k.tables(); got != tables {
		t.Errorf("there are tables %s, and were %s", got, tables)
	}
	if got := k.objects(); got != objects {
		t.Error(firstDifference("the store", got, objects))
	}
	if left, err := filepath.Glob(filepath.Join(states, "reservoir-dry-run-*")); err != nil || len(left) > 0 {
		t.Errorf("%v is left, %v", left, err)
	}
}

// aggregate looks at dry runs of one aggregate, whose events are archived.
func (k *kitchen) aggregate() {
	k.t.Helper()
	order := k.query("SELECT order_id FROM counts FINAL WHERE order_id NOT IN (SELECT order_id FROM timeline WHERE what = 'Noise') ORDER BY events DESC, order_id LIMIT 1")
	archived := "order_id = '" + order + "'"
	for _, name := range []string{"orders", "items", "mapped", "counts", "timeline"} {
		got, result := k.dry(name, rebuild.DryRunOptions{Aggregate: order, Events: 50_000, Rows: 1000})
		if want := k.built(name, archived); got != want {
			k.t.Errorf("of order %s %s", order, firstDifference(name, got, want))
		}
		if result.Selected == 0 || result.Read > 50 {
			k.t.Errorf("%s: %d of %d events of an order were selected", name, result.Selected, result.Read)
		}
	}
}

// Where and how the events are archived makes no difference.
func TestDryRunOfEveryArchive(t *testing.T) {
	for _, c := range []struct {
		onS3   bool
		format archive.Format
	}{{true, archive.Parquet}, {true, archive.JSONL}, {false, archive.Parquet}, {false, archive.JSONL}} {
		k := newKitchen(t, c.onS3, functions()...)
		k.opts.Redis = nil
		k.withStates()
		k.examples()
		k.defs.put("counts", countsYAML)
		k.must(k.publish(t.Context(), "shop:orders", 100))
		k.archiveAll(30, c.format)
		for name, column := range map[string]string{"items": "event", "counts": "events"} {
			text, result := k.dry(name, rebuild.DryRunOptions{Rows: 1000})
			if result.Read != 100 || result.Selected != 100 || len(result.Rows.Rows) < 50 || !strings.Contains(text, `"`+column+`"`) {
				t.Errorf("%s of %s, on S3 %v: of %d events %d were selected, which give %d rows", name, c.format, c.onS3, result.Read, result.Selected, len(result.Rows.Rows))
			}
		}
		if got := k.tables(); got != "" {
			t.Errorf("%s is left", got)
		}
	}
}

// Events that cannot be used are named, whoever refuses them.
func TestDryRunNamesRefusedEvents(t *testing.T) {
	k := newKitchen(t, false, functions()...)
	k.defs.put("mapped", mappedYAML)
	k.defs.put("counts", countsYAML)
	k.defs.put("words", strings.NewReplacer("{word: String}", "{word: UInt64}", "event_id AS word", "toUInt64(substring(event_id, 2)) AS word").Replace(wordsYAML[:strings.Index(wordsYAML, "dependents:")]))
	k.must(k.publish(t.Context(), "shop:orders", 20))
	k.must(k.raw.XAdd(t.Context(), &redis.XAddArgs{Stream: "shop:orders", Values: []string{"event_id", "ex", "type", "OrderPaid", "aggregate_id", "o1", "payload", "{"}}).Err())
	k.archiveAll(100)
	for _, name := range []string{"mapped", "counts", "words"} {
		_, result := k.dry(name, rebuild.DryRunOptions{})
		if result.Read != 21 || result.Refused != 1 || len(result.DeadLetters) != 1 || result.DeadLetters[0].EventID != "ex" || result.DeadLetters[0].Reason == "" {
			t.Errorf("%s: of %d events %d are refused: %+v", name, result.Read, result.Refused, result.DeadLetters)
		}
		if name != "mapped" && result.Selected != 20 {
			t.Errorf("%s: %d events were selected, want 20", name, result.Selected)
		}
	}
}

// A table of a dry run that fails or is interrupted is dropped, and one that a process has
// left that died is when it is sure that nobody uses it.
func TestDryRunLeavesNoTable(t *testing.T) {
	var during func() error
	k := newKitchen(t, false, projection.NewMap("mapped", func(*projection.Event) ([]projection.Row, error) {
		return []projection.Row{{"order_id": "x"}}, during()
	}))
	k.examples()
	k.defs.put("mapped", mappedYAML)
	k.must(k.publish(t.Context(), "shop:orders", 20))
	k.archiveAll(100)
	ctx, cancel := context.WithCancel(t.Context())
	seen := 0
	during = func() error {
		if strings.HasPrefix(k.tables(), "_reservoir_test_") {
			seen++
		}
		cancel()
		return nil
	}
	if _, err := k.svc.DryRun(ctx, "mapped", rebuild.DryRunOptions{}); !errors.Is(err, context.Canceled) || seen == 0 || k.tables() != "" {
		t.Errorf("a dry run that was interrupted: %v; its table was seen %d times, and there is %q", err, seen, k.tables())
	}
	k.defs.put("mapped", strings.Replace(mappedYAML, "order_by: [order_id, at]", "order_by: [order_id, at]\n  partition_by: throwIf(total = 0)", 1))
	during = func() error { return nil }
	if _, err := k.svc.DryRun(t.Context(), "mapped", rebuild.DryRunOptions{}); err == nil || k.tables() != "" {
		t.Errorf("a dry run that fails: %v; there is %q", err, k.tables())
	}

	left := func(name, projection string) {
		k.query(`CREATE TABLE %s (x UInt8) ENGINE = MergeTree ORDER BY x COMMENT '{"reservoir":{"projection":"%s","generation":0,"role":"test"}}'`, name, projection)
	}
	used, old := "_reservoir_test_"+time.Now().UTC().Add(-time.Hour).Format("20060102t150405")+"_x", "_reservoir_test_20260101t000000_x"
	left(used, "items")
	left(old, "items")
	left("_reservoir_test_20260101t000000_orders", "orders")
	k.query("CREATE TABLE _reservoir_test_20260101t000000_mine (x UInt8) ENGINE = MergeTree ORDER BY x")
	k.dry("items", rebuild.DryRunOptions{})
	if got := k.tables(); got != "_reservoir_test_20260101t000000_mine _reservoir_test_20260101t000000_orders "+used {
		t.Errorf("after a dry run there are %s", got)
	}
	left(old, "items")
	k.build(rebuild.Spec{Projection: "items"})
	if got := k.tables(); got != "_reservoir_test_20260101t000000_mine _reservoir_test_20260101t000000_orders "+used+" items" {
		t.Errorf("after a rebuild there are %s", got)
	}
}

// Events that come in several batches give the rows that the table is read with.
func TestDryRunMergesRows(t *testing.T) {
	k := newKitchen(t, false, functions()...)
	k.examples()
	k.defs.put("counts", countsYAML)
	pad := strings.Repeat("x", 1<<20)
	for i := range 24 { // 24 MiB, and a batch has 8
		k.must(k.raw.XAdd(t.Context(), &redis.XAddArgs{Stream: "shop:orders", Values: []string{
			"event_id", "e", "type", "OrderPaid", "tenant", "t", "aggregate_id", []string{"o1", "o2"}[i%2],
			"occurred_at", "2026-11-21T07:00:00Z", "payload", `{"total":2}`, "pad", pad,
		}}).Err())
	}
	k.archiveAll(4)
	for name, want := range map[string]int{"orders": 2, "revenue": 1, "counts": 2, "timeline": 24} {
		text, result := k.dry(name, rebuild.DryRunOptions{Rows: 100})
		if len(result.Rows.Rows) != want || result.Selected != 24 {
			t.Errorf("%s: %d events give %s", name, result.Selected, text)
		}
		if row := map[string]string{"revenue": `["t","2026-11-21",24,48]`, "counts": `["o2","t",12,24]`}[name]; !strings.Contains(text, row) {
			t.Errorf("%s has not %s: %s", name, row, text)
		}
	}
}
