package chstore_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
)

func TestMain(m *testing.M) {
	for name, value := range map[string]string{"AWS_EC2_METADATA_DISABLED": "true"} {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// connect starts an engine of its own and connects to it.
func connect(t testing.TB, config chstore.Config) (*chstore.Store, *stack.ClickHouse) {
	t.Helper()
	engine := stacktest.ClickHouse(t, stack.ClickHouseOptions{})
	if config.URL == "" {
		config.URL = engine.URL()
	}
	return open(t, config), engine
}

func open(t testing.TB, config chstore.Config) *chstore.Store {
	t.Helper()
	store, err := chstore.Connect(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

// sample returns n events, of ten aggregates and three tenants.
func sample(n int) *event.Batch {
	var b event.Batch
	for i := range n {
		e := event.Event{ID: event.ID{Ms: 1_760_000_000_000 + uint64(i), Seq: uint64(i % 3)}}
		add := func(name, value string) {
			e.Fields = append(e.Fields, event.Field{Name: []byte(name), Value: []byte(value)})
		}
		add("event_id", fmt.Sprintf("e%d", i))
		add("type", []string{"OrderPlaced", "OrderPaid"}[i%2])
		add("tenant", []string{"acme", "globex", ""}[i%3])
		add("aggregate_type", "order")
		add("aggregate_id", fmt.Sprintf("o%d", i%10))
		add("version", fmt.Sprint(i/10+1))
		add("payload", fmt.Sprintf(`{"amount":%d,"note":"it's \\ %d"}`, i, i))
		b.Append(&e)
	}
	return &b
}

func block(t testing.TB, batch *event.Batch) *chstore.Block {
	t.Helper()
	b, err := chstore.NewBlock()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Append("orders", 1, batch, event.Mapping{}.Extractor()); err != nil {
		t.Fatal(err)
	}
	return b
}

func number(n uint64) string { return fmt.Sprint(n) }
