// Package interop holds tests only: they read an archive with programs that know
// nothing of Reservoir (the ClickHouse engine, DuckDB, zstd and jq), in the way
// that docs/format-jsonl.md and docs/format-parquet.md tell strangers to, and
// compare everything that these see with what was published.
package interop
