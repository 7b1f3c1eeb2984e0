// Package sink has the kinds of sinks that replays write to. One file is one
// kind; docs/extending.md says how to add another. Sinks that tell their targets
// where an event comes from use the names of this package's Origin fields, and
// sinks that are at least once send the same idempotency key with every repeat.
package sink
