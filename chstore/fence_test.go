package chstore_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
)

// A statement that comes late, or to another table, fails and writes nothing, however it
// was held up: here in the middle of the rows that are sent with it.
func TestFence(t *testing.T) {
	store, engine := connect(t, chstore.Config{})
	for protocol, at := range map[string]string{"native": engine.URL(), "http": engine.HTTPURL()} {
		u, err := url.Parse(at)
		if err != nil {
			t.Fatal(err)
		}
		line := stacktest.NewLine(t, u.Host)
		u.Host = line.Addr
		slow := open(t, chstore.Config{URL: u.String()})
		for _, engine := range []string{"MergeTree", "ReplacingMergeTree", "SummingMergeTree(amount)"} {
			t.Run(protocol+" "+engine, func(t *testing.T) {
				name, _, _ := strings.Cut("fence_"+protocol+engine, "(")
				table := store.Table(name)
				if err := store.CreateTable(t.Context(), table, spec(engine), generation(1)); err != nil {
					t.Fatal(err)
				}
				holds := func(want uint64) {
					t.Helper()
					kind, err := chstore.EngineKind(engine)
					if err != nil {
						t.Fatal(err)
					}
					if got, err := store.Holds(t.Context(), table, kind); err != nil || got != want {
						t.Errorf("the table holds %d rows, %v; want %d", got, err, want)
					}
				}
				now, err := slow.Clock(t.Context())
				if err != nil || time.Until(now).Abs() > time.Minute {
					t.Fatalf("the server says that it is %s, %v", now, err)
				}
				load := chstore.Load{
					Into: table, Columns: spec("MergeTree").Names(), Chunk: 1, Adding: strings.HasPrefix(engine, "Summing"),
					Select: "SELECT tenant, event_id AS id, toInt64(1) AS amount FROM events",
					Fence:  &chstore.Fence{Mark: generation(1), Until: now.Add(time.Minute)},
				}
				rows := block(t, sample(1000))
				if _, err := slow.LoadBlock(t.Context(), rows, "", load); err != nil {
					t.Fatal(err)
				}
				holds(1000)
				load.Attempt++
				late := load
				late.Fence = &chstore.Fence{Mark: generation(1), Until: now.Add(-time.Second)}
				if _, err := slow.LoadBlock(t.Context(), rows, "", late); !errors.Is(err, chstore.ErrLate) {
					t.Errorf("a late statement: %v", err)
				}
				other := load
				other.Fence = &chstore.Fence{Mark: generation(2), Until: now.Add(time.Minute)}
				if _, err := slow.LoadBlock(t.Context(), rows, "", other); !errors.Is(err, chstore.ErrChangedByHand) {
					t.Errorf("a statement for another table: %v", err)
				}
				if now, err = slow.Clock(t.Context()); err != nil {
					t.Fatal(err)
				}
				const soon = 300 * time.Millisecond
				late.Fence = &chstore.Fence{Mark: generation(1), Until: now.Add(soon)}
				said := 0 // the statement is there by then, its rows are not
				held, release := line.Hold(func(b []byte) bool { said += len(b); return said > 10_000 })
				done := make(chan error, 1)
				go func() {
					_, err := slow.LoadBlock(t.Context(), rows, "", late)
					done <- err
				}()
				<-held
				<-time.After(2 * soon)
				release()
				if err := <-done; !errors.Is(err, chstore.ErrLate) {
					t.Errorf("a statement whose rows came late: %v", err)
				}
				holds(1000)
			})
		}
	}
}
