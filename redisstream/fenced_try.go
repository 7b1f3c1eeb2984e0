package redisstream

import (
	"context"
	"fmt"
)

// TryFence finds out whether a FencedWriter could work, without writing: it
// queues what the writer does in a transaction that is thrown away. The error is
// why it could not, such as a PermissionError or an ErrNotNow.
func (c *Client) TryFence(ctx context.Context, opts FenceOptions, streams []string) error {
	err := c.with(ctx, opts.Key, func(cn *conn, asking bool) error {
		if asking {
			return fmt.Errorf("%w: its slot is on the move", ErrNotNow)
		}
		n := 0
		add := func(args ...string) {
			cn.out = appendCommand(cn.out, args...)
			n++
		}
		add("WATCH", opts.Key)
		add("MULTI")
		add("EXEC") // of nothing
		add("MULTI")
		add("HGETALL", opts.Key)
		add("HGET", opts.Key, fenceField)
		add("HSET", opts.Key, fenceField, "")
		add("PEXPIRE", opts.Key, "1000")
		for _, stream := range streams {
			add("XADD", stream, "*", "a", "b")
			if opts.KeepIDs {
				add("XINFO", "STREAM", stream)
				add("XSETID", stream, "1-1")
				if opts.Place != nil {
					to := opts.Place(stream)
					add("XINFO", "STREAM", to)
					add("XGROUP", "CREATE", stream, "a", "$")
					add("RENAMENX", stream, to)
					add("RENAME", stream, to)
					add("UNLINK", stream)
				}
			} else {
				add("TYPE", stream)
			}
		}
		add("DISCARD")
		if err := cn.flush(); err != nil {
			return err
		}
		var failed error
		for range n {
			if err := cn.in.statusOrEmpty(); err != nil {
				if cn.in.err != nil {
					return cn.in.err
				}
				failed = firstOf(failed, err)
			}
		}
		return failed
	})
	if err != nil {
		return fmt.Errorf("try to write: %w", notNow(err))
	}
	return nil
}

// statusOrEmpty takes a simple string or an empty array.
func (in *input) statusOrEmpty() error {
	if err := in.need(1); err != nil {
		return err
	}
	if in.buf[in.pos] != '*' {
		_, _, err := in.status()
		return err
	}
	_, err := in.length('*')
	return err
}
