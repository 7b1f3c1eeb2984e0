package examples_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/shop"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/projection/examples"
)

var update = flag.Bool("update", false, "write the fixtures anew")

func load(t *testing.T) (*projection.Set, *chstore.Store) {
	t.Helper()
	set, err := examples.Load()
	if err != nil {
		t.Fatal(err)
	}
	engine := stacktest.ClickHouse(t, stack.ClickHouseOptions{})
	db, err := chstore.Connect(t.Context(), chstore.Config{URL: engine.URL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return set, db.As("test")
}

// TestFixtures: ClickHouse takes every definition, and each makes of its events the
// rows that are beside it.
func TestFixtures(t *testing.T) {
	set, db := load(t)
	if *update {
		write(t, "events.jsonl", recorded())
	}
	for d := range set.All() {
		t.Run(d.Name, func(t *testing.T) {
			if err := projection.CheckEngine(t.Context(), db, d); err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile("events.jsonl")
			if err != nil {
				t.Fatal(err)
			}
			events, err := projection.ReadEvents("events.jsonl", bytes.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			trial, err := set.Try(t.Context(), db, d, events)
			if err != nil {
				t.Fatal(err)
			}
			if *update {
				write(t, d.Name+".rows.jsonl", lines(t, trial.Rows))
			}
			text, err = os.ReadFile(d.Name + ".rows.jsonl")
			if err != nil {
				t.Fatal(err)
			}
			want, err := projection.ReadRows(d.Name+".rows.jsonl", bytes.NewReader(text))
			if err != nil || len(want) == 0 {
				t.Fatal(len(want), err)
			}
			for _, difference := range d.Compare(trial.Rows, want) {
				t.Errorf("%+v", difference)
			}
			for _, c := range trial.Checks {
				if !c.Passed {
					t.Errorf("check %+v", c)
				}
			}
			t.Logf("%d used, %d rows, unusable: %v", trial.Used, len(trial.Rows.Rows), trial.Unusable)
		})
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func lines(t *testing.T, rows chstore.Rows) string {
	t.Helper()
	var b strings.Builder
	for _, row := range rows.Rows {
		for i, c := range rows.Columns {
			fmt.Fprintf(&b, "%s%q:%s", map[bool]string{true: "{", false: ","}[i == 0], c.Name, row[i])
		}
		b.WriteString("}\n")
	}
	return b.String()
}

// TestJSON: a definition that is kept as JSON is the same when it is read again.
func TestJSON(t *testing.T) {
	set, err := examples.Load()
	if err != nil {
		t.Fatal(err)
	}
	for d := range set.All() {
		text, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		var back projection.Definition
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatal(err)
		}
		again, err := json.Marshal(&back)
		if err != nil || !bytes.Equal(text, again) {
			t.Errorf("%s\n%s\n%v", text, again, err)
		}
		was, err := d.Digest()
		if err != nil {
			t.Fatal(err)
		}
		if is, err := back.Digest(); is != was || err != nil {
			t.Errorf("%s: another digest, %v", d.Name, err)
		}
		for i, c := range back.Checks {
			if c != d.Checks[i] {
				t.Errorf("%+v, want %+v", c, d.Checks[i])
			}
		}
	}
}

// publish makes n events of the shop, as Redis would have them.
func publish(n int, malformed float64) []projection.Recorded {
	s := shop.New(shop.Options{Seed: 7, Start: time.Date(2026, 11, 20, 23, 59, 0, 0, time.UTC), Every: 700 * time.Millisecond, Malformed: malformed})
	out := make([]projection.Recorded, 0, n)
	for range n {
		stream, e := s.Next()
		e.ID = event.ID{Ms: uint64(s.Time().UnixMilli())}
		out = append(out, projection.Recorded{Stream: stream, Event: e})
	}
	return out
}

// recorded is a page of the shop's events, as `reservoir events -o jsonl` prints them.
func recorded() string {
	var b strings.Builder
	extractor := event.DefaultMapping().Extractor()
	for _, r := range publish(60, 0.3) {
		text, err := json.Marshal(extractor.View(r.Stream, &r.Event))
		if err != nil {
			panic(err)
		}
		b.Write(append(text, '\n'))
	}
	return b.String()
}

// TestOrdersAgainstModel: the latest state of every order is that which a few lines
// of Go find.
func TestOrdersAgainstModel(t *testing.T) {
	set, db := load(t)
	d, err := set.Get("orders")
	if err != nil {
		t.Fatal(err)
	}
	events := publish(3000, 0)
	trial, err := set.Try(t.Context(), db, d, events)
	if err != nil {
		t.Fatal(err)
	}
	status := map[string]string{
		"OrderPlaced": "placed", "PaymentAuthorized": "authorized", "PaymentCaptured": "captured", "OrderPaid": "paid",
		"ShipmentPacked": "packed", "ShipmentDelivered": "delivered", "OrderCompleted": "completed",
	}
	type key struct {
		tenant string
		id     int
	}
	latest := map[key]map[string]json.RawMessage{}
	for _, r := range events {
		get := func(name string) string {
			value, _ := r.Event.Get(name)
			return string(value)
		}
		var p struct {
			Order  int
			Amount struct{ Cents int }
		}
		if err := json.Unmarshal([]byte(get("payload")), &p); err != nil {
			t.Fatal(err)
		}
		raw := func(format string, args ...any) json.RawMessage { return json.RawMessage(fmt.Sprintf(format, args...)) }
		latest[key{get("tenant"), p.Order}] = map[string]json.RawMessage{ // versions grow
			"tenant": raw("%q", get("tenant")), "order_id": raw("%d", p.Order), "status": raw("%q", status[get("event_type")]),
			"amount": raw("%d.%02d", p.Amount.Cents/100, p.Amount.Cents%100), "version": raw("%s", get("aggregate_version")),
		}
	}
	var want []map[string]json.RawMessage
	for _, row := range latest {
		want = append(want, row)
	}
	for _, difference := range d.Compare(trial.Rows, want) {
		t.Errorf("%+v", difference)
	}
	if trial.Used != len(events) || len(want) < 100 {
		t.Errorf("%d of %d events used, %d orders", trial.Used, len(events), len(want))
	}
}

// TestUnusableEvents: what cannot be used is named, and is in no row.
func TestUnusableEvents(t *testing.T) {
	set, db := load(t)
	for d := range set.All() {
		trial, err := set.Try(t.Context(), db, d, publish(2000, 0.2))
		if err != nil {
			t.Fatal(err)
		}
		reasons := map[string]int{}
		for _, u := range trial.Unusable {
			reasons[u.Reason]++
		}
		t.Log(d.Name, trial.Used, reasons)
		if (d.Name == "orders" || d.Name == "revenue") && len(trial.Unusable) == 0 {
			t.Errorf("%s: all of them were used", d.Name)
		}
		for _, c := range trial.Checks {
			if !c.Passed {
				t.Errorf("%s: check %+v", d.Name, c)
			}
		}
	}
}

// TestTracesInAnyOrder: the order in which spans come does not matter.
func TestTracesInAnyOrder(t *testing.T) {
	set, db := load(t)
	d, err := set.Get("traces")
	if err != nil {
		t.Fatal(err)
	}
	events := publish(700, 0)
	forth, err := set.Try(t.Context(), db, d, events)
	if err != nil {
		t.Fatal(err)
	}
	slices.SortStableFunc(events, func(a, b projection.Recorded) int { return cmp.Compare(b.Stream, a.Stream) })
	back, err := set.Try(t.Context(), db, d, events)
	if err != nil {
		t.Fatal(err)
	}
	a, b := lines(t, forth.Rows), lines(t, back.Rows)
	if a != b {
		t.Error("the order of streams shows")
	}
	spans := 0
	at := slices.IndexFunc(forth.Rows.Columns, func(c chstore.Column) bool { return c.Name == "span_count" })
	for _, row := range forth.Rows.Rows {
		n, err := strconv.Atoi(string(row[at]))
		if err != nil {
			t.Fatal(err)
		}
		spans += n
	}
	if spans != len(events) {
		t.Errorf("%d spans of %d events", spans, len(events))
	}
}
