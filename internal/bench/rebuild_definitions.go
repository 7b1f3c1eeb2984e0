package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/projection/examples"
)

// exampleOrders is the projection of the examples whose columns and SELECT are
// measured.
func exampleOrders() (*projection.Definition, error) {
	set, err := examples.Load()
	if err != nil {
		return nil, err
	}
	return set.Get("orders")
}

// ordersDefinition writes a projection with the columns and the SELECT of the
// example, over one stream and into a plain MergeTree, so that every event is a row.
// Of kind map, its function makes the same rows.
func ordersDefinition(like *projection.Definition, name, stream string, kind projection.Kind) string {
	var b strings.Builder
	fmt.Fprintf(&b, "name: %s\nkind: %s\nsource: {streams: [%q]}\n", name, kind, stream)
	fmt.Fprintf(&b, "table:\n  engine: MergeTree\n  order_by: [tenant, order_id]\n  columns:\n")
	for _, c := range like.Table.Columns {
		fmt.Fprintf(&b, "    %s: %q\n", c.Name, c.Type)
	}
	switch kind {
	case projection.SQL:
		fmt.Fprintf(&b, "select: |\n  %s\n", strings.ReplaceAll(strings.TrimSpace(like.Select), "\n", "\n  "))
	default:
		b.WriteString("function: orders\nversion: \"1\"\n")
	}
	b.WriteString("checks:\n  - name: no amount is negative\n    sql: SELECT order_id FROM {table} WHERE amount < 0\n    expect: empty\n")
	b.WriteString("scope: {tenant: tenant}\napproval: automatic\n")
	return b.String()
}

// countersDefinition writes a fold: a row for each aggregate, with what its events
// add up to.
func countersDefinition(name, stream string) string {
	return fmt.Sprintf(`name: %s
kind: fold
function: counters
version: "1"
source: {streams: [%q]}
table:
  engine: ReplacingMergeTree(events)
  order_by: [id]
  columns: {id: String, events: UInt64, total: UInt64, last: "DateTime64(3, 'UTC')"}
approval: automatic
`, name, stream)
}

// functions are those that the definitions name.
func functions() (*projection.Registry, error) {
	return projection.NewRegistry(
		projection.NewMapOf("orders", mapOrder).Reads(event.Tenant, event.Type, event.Version, event.OccurredAt, event.Payload), projection.NewFold("counters", projection.Folds[counter]{
			Apply: func(c counter, e *projection.Event) (counter, error) {
				n, err := strconv.ParseUint(e.Payload, 10, 64)
				if err != nil {
					return c, err
				}
				c.Events, c.Total, c.Last = c.Events+1, c.Total+n, e.OccurredAt.UnixMilli()
				return c, nil
			},
			Rows: func(key string, c counter) ([]projection.Row, error) {
				return []projection.Row{{"id": key, "events": c.Events, "total": c.Total, "last": time.UnixMilli(c.Last).UTC()}}, nil
			},
		}))
}

// counter is the state of countersDefinition.
type counter struct {
	Events uint64 `json:"events"`
	Total  uint64 `json:"total"`
	Last   int64  `json:"last"` // milliseconds
}

// orderPayload is what the example reads of a payload.
type orderPayload struct {
	Order  uint64 `json:"order"`
	Amount struct {
		Cents    uint64 `json:"cents"`
		Currency string `json:"currency"`
	} `json:"amount"`
	Item struct {
		SKU      string `json:"sku"`
		Quantity uint32 `json:"quantity"`
	} `json:"item"`
	Customer struct {
		ID      string `json:"id"`
		Country string `json:"country"`
	} `json:"customer"`
	Channel string `json:"channel"`
}

// order is a row of the example.
type order struct {
	Tenant    string          `ch:"tenant"`
	OrderID   uint64          `ch:"order_id"`
	Status    string          `ch:"status"`
	SKU       string          `ch:"sku"`
	Quantity  uint32          `ch:"quantity"`
	Amount    decimal.Decimal `ch:"amount"`
	Currency  string          `ch:"currency"`
	Customer  string          `ch:"customer"`
	Country   string          `ch:"country"`
	Channel   string          `ch:"channel"`
	Version   uint64          `ch:"version"`
	UpdatedAt time.Time       `ch:"updated_at"`
}

// mapOrder makes the rows of the example in Go, as one would write it.
func mapOrder(e *projection.Event, add func(order)) error {
	if !e.HasVersion || e.Version < 0 {
		return errors.New("the event has no version")
	}
	var p orderPayload
	if err := e.Decode(&p); err != nil {
		return err
	}
	add(order{
		Tenant: e.Tenant, OrderID: p.Order, Status: orderStatus(e.Type), SKU: p.Item.SKU, Quantity: p.Item.Quantity,
		Amount: decimal.New(int64(p.Amount.Cents), -2), Currency: p.Amount.Currency, Customer: p.Customer.ID,
		Country: p.Customer.Country, Channel: p.Channel, Version: uint64(e.Version), UpdatedAt: e.OccurredAt,
	})
	return nil
}

func orderStatus(kind string) string {
	switch kind {
	case "OrderPlaced":
		return "placed"
	case "PaymentAuthorized":
		return "authorized"
	case "PaymentCaptured":
		return "captured"
	case "OrderPaid":
		return "paid"
	case "ShipmentPacked":
		return "packed"
	case "ShipmentDelivered":
		return "delivered"
	case "OrderCompleted":
		return "completed"
	}
	return "other"
}
