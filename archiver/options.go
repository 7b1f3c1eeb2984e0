package archiver

import (
	"fmt"
	"time"

	"github.com/reservoirhq/reservoir/archive"
)

// Options tune an Archiver. Zero values take the documented defaults.
type Options struct {
	// Include are the streams to archive: names, or patterns as in Redis's KEYS.
	// At least one is needed.
	Include []string
	// Exclude are patterns of streams that are left alone.
	Exclude []string
	// Formats are written for every range; default JSONL and Parquet.
	Formats []archive.Format
	Roll    Roll
	// PollInterval is how often a stream that has something pending, or had a
	// moment ago, is looked at; default 1s. A stream that stays quiet is looked
	// at half as often each time, down to every PollMaxInterval; default 5s.
	PollInterval    time.Duration
	PollMaxInterval time.Duration
	// DiscoverInterval is how often patterns are matched again; default 30s.
	DiscoverInterval time.Duration
	// Concurrency is how many streams with little pending are drained at once;
	// default 16.
	Concurrency int
	// MaxBusy is how many streams with a lot pending (over 50,000 entries) are
	// drained at once beside those; default 2. Each needs about 40 MiB.
	MaxBusy int
	// MaxEntrySize refuses entries with more bytes in names and values: the
	// stream stops there, loudly, until the limit is raised; default 64 MiB.
	MaxEntrySize int64
	// Group names a consumer group that mirrors the committed head, so that
	// Redis's own tools show the archiver's lag; empty for none.
	Group string
	Trim  Trim
}

// Roll says when a segment ends, whichever comes first. A segment also ends at
// every full hour of its events' IDs.
type Roll struct {
	Size  int64         // bytes of the larger of its objects; default 128 MiB
	Count uint64        // events; default 1,000,000
	Age   time.Duration // since the oldest event that waits was noticed; default 30s
}

// Trim lets the archiver trim what it has archived. It never passes the
// committed head, Retain, or what another consumer group has yet to deal with.
type Trim struct {
	Enabled bool
	Retain  time.Duration // how long entries stay in Redis at the least; default 24h
}

// withDefaults returns a copy with the defaults filled in.
func (o Options) withDefaults() Options {
	if len(o.Formats) == 0 {
		o.Formats = []archive.Format{archive.JSONL, archive.Parquet}
	}
	setDefault(&o.Roll.Size, 128<<20)
	setDefault(&o.Roll.Count, 1_000_000)
	setDefault(&o.Roll.Age, 30*time.Second)
	setDefault(&o.PollInterval, time.Second)
	setDefault(&o.PollMaxInterval, max(5*time.Second, o.PollInterval))
	setDefault(&o.DiscoverInterval, 30*time.Second)
	setDefault(&o.Concurrency, 16)
	setDefault(&o.MaxBusy, 2)
	setDefault(&o.MaxEntrySize, 64<<20)
	setDefault(&o.Trim.Retain, 24*time.Hour)
	return o
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate names the first field that cannot work, and what would be right.
func (o Options) Validate() error {
	o = o.withDefaults()
	if len(o.Include) == 0 {
		return fmt.Errorf("streams.include is empty: name at least one stream or pattern, such as orders or shop:*")
	}
	seen := map[archive.Format]bool{}
	for _, f := range o.Formats {
		if f != archive.JSONL && f != archive.Parquet {
			return fmt.Errorf("archive.formats: unknown format %q: want jsonl or parquet", f)
		}
		if seen[f] {
			return fmt.Errorf("archive.formats: %q is named twice", f)
		}
		seen[f] = true
	}
	for _, positive := range []struct {
		name  string
		value int64
	}{
		{"archive.roll.size", o.Roll.Size},
		{"archive.roll.age", int64(o.Roll.Age)},
		{"archive.poll.interval", int64(o.PollInterval)},
		{"streams.discover_interval", int64(o.DiscoverInterval)},
		{"archive.concurrency", int64(o.Concurrency)},
		{"archive.max_busy", int64(o.MaxBusy)},
		{"archive.max_entry_size", o.MaxEntrySize},
		{"archive.trim.retain", int64(o.Trim.Retain)},
	} {
		if positive.value < 0 {
			return fmt.Errorf("%s is negative: want more than zero, or nothing for the default", positive.name)
		}
	}
	if o.PollMaxInterval < o.PollInterval {
		return fmt.Errorf("archive.poll.max_interval %s is below archive.poll.interval %s", o.PollMaxInterval, o.PollInterval)
	}
	return nil
}
