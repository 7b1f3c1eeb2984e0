package redisstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reservoirhq/reservoir/event"
)

// trimStep bounds the entries that one step removes: trimming costs Redis about
// 0.1 µs an entry, during which it does nothing else.
const trimStep = 10_000

// TrimSpec bounds what Trim may remove. The strictest bound holds.
type TrimSpec struct {
	// CommittedHead is the last ID that is safely archived. Its entry and all
	// after it stay: it is what a later comparison with the archive holds on to.
	// Where that entry is not in the stream nothing is removed: the stream may be
	// another one, of which nothing is archived.
	CommittedHead event.ID
	// RetainFor keeps entries that are younger, by the milliseconds of their ID
	// and the clock of the server (not the local one). IDs that a producer
	// makes up, or that come from a clock that is ahead, stay longer.
	RetainFor time.Duration
	// MinID keeps the entries from this ID on; zero for no such bound.
	MinID event.ID
}

// Trim removes old entries, in steps of at most 10,000, and returns how many.
// It never removes what lies within spec's bounds, nor what a consumer group has
// pending or has not been delivered yet (nor the entry that was delivered last).
//
// Head, groups and clock are looked at and the entries are removed in one script per
// step, so nothing can happen in between; only a group that is made later, or
// set back, may find entries gone. Redis removes whole blocks of entries (100 by
// default), so up to a block more than asked for stays.
//
// Between steps ctx is looked at; on an error what was removed before is
// returned with it. A stream that does not exist has nothing to trim.
func (c *Client) Trim(ctx context.Context, stream string, spec TrimSpec) (trimmed int64, err error) {
	keep := spec.CommittedHead
	if !spec.MinID.IsZero() && spec.MinID.Less(keep) {
		keep = spec.MinID
	}
	script := redis.NewScript(trimScript)
	for {
		n, err := script.Run(ctx, c.rdb, []string{stream}, keep.String(), max(0, spec.RetainFor.Milliseconds()), trimStep, spec.CommittedHead.String()).Int64()
		trimmed += max(0, n)
		switch err := classify(err); {
		case errors.Is(err, ErrNoStream):
			return trimmed, nil
		case err != nil:
			return trimmed, fmt.Errorf("trim stream %q: %w", stream, err)
		case n == 0:
			return trimmed, nil
		}
	}
}

// trimScript trims KEYS[1] below ARGV[1], and below what was added in the last
// ARGV[2] milliseconds, and below what its groups need, by at most ARGV[3]
// entries, if it holds the entry ARGV[4]. IDs are compared as text, because Lua's numbers have 53 bits.
const trimScript = `
local function below(a, b)
  local ams, aseq = string.match(a, '^(%d+)%-(%d+)$')
  local bms, bseq = string.match(b, '^(%d+)%-(%d+)$')
  if ams == bms then ams, bms = aseq, bseq end
  if #ams ~= #bms then return #ams < #bms end
  return ams < bms
end
if #redis.call('XRANGE', KEYS[1], ARGV[4], ARGV[4]) == 0 then return 0 end
local keep = ARGV[1]
local function lower(id) if below(id, keep) then keep = id end end
local retain = tonumber(ARGV[2])
if retain > 0 then
  local now = redis.call('TIME')
  lower(string.format('%.0f-0', math.max(0, now[1] * 1000 + math.floor(now[2] / 1000) - retain)))
end
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local name
  for i = 1, #group, 2 do
    if group[i] == 'name' then name = group[i + 1] end
    if group[i] == 'last-delivered-id' then lower(group[i + 1]) end
  end
  local pending = redis.call('XPENDING', KEYS[1], name)
  if pending[1] > 0 then lower(pending[2]) end
end
return redis.call('XTRIM', KEYS[1], 'MINID', '~', keep, 'LIMIT', ARGV[3])
`
