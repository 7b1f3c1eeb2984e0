// Package recent keeps what was used a moment ago, in bounded memory.
package recent

import (
	"container/list"
	"sync"
)

// Cache keeps values by key, of a bounded size together: the one that was not used for
// the longest time goes first. It is safe for concurrent use. A nil Cache keeps nothing.
type Cache[V any] struct {
	limit int64

	mu    sync.Mutex
	size  int64
	items map[string]*list.Element
	order *list.List // the last used first
}

type item[V any] struct {
	key   string
	value V
	size  int64
}

// New returns a Cache of values whose sizes are at most limit together, in what unit
// the caller likes.
func New[V any](limit int64) *Cache[V] {
	return &Cache[V]{limit: limit, items: map[string]*list.Element{}, order: list.New()}
}

// Get returns what was put.
func (c *Cache[V]) Get(key string) (value V, ok bool) {
	if c == nil {
		return value, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.items[key]
	if !ok {
		return value, false
	}
	c.order.MoveToFront(e)
	return c.of(e).value, true
}

// Put keeps a value in place of the one of that key, unless it is larger than a
// sixteenth of all that may be kept: it would push out what is used more often.
func (c *Cache[V]) Put(key string, value V, size int64) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.items[key]; ok {
		c.drop(e)
	}
	if size > c.limit/16 {
		return
	}
	c.items[key] = c.order.PushFront(&item[V]{key, value, size})
	for c.size += size; c.size > c.limit; {
		c.drop(c.order.Back())
	}
}

func (c *Cache[V]) drop(e *list.Element) {
	it := c.of(e)
	c.order.Remove(e)
	delete(c.items, it.key)
	c.size -= it.size
}

func (c *Cache[V]) of(e *list.Element) *item[V] {
	return e.Value.(*item[V]) //nolint:forcetypeassert // nothing else is in the list
}
