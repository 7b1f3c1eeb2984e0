package redisstream

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// Backlog is how much a stream holds, and what one of its consumer groups has
// still to do.
type Backlog struct {
	Length  uint64 // entries in the stream; 0 if there is none
	Grouped bool   // the group exists
	Lag     uint64 // entries not delivered to the group yet
	// LagUnknown says that Redis cannot tell the lag, after entries were deleted
	// or when the group began in the midst of the stream. Lag is Length then,
	// which it is not above.
	LagUnknown bool
	Pending    uint64 // entries delivered to the group and not acknowledged
}

// Backlogs asks about streams and, unless its name is "", a group of each, in
// one pipeline, and returns one Backlog each in the same order.
func (c *Client) Backlogs(ctx context.Context, streams []string, group string) ([]Backlog, error) {
	lengths := make([]*redis.IntCmd, len(streams))
	groups := make([]*redis.XInfoGroupsCmd, len(streams))
	// The error is the first command's: each is looked at below.
	_, err := c.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, stream := range streams {
			lengths[i] = p.XLen(ctx, stream)
			if group != "" {
				groups[i] = p.XInfoGroups(ctx, stream)
			}
		}
		return nil
	})
	if err != nil && !isReply(err) {
		return nil, fmt.Errorf("backlog of %d streams: %w", len(streams), classify(err))
	}
	backlogs := make([]Backlog, len(streams))
	for i, stream := range streams {
		n, err := lengths[i].Result()
		if err != nil {
			return nil, fmt.Errorf("length of stream %q: %w", stream, classify(err))
		}
		b := &backlogs[i]
		b.Length = uint64(max(0, n))
		if group == "" {
			continue
		}
		infos, err := groups[i].Result()
		if err = classify(err); errors.Is(err, ErrNoStream) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("groups of stream %q: %w", stream, err)
		}
		for _, info := range infos {
			if info.Name == group {
				b.Grouped, b.Pending, b.Lag = true, uint64(max(0, info.Pending)), uint64(max(0, info.Lag))
				if b.LagUnknown = info.Lag < 0; b.LagUnknown {
					b.Lag = b.Length
				}
			}
		}
	}
	return backlogs, nil
}
