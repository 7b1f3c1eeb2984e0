// Package jsonl is the archive's human-readable segment format: one JSON object
// per line and event, in zstd frames that can be read independently. A payload
// that is JSON stays JSON, byte for byte; what JSON cannot say (repeated names,
// bytes that are not UTF-8) has an explicit form, so that every event comes back
// exactly as it was. docs/format-jsonl.md specifies every byte.
//
// The Reader also takes what people have: plain JSON lines, compressed or not,
// edited by hand, or events that were never in an archive.
package jsonl

// Version is the version of the format that a Writer writes, and the newest one
// that a Reader reads.
const Version = 1

// MaxLineBytes bounds a line. A Writer refuses an event that would need more,
// and a Reader refuses a file that holds more.
const MaxLineBytes = 1 << 30
