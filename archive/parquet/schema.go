package parquet

import (
	pq "github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"

	"github.com/reservoirhq/reservoir/event"
)

// Version is the version of the format that a Writer writes. A File reads this
// one and all earlier ones.
const Version = 1

// The keys of the file's key/value metadata.
const (
	keyFormat      = "reservoir.format" // always formatName
	keyVersion     = "reservoir.version"
	keyStream      = "reservoir.stream" // percent-encoded as in a path segment of a URL
	keyIncarnation = "reservoir.incarnation"
	keyMapping     = "reservoir.mapping"

	formatName = "parquet"
)

// The leaf columns, in the order of the schema.
const (
	colIDMs = iota
	colIDSeq
	colEventID
	colEventType
	colTenant
	colAggregateType
	colAggregateID
	colAggregateVersion
	colOccurredAt
	colCorrelationID
	colCausationID
	colSchemaVersion
	colPayload
	colLayout
	colRest
	numColumns
)

// columnNames are the columns' names; those of the envelope are the names of
// the attributes.
var columnNames = [numColumns]string{
	"id_ms", "id_seq", "event_id", "event_type", "tenant", "aggregate_type", "aggregate_id",
	"aggregate_version", "occurred_at", "correlation_id", "causation_id", "schema_version",
	"payload", "layout", "rest",
}

// columnOf is the column of each attribute.
var columnOf = [event.NumAttributes]int{
	event.EventID:       colEventID,
	event.Type:          colEventType,
	event.Tenant:        colTenant,
	event.AggregateType: colAggregateType,
	event.AggregateID:   colAggregateID,
	event.Version:       colAggregateVersion,
	event.OccurredAt:    colOccurredAt,
	event.CorrelationID: colCorrelationID,
	event.CausationID:   colCausationID,
	event.SchemaVersion: colSchemaVersion,
	event.Payload:       colPayload,
}

// newSchema returns the schema of version 1. Payloads get a codec of their own, if
// one is given, which does not show in the file.
func newSchema(payload compress.Codec) *pq.Schema {
	text := func() pq.Node { return pq.Encoded(pq.String(), &pq.DeltaLengthByteArray) }
	dictionary := func() pq.Node { return pq.Encoded(pq.Leaf(quickText{pq.String().Type()}), &pq.RLEDictionary) }
	number := func(n pq.Node) pq.Node { return pq.Encoded(n, &pq.DeltaBinaryPacked) }
	nodes := [numColumns]pq.Node{
		colIDMs:             number(pq.Uint(64)),
		colIDSeq:            number(pq.Uint(64)),
		colEventID:          pq.Optional(text()),
		colEventType:        pq.Optional(dictionary()),
		colTenant:           pq.Optional(dictionary()),
		colAggregateType:    pq.Optional(dictionary()),
		colAggregateID:      pq.Optional(text()),
		colAggregateVersion: pq.Optional(number(pq.Int(64))),
		colOccurredAt:       pq.Optional(number(pq.TimestampAdjusted(pq.Microsecond, true))),
		colCorrelationID:    pq.Optional(text()),
		colCausationID:      pq.Optional(text()),
		colSchemaVersion:    pq.Optional(dictionary()),
		colPayload:          pq.Optional(pq.Encoded(pq.Leaf(shortBounds{pq.String().Type()}), &pq.Plain)),
		colLayout:           dictionary(),
		colRest:             pq.List(pq.Encoded(pq.Leaf(shortBounds{pq.ByteArrayType}), &pq.Plain)),
	}
	if payload != nil {
		nodes[colPayload] = pq.Compressed(nodes[colPayload], payload)
	}
	root := orderedGroup{Group: make(pq.Group, numColumns)}
	for i, node := range nodes {
		root.Group[columnNames[i]] = node
		root.fields = append(root.fields, pq.Group{columnNames[i]: node}.Fields()...)
	}
	return pq.NewSchema("event", root)
}

// orderedGroup is a group whose fields keep their order; a plain Group sorts
// them by name.
type orderedGroup struct {
	pq.Group
	fields []pq.Field
}

func (g orderedGroup) Fields() []pq.Field { return g.fields }
