package sink

import (
	"hash/fnv"
	"strconv"

	"github.com/reservoirhq/reservoir/replay"
)

// What keeps its order.
const (
	keyAggregate = "aggregate" // the events of an aggregate; those without one, of their stream
	keyStream    = "stream"    // the events of a stream
	keyNone      = "none"      // nothing
)

// orderKey is what an event keeps its order with.
func orderKey(o *replay.Origin, by string) string {
	if by == keyAggregate && o.Key != "" {
		return "a" + o.Key
	}
	return "s" + o.Stream
}

// newQueues cuts a batch into queues whose requests hold up to size events each.
// With size 1 every key has a queue; else keys share as many queues as there are
// workers, so that requests are filled. A request holds events of one stream
// when split is set.
func newQueues(b *replay.Batch, by string, workers, size int, split bool) []queue {
	var lists [][]int
	if by == keyNone {
		for i := 0; i < b.Len(); i += size {
			list := make([]int, min(size, b.Len()-i))
			for j := range list {
				list[j] = i + j
			}
			lists = append(lists, list)
		}
	} else {
		lists = listsByKey(b, by, workers, size)
	}
	queues := make([]queue, len(lists))
	for i, list := range lists {
		queues[i] = cut(b, list, size, split)
	}
	return queues
}

// listsByKey gathers the indices of the events of each key, in order. Keys that
// share a queue do so by a hash that is the same in every attempt, and with it
// the batches and their idempotency keys.
func listsByKey(b *replay.Batch, by string, workers, size int) [][]int {
	var lists [][]int
	places := map[string]int{}
	for i := range b.Len() {
		key := orderKey(&b.Origins[i], by)
		if size > 1 {
			hash := fnv.New32a()
			hash.Write([]byte(key))
			key = strconv.Itoa(int(hash.Sum32() % uint32(workers)))
		}
		at, known := places[key]
		if !known {
			at = len(lists)
			places[key] = at
			lists = append(lists, nil)
		}
		lists[at] = append(lists[at], i)
	}
	return lists
}

// cut makes the requests of a list of events.
func cut(b *replay.Batch, list []int, size int, split bool) queue {
	var l queue
	for len(list) > 0 {
		n := min(size, len(list))
		if split {
			for i := 1; i < n; i++ {
				if b.Origins[list[i]].Stream != b.Origins[list[0]].Stream {
					n = i
				}
			}
		}
		l = append(l, list[:n:n])
		list = list[n:]
	}
	return l
}
