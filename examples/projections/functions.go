package main

import (
	"time"

	"github.com/reservoirhq/reservoir/projection"
)

// functions are those that the definitions name.
func functions() []projection.Function {
	return []projection.Function{
		projection.NewMap("shop_lines", lines),
		projection.NewFold("lead_times", projection.Folds[order]{Apply: apply, Rows: rows}),
	}
}

// lines gives a row for each piece that was ordered.
func lines(e *projection.Event) ([]projection.Row, error) {
	var p struct {
		Item struct {
			SKU      string `json:"sku"`
			Quantity int    `json:"quantity"`
		} `json:"item"`
	}
	if err := e.Decode(&p); err != nil {
		return nil, err // the event cannot be used
	}
	var out []projection.Row
	for piece := range p.Item.Quantity {
		out = append(out, projection.Row{"tenant": e.Tenant, "order_id": e.AggregateID, "piece": piece + 1, "sku": p.Item.SKU})
	}
	return out, nil
}

// order is what is remembered of an order: its aggregate's state.
type order struct {
	Tenant, ID   string
	Placed, Paid time.Time
}

func apply(o order, e *projection.Event) (order, error) {
	o.Tenant, o.ID = e.Tenant, e.AggregateID
	switch e.Type {
	case "OrderPlaced":
		o.Placed = e.OccurredAt
	case "OrderPaid":
		o.Paid = e.OccurredAt
	}
	return o, nil
}

// rows gives how long the customer took to pay.
func rows(_ string, o order) ([]projection.Row, error) {
	if o.Placed.IsZero() || o.Paid.IsZero() {
		return nil, nil
	}
	return []projection.Row{{"tenant": o.Tenant, "order_id": o.ID, "seconds": o.Paid.Sub(o.Placed).Seconds()}}, nil
}
