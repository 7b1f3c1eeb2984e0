package sink

import (
	"context"
	"fmt"
	"strconv"

	"github.com/reservoirhq/reservoir/redisstream"
)

// Pressure implements replay.Presser. It asks about all targets in one pipeline,
// and gives the first that is over a bound.
func (s *redisSink) Pressure(ctx context.Context) (string, error) {
	bounds := s.opening.BackPressure
	if bounds.MaxLength == 0 && bounds.MaxLag == 0 && bounds.MaxPending == 0 {
		return "", nil
	}
	backlogs, err := s.client.Backlogs(ctx, s.targets, bounds.Group)
	if err != nil {
		return "", redisError(err)
	}
	for i, b := range backlogs {
		if bounds.Group != "" && !b.Grouped {
			return "", noGroup(bounds.Group, s.names[i])
		}
		if reason := s.pressure(s.names[i], b); reason != "" {
			return reason, nil
		}
	}
	return "", nil
}

// pressure returns why the replay should hold for one target.
func (s *redisSink) pressure(target string, b redisstream.Backlog) string {
	bounds := s.opening.BackPressure
	over := func(n, bound uint64) bool { return bound > 0 && n > bound }
	switch {
	case over(b.Length, bounds.MaxLength):
		return fmt.Sprintf("stream %s has %s entries (bound %s)", target, thousands(b.Length), thousands(bounds.MaxLength))
	case over(b.Lag, bounds.MaxLag) && b.LagUnknown:
		return fmt.Sprintf("group %s of stream %s may be up to %s entries behind (bound %s): redis cannot tell its lag until it has read the stream to its end", bounds.Group, target, thousands(b.Lag), thousands(bounds.MaxLag))
	case over(b.Lag, bounds.MaxLag):
		return fmt.Sprintf("group %s of stream %s is %s entries behind (bound %s)", bounds.Group, target, thousands(b.Lag), thousands(bounds.MaxLag))
	case over(b.Pending, bounds.MaxPending):
		return fmt.Sprintf("group %s of stream %s has %s entries pending (bound %s)", bounds.Group, target, thousands(b.Pending), thousands(bounds.MaxPending))
	}
	return ""
}

// thousands writes a number with commas.
func thousands(n uint64) string {
	text := strconv.FormatUint(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
