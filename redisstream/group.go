package redisstream

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/reservoirhq/reservoir/event"
)

// Group is a consumer group of a stream.
type Group struct {
	Name            string
	Consumers       int64
	Pending         int64 // delivered, not acknowledged
	LastDeliveredID event.ID
	// Lag is how many entries were not delivered yet, by Redis's own count: -1
	// where it cannot tell. Redis miscounts after entries were trimmed that the
	// group had not read.
	Lag int64
}

// Groups returns the consumer groups of a stream.
func (c *Client) Groups(ctx context.Context, stream string) ([]Group, error) {
	infos, err := c.rdb.XInfoGroups(ctx, stream).Result()
	if err != nil {
		return nil, fmt.Errorf("groups of stream %q: %w", stream, classify(err))
	}
	groups := make([]Group, len(infos))
	for i, info := range infos {
		last, err := event.ParseID(info.LastDeliveredID)
		if err != nil {
			return nil, fmt.Errorf("groups of stream %q: %w: %w", stream, ErrProtocol, err)
		}
		groups[i] = Group{Name: info.Name, Consumers: info.Consumers, Pending: info.Pending, LastDeliveredID: last, Lag: info.Lag}
	}
	return groups, nil
}

// MirrorHead makes a consumer group stand at head, so that Redis's own tools
// show a reader's lag: added is how many of the entries ever added are at or
// below head (Ledger.Added). The group is made if it does not exist; the stream
// is not: that is an ErrNoStream. Nothing is delivered to the group or pending in it.
func (c *Client) MirrorHead(ctx context.Context, stream, group string, head event.ID, added uint64) error {
	set := func(command string) error {
		return c.rdb.Do(ctx, "XGROUP", command, stream, group, head.String(), "ENTRIESREAD", added).Err()
	}
	err := set("SETID")
	if redis.HasErrorPrefix(err, "NOGROUP") {
		err = set("CREATE")
	}
	if redis.HasErrorPrefix(err, "BUSYGROUP") { // another process made it meanwhile
		err = set("SETID")
	}
	if err != nil {
		return fmt.Errorf("set group %q of stream %q to %s: %w", group, stream, head, classify(err))
	}
	return nil
}
