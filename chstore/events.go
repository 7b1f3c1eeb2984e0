package chstore

import "strings"

// Column is a column of a table or a relation.
type Column struct {
	Name string `json:"name"`
	Type string `json:"type"`
	// Default is an expression for rows that do not give the column, or "".
	Default string `json:"default,omitempty"`
	// Codec is what stands in CODEC(…), or "".
	Codec string `json:"codec,omitempty"`
	// Comment is the column's comment.
	Comment string `json:"comment,omitempty"`
}

// EventsRelation is the name of the relation that a projection's SELECT reads from.
const EventsRelation = "events"

// EventColumns returns the columns of the relation events. A text attribute that an
// event does not have is empty, as is one that is not valid UTF-8 or (but for payload)
// longer than 1024 bytes; a version that it does not have is NULL; occurred_at is the
// time of the event's ID where the event does not say, and 1970 where that lies
// beyond the year 9999.
func EventColumns() []Column {
	return []Column{
		{Name: "stream", Type: "String", Comment: "name of the Redis stream"},
		{Name: "incarnation", Type: "UInt32", Comment: "which life of the stream's key"},
		{Name: "id_ms", Type: "UInt64", Comment: "milliseconds of the ID"},
		{Name: "id_seq", Type: "UInt64", Comment: "sequence number of the ID"},
		{Name: "event_id", Type: "String", Comment: "what the producer calls the event"},
		{Name: "type", Type: "String", Comment: "what happened"},
		{Name: "tenant", Type: "String", Comment: "whose event it is"},
		{Name: "aggregate_type", Type: "String", Comment: "what kind of thing it happened to"},
		{Name: "aggregate_id", Type: "String", Comment: "which of them"},
		{Name: "version", Type: "Nullable(Int64)", Comment: "version of the aggregate"},
		{Name: "occurred_at", Type: "DateTime64(6, 'UTC')", Comment: "when it happened"},
		{Name: "correlation_id", Type: "String", Comment: "request or process that it belongs to"},
		{Name: "causation_id", Type: "String", Comment: "event or command that caused it"},
		{Name: "schema_version", Type: "String", Comment: "version of the payload's schema"},
		{Name: "payload", Type: "String", Comment: "what happened in detail, mostly JSON"},
	}
}

// parquetNames are the names in an archived Parquet file that differ.
func parquetName(column string) string {
	switch column {
	case "type":
		return "event_type"
	case "version":
		return "aggregate_version"
	}
	return column
}

// structure writes columns as the text that table functions take.
func structure(columns []Column) string {
	parts := make([]string, len(columns))
	for i, c := range columns {
		parts[i] = Identifier(c.Name) + " " + c.Type
	}
	return strings.Join(parts, ", ")
}

// names returns the columns' names.
func names(columns []Column) []string {
	list := make([]string, len(columns))
	for i, c := range columns {
		list[i] = c.Name
	}
	return list
}
