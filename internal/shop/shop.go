// Package shop makes up the events of a small shop: orders, payments and
// shipments of several tenants, each order with its story told in order across
// three streams, and now and then an event that some careless service spoiled.
// The demo, the benchmarks and the tests feed on it. The same seed gives the
// same events.
package shop

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/reservoirhq/reservoir/event"
)

// The streams that a shop publishes to.
const (
	Orders    = "shop:orders"
	Payments  = "shop:payments"
	Shipments = "shop:shipments"
)

// Streams lists them.
var Streams = []string{Orders, Payments, Shipments} //nolint:gochecknoglobals // a constant list

// Tenants are the shops on the platform; the first ones are the larger ones.
var Tenants = []string{ //nolint:gochecknoglobals // a constant list
	"acme", "globex", "initech", "umbrella", "hooli", "stark", "wayne", "wonka",
}

var products = []struct { //nolint:gochecknoglobals // a constant list
	sku   string
	cents int
}{
	{"SKU-1001 coffee beans 1kg", 1890}, {"SKU-1002 espresso cups", 2450}, {"SKU-2001 hand grinder", 7900},
	{"SKU-2002 kettle", 5490}, {"SKU-3001 paper filters", 490}, {"SKU-3002 scale", 3990},
}

// Options tune a Shop. The zero value is a shop without spoiled events that
// begins at the Unix epoch.
type Options struct {
	Seed uint64
	// Start is when the first order is placed.
	Start time.Time
	// Every is the time between two events; default 1ms.
	Every time.Duration
	// Malformed is the share of spoiled events, from 0 to 1.
	Malformed float64
}

// Shop makes events, one after the other. It is not safe for concurrent use.
type Shop struct {
	opts    Options
	rng     *rand.Rand
	now     time.Time
	orders  uint64
	open    []order // stories that are not over
	payload []byte
}

type order struct {
	id          uint64
	tenant      string
	correlation string
	last        string // id of the event before
	step        int
	version     int
	cents       int
	product     int
}

// New opens a shop.
func New(opts Options) *Shop {
	if opts.Every == 0 {
		opts.Every = time.Millisecond
	}
	return &Shop{opts: opts, now: opts.Start.UTC(), rng: rand.New(rand.NewPCG(opts.Seed, 0x5e5e401))}
}

// openOrders bounds how many stories are told at once.
const openOrders = 500

// the story of an order; a payment may fail once before it is captured
var story = []struct { //nolint:gochecknoglobals // a constant list
	stream, kind, aggregate string
}{
	{Orders, "OrderPlaced", "order"},
	{Payments, "PaymentAuthorized", "payment"},
	{Payments, "PaymentCaptured", "payment"},
	{Orders, "OrderPaid", "order"},
	{Shipments, "ShipmentPacked", "shipment"},
	{Shipments, "ShipmentDelivered", "shipment"},
	{Orders, "OrderCompleted", "order"},
}

// Next returns the next event and its stream. The event has no ID (Redis gives
// one); its fields are its own.
func (s *Shop) Next() (stream string, e event.Event) {
	s.now = s.now.Add(s.opts.Every)
	i := len(s.open)
	if i < openOrders && (i == 0 || s.rng.IntN(len(story)) == 0) {
		s.orders++
		s.open = append(s.open, order{
			id: s.orders, tenant: s.tenant(), correlation: s.uuid(),
			product: s.rng.IntN(len(products)),
		})
	} else {
		i = s.rng.IntN(i)
	}
	o := &s.open[i]
	if o.step == 0 {
		o.cents = products[o.product].cents * (1 + s.rng.IntN(4))
	}
	chapter := story[o.step]
	id := s.uuid()
	o.version++
	payload := s.chapterPayload(o, chapter.kind)
	fields := []event.Field{
		field("event_id", id),
		field("event_type", chapter.kind),
		field("tenant", o.tenant),
		field("aggregate_type", chapter.aggregate),
		field("aggregate_id", strconv.FormatUint(o.id, 10)),
		field("aggregate_version", strconv.Itoa(o.version)),
		field("occurred_at", s.now.Format("2006-01-02T15:04:05.000Z")),
		field("correlation_id", o.correlation),
		field("schema_version", "1"),
		field("payload", string(payload)),
	}
	if o.last != "" {
		fields = append(fields, field("causation_id", o.last))
	}
	o.last = id
	if o.step++; o.step == len(story) {
		s.open[i] = s.open[len(s.open)-1]
		s.open = s.open[:len(s.open)-1]
	}
	e = event.Event{Fields: fields}
	if s.rng.Float64() < s.opts.Malformed {
		s.spoil(&e)
	}
	return chapter.stream, e
}

// Time returns the time of the last event.
func (s *Shop) Time() time.Time { return s.now }

func (s *Shop) tenant() string {
	// Squared: the first tenants get most of the orders.
	f := s.rng.Float64()
	return Tenants[int(f*f*float64(len(Tenants)))]
}

func (s *Shop) uuid() string {
	var b [16]byte
	hi, lo := s.rng.Uint64(), s.rng.Uint64()
	for i := range 8 {
		b[i], b[8+i] = byte(hi>>(8*i)), byte(lo>>(8*i))
	}
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	var out [36]byte
	hex.Encode(out[:8], b[:4])
	hex.Encode(out[9:13], b[4:6])
	hex.Encode(out[14:18], b[6:8])
	hex.Encode(out[19:23], b[8:10])
	hex.Encode(out[24:], b[10:])
	out[8], out[13], out[18], out[23] = '-', '-', '-', '-'
	return string(out[:])
}

func (s *Shop) chapterPayload(o *order, kind string) []byte {
	p := products[o.product]
	s.payload = fmt.Appendf(s.payload[:0], `{"order":%d,"kind":%q,"amount":{"cents":%d,"currency":"EUR"},`+
		`"item":{"sku":%q,"quantity":%d},"customer":{"id":"c-%06d","country":%q},"channel":%q,"note":%q}`,
		o.id, kind, o.cents, p.sku, o.cents/p.cents, o.id%7919,
		[]string{"DE", "FR", "NL", "AT"}[o.id%4], []string{"web", "app", "pos"}[o.id%3],
		[]string{"", "gift", "leave at the door", "ring twice – thank you"}[s.rng.IntN(4)])
	return s.payload
}

// spoil breaks an event in one of the ways that happen.
func (s *Shop) spoil(e *event.Event) {
	last := &e.Fields[9]
	switch s.rng.IntN(5) {
	case 0: // cut off
		last.Value = last.Value[:len(last.Value)/2]
	case 1: // another encoding
		last.Value = append(last.Value[:len(last.Value):len(last.Value)], 0xff, 0x00, 0xfe)
	case 2: // not an envelope at all
		e.Fields = []event.Field{field("message", "healthcheck"), field("message", "again"), field("", "")}
	case 3: // no such time
		e.Fields[6].Value = []byte("yesterday")
	case 4: // a number that is none
		e.Fields[5].Value = []byte("v-" + string(e.Fields[5].Value))
	}
}

func field(name, value string) event.Field {
	return event.Field{Name: []byte(name), Value: []byte(value)}
}
