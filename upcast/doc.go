// Package upcast brings old events into the shape that today's consumers expect:
// rules by event type and schema version, declared in YAML or written in Go, and
// chained from version to version. What a rule does not name stays as it was,
// byte for byte: other fields, their order, repeated names, and the members of
// the payload's JSON.
package upcast
