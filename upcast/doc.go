// Package upcast brings old events into the shape that today's consumers expect:
// rules by event type and schema version, declared in YAML or registered in Go,
// and chained from version to version.
package upcast
