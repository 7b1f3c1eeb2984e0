package token

import (
	"sync"
	"time"
)

// CacheTTL is how long what was read of a token is remembered: a token that is revoked
// elsewhere can be used so long at most.
const CacheTTL = 10 * time.Second

// maxCached bounds what is remembered. IDs that do not exist are remembered too, so
// that guessing costs the object store nothing more than looking once.
const maxCached = 4096

type cache struct {
	mu      sync.Mutex
	entries map[string]cached
}

type cached struct {
	token *Token // nil: there is none
	until time.Time
}

func newCache() *cache { return &cache{entries: map[string]cached{}} }

func (c *cache) get(id string, now time.Time) (_ *Token, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[id]
	if !ok || !now.Before(e.until) {
		return nil, false
	}
	return e.token, true
}

func (c *cache) put(id string, t *Token, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.entries) >= maxCached {
		for id, e := range c.entries {
			if !now.Before(e.until) {
				delete(c.entries, id)
			}
		}
	}
	if len(c.entries) >= maxCached {
		clear(c.entries)
	}
	c.entries[id] = cached{t, now.Add(CacheTTL)}
}

func (c *cache) forget(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.entries, id)
}
