package redisstream

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// Uses says what, beside reading and discovering streams, a user of this
// package is going to do.
type Uses struct {
	Trim   bool // Trim
	Mirror bool // MirrorHead
}

// Denied tries the commands that reading streams and the given uses need, and
// returns those that the ACL user may not run, as ACL SETUSER names them. They
// are tried on a key that does not exist, in a way that makes none; that the
// user may not touch that key is no finding. Other errors than the lack of a
// permission mean that Redis could not be asked.
func (c *Client) Denied(ctx context.Context, uses Uses) ([]string, error) {
	n, err := c.anyMaster(ctx)
	if err != nil {
		return nil, fmt.Errorf("try commands: %w", classify(err))
	}
	const group = "reservoir"
	key := "reservoir-doctor-" + rand.Text()
	tries := [][]any{
		{"XRANGE", key, "0-1", "0-1", "COUNT", 1},
		{"XINFO", "STREAM", key},
		{"SCAN", 0, "COUNT", 1, "TYPE", "stream"},
		{"INFO", "server"},
		{"TIME"},
	}
	if uses.Trim {
		tries = append(tries, []any{"XTRIM", key, "MINID", 0}, []any{"XPENDING", key, group}, []any{"EVAL", "return 0", 1, key}, []any{"EVALSHA", rand.Text(), 1, key})
	}
	if uses.Mirror {
		tries = append(tries, []any{"XGROUP", "SETID", key, group, 0}, []any{"XGROUP", "CREATE", key, group, 0})
	}
	if uses.Trim || uses.Mirror {
		tries = append(tries, []any{"XINFO", "GROUPS", key})
	}
	var denied []string
	note := func(err error) error {
		err = classify(err)
		var lacks *PermissionError
		switch {
		case errors.As(err, &lacks):
			if lacks.Command != "" && !slices.Contains(denied, lacks.Command) {
				denied = append(denied, lacks.Command)
			}
		case err != nil && !isReply(err) && !errors.Is(err, redis.Nil):
			return fmt.Errorf("try commands: %w", err)
		}
		return nil // any other reply says that the command got through
	}
	for _, try := range tries {
		if err := note(n.Do(ctx, try...).Err()); err != nil {
			return nil, err
		}
	}
	_, err = n.TxPipelined(ctx, func(p redis.Pipeliner) error { return p.Time(ctx).Err() })
	if err := note(err); err != nil {
		return nil, err
	}
	return denied, nil
}

// Setting gives one parameter of the server's configuration, "" where there is
// none of that name. Few ACL users may ask: the error is an ErrPermission then.
func (c *Client) Setting(ctx context.Context, name string) (string, error) {
	n, err := c.anyMaster(ctx)
	if err != nil {
		return "", fmt.Errorf("ask redis for %s: %w", name, classify(err))
	}
	values, err := n.ConfigGet(ctx, name).Result()
	if err != nil {
		return "", fmt.Errorf("ask redis for %s: %w", name, classify(err))
	}
	return values[name], nil
}

// Expiry gives the time after which Redis deletes the whole stream, and whether
// there is one.
func (c *Client) Expiry(ctx context.Context, stream string) (time.Duration, bool, error) {
	left, err := c.rdb.PTTL(ctx, stream).Result()
	if err != nil {
		return 0, false, fmt.Errorf("expiry of stream %q: %w", stream, classify(err))
	}
	return left, left >= 0, nil
}
