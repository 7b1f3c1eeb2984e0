// Package parquet reads and writes the Parquet form of a segment: one row per
// event in ID order, for engines such as ClickHouse, DuckDB and Spark, and yet
// exact: the events come back with every field in its place, byte for byte.
//
// What an event says of itself (its envelope) lies in typed columns. A field
// that a column holds verbatim, or from which a codec makes it again, is not
// stored a second time: the column layout, whose few distinct values are a
// dictionary, lists the fields in order and says for each where its value is.
// Values that no column holds are in the list rest. docs/format-parquet.md
// specifies the format.
//
// A Writer streams: it holds one row group. A Reader decodes columns a page at
// a time, and skips what a range of IDs and a matcher cannot want by the
// statistics, bloom filters and page indexes of the file.
package parquet
