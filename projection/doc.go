// Package projection says what projections are: tables in ClickHouse that are a
// function of events. A Definition, read from YAML, names the events, the table,
// and what makes rows of events: a SELECT over the relation "events", or a
// function in Go that a Registry holds, of one event (Map) or of the events of an
// aggregate in their order (Fold).
//
// It also keeps what is known of a projection that was built: a Document on the
// object store says which generation of its table is live, up to which position
// of each stream, which batch is in flight, and who may write. Its Store hands
// out the right to write (Hold) to one worker at a time.
//
// Nothing here decides when to build or to feed a table: packages above do.
// docs/projections.md is the guide and the reference of the format.
package projection
