package replay

import (
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/jobs"
)

// The largest chunk: so many events, or so many bytes unless one event alone has
// more.
const (
	maxBatchEvents = 1000
	maxBatchBytes  = 1 << 20
)

// maxSendEvents is how many events of a chunk a sink gets at once. A Redis that
// holds twice as many in a transaction spends a tenth more CPU on each, for they
// leave its caches before they are executed, and keeps others waiting for longer.
const maxSendEvents = 500

// chunk is a run of events on the way from the archive to the sink. Chunks are
// reused; there are so few of them that memory is bounded.
type chunk struct {
	Batch
	// end is the place of the last event that was read for the chunk, also when
	// it was not selected.
	end Position
	// read counts the events read for it; perStream the same for the first
	// jobs.MaxProgressStreams streams, by number.
	read      uint64
	perStream []streamCount
	letters   []letter // set aside before they could be sent, in order
	fetched   int64    // bytes of the archive in this attempt so far
	// live says that it comes from the live streams, where more may not come for
	// long; lap is set in the first chunk of a lap of these.
	live bool
	lap  *lap
}

// letter is an event that was set aside on the way.
type letter struct {
	at     int // it comes before event at of the chunk
	letter *DeadLetter
}

// streamCount counts the events of one stream.
type streamCount struct {
	Read     uint64 `json:"read"`
	Selected uint64 `json:"selected"`
}

func (c *chunk) reset() {
	c.Reset()
	c.Origins = c.Origins[:0]
	c.read, c.perStream = 0, c.perStream[:0]
	c.live, c.lap = false, nil
	clear(c.letters)
	c.letters = c.letters[:0]
}

// full reports whether no more should be added.
func (c *chunk) full() bool {
	return len(c.Origins) >= maxBatchEvents || c.Bytes() >= maxBatchBytes
}

// append adds an event.
func (c *chunk) append(e *event.Event, o Origin) {
	c.Batch.Append(e)
	c.Origins = append(c.Origins, o)
}

// slice gives events [from, to) as a batch for a sink.
func (c *chunk) slice(from, to int) Batch {
	if from == 0 && to == c.Len() {
		return c.Batch
	}
	return Batch{Batch: c.Batch.Batch.Slice(from, to), Origins: c.Origins[from:to:to]}
}

// truncate drops the events from n on, of a chunk as its source gave it.
func (c *chunk) truncate(n int) {
	c.Truncate(n)
	c.Origins = c.Origins[:n]
	c.sourced()
}

// sourced says that all events of the chunk, at least one, are what was read.
func (c *chunk) sourced() {
	n := len(c.Origins)
	c.end, c.read = c.Origins[n-1].Position, uint64(n)
}

// countAll counts all events of the chunk, as its source gave it, by stream.
func (c *chunk) countAll() {
	for i := range c.Origins {
		c.count(c.Origins[i].Position.Stream, 1, 1)
	}
}

// count adds to what was read of a stream.
func (c *chunk) count(stream int, read, selected uint64) {
	if stream >= jobs.MaxProgressStreams {
		return
	}
	for len(c.perStream) <= stream {
		c.perStream = append(c.perStream, streamCount{})
	}
	c.perStream[stream].Read += read
	c.perStream[stream].Selected += selected
}
