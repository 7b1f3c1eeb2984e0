package event

// Attribute is one part of an event's envelope.
type Attribute uint8

// The attributes, in the order of the columns of a segment.
const (
	EventID       Attribute = iota // what the producer calls the event
	Type                           // what happened: "OrderPaid"
	Tenant                         // whose event it is
	AggregateType                  // what kind of thing it happened to: "order"
	AggregateID                    // which of them: "4711"
	Version                        // the aggregate's version, a whole number
	OccurredAt                     // when it happened, see ParseTime
	CorrelationID                  // the request or process that it belongs to
	CausationID                    // the event or command that caused it
	SchemaVersion                  // the version of the payload's schema
	Payload                        // what happened in detail, mostly JSON

	NumAttributes
)

var attributeNames = [NumAttributes]string{
	EventID:       "event_id",
	Type:          "event_type",
	Tenant:        "tenant",
	AggregateType: "aggregate_type",
	AggregateID:   "aggregate_id",
	Version:       "aggregate_version",
	OccurredAt:    "occurred_at",
	CorrelationID: "correlation_id",
	CausationID:   "causation_id",
	SchemaVersion: "schema_version",
	Payload:       "payload",
}

// String returns the attribute's name, which is that of its column and of its
// key in a Mapping too.
func (a Attribute) String() string {
	if a >= NumAttributes {
		return "unknown attribute"
	}
	return attributeNames[a]
}
