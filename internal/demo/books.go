package demo

import (
	"encoding/json"
	"maps"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/reservoirhq/reservoir/event"
)

// Sales are what one tenant has sold.
type Sales struct {
	Orders uint64
	Cents  int64
}

// books are what the shop itself writes down while it publishes: what the tables must
// come to, told by neither the archive nor ClickHouse.
type books struct {
	mu    sync.Mutex
	paid  map[string]Sales // by tenant
	known map[uint64]bool  // orders that a sound event tells of
	steps uint64           // events of orders, payments and shipments
	spans uint64           // events that belong to a trace
}

func newBooks() *books { return &books{paid: map[string]Sales{}, known: map[uint64]bool{}} }

// add writes an event down.
func (b *books) add(e *event.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	text := func(name string) string {
		value, _ := e.Get(name)
		return string(value)
	}
	if text("correlation_id") != "" {
		b.spans++
	}
	kind := text("event_type")
	if !strings.HasPrefix(kind, "Order") && !strings.HasPrefix(kind, "Payment") && !strings.HasPrefix(kind, "Shipment") {
		return
	}
	b.steps++
	var p struct {
		Order  uint64 `json:"order"`
		Amount struct {
			Cents int64 `json:"cents"`
		} `json:"amount"`
	}
	payload := text("payload")
	if !utf8.ValidString(payload) || json.Unmarshal([]byte(payload), &p) != nil {
		return
	}
	if !strings.HasPrefix(text("aggregate_version"), "v") {
		b.known[p.Order] = true
	}
	if kind == "OrderPaid" {
		tenant := text("tenant")
		s := b.paid[tenant]
		b.paid[tenant] = Sales{s.Orders + 1, s.Cents + p.Amount.Cents}
	}
}

// sales gives what each tenant has sold by now.
func (b *books) sales() map[string]Sales {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.paid)
}

// totals gives the number of orders, of their events, and of spans.
func (b *books) totals() (orders, steps, spans uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return uint64(len(b.known)), b.steps, b.spans
}
