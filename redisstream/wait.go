package redisstream

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/reservoirhq/reservoir/event"
)

// Wait waits until the stream has an entry after the given ID, and reports whether
// it has. It gives up without an error when the time is over, and after half of
// Config.ReadTimeout at the latest. A stream that does not exist yet is waited
// for as well. The ACL user needs +xread for it. Errors are those of Read.
func (r *Reader) Wait(ctx context.Context, after event.ID, atMost time.Duration) (bool, error) {
	if r.ahead != nil {
		r.release() // what is on its way is not wanted
	}
	block := max(1, min(atMost, r.client.cfg.ReadTimeout/2).Milliseconds())
	for try := 0; ; try++ {
		more, err := r.block(ctx, after, block)
		if err == nil {
			return more, nil
		}
		if ctx.Err() != nil {
			r.release()
			return false, fmt.Errorf("wait for stream %q: %w", r.stream, ctx.Err())
		}
		if try > maxRedirects || !r.again(ctx, err) {
			return false, fmt.Errorf("wait for stream %q: %w", r.stream, classify(err))
		}
	}
}

// block does one blocking read and forgets the entry that ends it.
func (r *Reader) block(ctx context.Context, after event.ID, ms int64) (more bool, err error) {
	if err := r.connect(ctx); err != nil {
		return false, err
	}
	in := &r.cn.in
	in.buf, in.pos = r.rest, 0
	end := r.cn.during(ctx)
	more, err = r.blockingRead(after, ms)
	end()
	r.rest = in.buf[:copy(in.buf, in.buf[in.pos:])]
	in.buf, in.pos = nil, 0
	if err == nil {
		err = in.err
	}
	if err != nil {
		return false, err
	}
	r.cn.reused = false
	if r.asking {
		r.release()
	}
	return more, nil
}

func (r *Reader) blockingRead(after event.ID, ms int64) (bool, error) {
	out, in := r.cn.out, &r.cn.in
	if r.asking {
		out = appendCommand(out, "ASKING")
	}
	r.cn.out = appendCommand(out, "XREAD", "COUNT", "1", "BLOCK", strconv.FormatInt(ms, 10), "STREAMS", r.stream, after.String())
	if err := r.cn.flush(); err != nil {
		return false, err
	}
	if r.asking {
		if _, _, err := in.status(); err != nil {
			return false, in.fail(err)
		}
	}
	streams, err := in.length('*')
	if err != nil {
		return false, err
	}
	for range streams {
		if err := in.skip(1); err != nil {
			return false, err
		}
	}
	return streams > 0, nil
}
