package archive

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/reservoirhq/reservoir/event"
)

// summarizer collects a Summary, one event after the other, in constant memory.
type summarizer struct {
	mapping  string
	min, max int64 // µs; meaningful once timed is set
	timed    bool
	types    counter
	tenants  counter
}

func (s *summarizer) add(e *event.Event, env *event.Envelope) {
	if t, ok := env.Time(e.ID); ok {
		if !s.timed {
			s.min, s.max, s.timed = t, t, true
		}
		s.min, s.max = min(s.min, t), max(s.max, t)
	}
	eventType, _ := env.Get(event.Type)
	s.types.add(eventType)
	tenant, _ := env.Get(event.Tenant)
	s.tenants.add(tenant)
}

func (s *summarizer) summary() Summary {
	out := Summary{Mapping: s.mapping, Types: s.types.counts(), Tenants: s.tenants.counts()}
	if s.timed {
		out.MinTime = time.UnixMicro(s.min).UTC()
		out.MaxTime = time.UnixMicro(s.max).UTC()
	}
	return out
}

// mappingDigest tells mappings apart in summaries.
func mappingDigest(m event.Mapping) (string, error) {
	text, err := json.Marshal(m)
	if err != nil {
		return "", fmt.Errorf("encode envelope mapping: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8]), nil
}

// counter counts distinct values until there are more than MaxSummary, or one
// that JSON text cannot carry; from then on it counts nothing.
type counter struct {
	values   map[string]*count
	last     *count // runs of one value are common
	overflow bool
}

type count struct {
	value string
	n     uint64
}

func (c *counter) add(value []byte) {
	if c.overflow {
		return
	}
	if c.last != nil && c.last.value == string(value) {
		c.last.n++
		return
	}
	n, ok := c.values[string(value)]
	if !ok {
		if len(c.values) == MaxSummary || !summable(value) {
			c.overflow = true
			return
		}
		if c.values == nil {
			c.values = make(map[string]*count)
		}
		n = &count{value: string(value)}
		c.values[n.value] = n
	}
	n.n++
	c.last = n
}

func (c *counter) counts() map[string]uint64 {
	if c.overflow {
		return nil
	}
	out := make(map[string]uint64, len(c.values))
	for value, count := range c.values {
		out[value] = count.n
	}
	return out
}

// maxSummaryValue bounds the bytes of a value that a Summary names.
const maxSummaryValue = 256

func summable(value []byte) bool { return len(value) <= maxSummaryValue && utf8.Valid(value) }
