package redisstream

import (
	"context"
	"errors"
	"fmt"

	"github.com/reservoirhq/reservoir/event"
)

// Info is what XINFO STREAM says about a stream. It is comparable.
type Info struct {
	Length          uint64   // entries in the stream now
	EntriesAdded    uint64   // entries ever added
	LastGeneratedID event.ID // the highest ID ever added, whether it is still there or not
	// MaxDeletedID is the highest ID that XDEL removed. XTRIM and MAXLEN do not
	// move it.
	MaxDeletedID event.ID
	FirstID      event.ID // of the first entry; zero when the stream is empty
	LastID       event.ID // of the last entry; zero when the stream is empty
	Groups       uint64   // consumer groups
}

// StreamInfo is the Info of one of several streams.
type StreamInfo struct {
	Stream string
	Info
	Err error // wraps ErrNoStream, ErrNotStream, ErrPermission, …; Info is zero then
}

// infosChunk is how many streams one pipeline asks about.
const infosChunk = 500

// Info asks about one stream. A key that does not exist is an ErrNoStream, one
// that is not a stream an ErrNotStream.
func (c *Client) Info(ctx context.Context, stream string) (Info, error) {
	var info Info
	err := c.with(ctx, stream, func(cn *conn, asking bool) error {
		if asking {
			cn.out = appendCommand(cn.out, "ASKING")
		}
		cn.out = appendCommand(cn.out, "XINFO", "STREAM", stream)
		if err := cn.flush(); err != nil {
			return err
		}
		if asking {
			if err := cn.in.skip(0); err != nil {
				return err
			}
		}
		var err error
		info, err = cn.in.info()
		return err
	})
	if err != nil {
		return Info{}, fmt.Errorf("info of stream %q: %w", stream, err)
	}
	return info, nil
}

// Infos asks about many streams, in pipelines over few connections, and returns
// one StreamInfo each, in the same order. What is wrong with one stream is in
// its Err; the error of Infos itself says that a server could not be asked.
func (c *Client) Infos(ctx context.Context, streams []string) ([]StreamInfo, error) {
	out := make([]StreamInfo, len(streams))
	byNode := make(map[string][]int)
	for i, stream := range streams {
		out[i].Stream = stream
		n, err := c.owner(ctx, stream)
		if err != nil {
			return nil, fmt.Errorf("info of %d streams: %w", len(streams), err)
		}
		byNode[n.addr] = append(byNode[n.addr], i)
	}
	for _, indexes := range byNode {
		for len(indexes) > 0 {
			n := min(len(indexes), infosChunk)
			if err := c.infosOf(ctx, indexes[:n], out); err != nil {
				return nil, fmt.Errorf("info of %d streams: %w", len(streams), err)
			}
			indexes = indexes[n:]
		}
	}
	return out, nil
}

// infosOf asks about streams of one node, in one pipeline.
func (c *Client) infosOf(ctx context.Context, indexes []int, out []StreamInfo) error {
	err := c.with(ctx, out[indexes[0]].Stream, func(cn *conn, _ bool) error {
		for _, i := range indexes {
			cn.out = appendCommand(cn.out, "XINFO", "STREAM", out[i].Stream)
		}
		if err := cn.flush(); err != nil {
			return err
		}
		for _, i := range indexes {
			out[i].Info, out[i].Err = cn.in.info()
			if cn.in.err != nil {
				return cn.in.err
			}
			cn.in.compact()
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, i := range indexes {
		if _, moved := parseRedirection(out[i].Err); moved {
			out[i].Info, out[i].Err = c.Info(ctx, out[i].Stream)
			if errors.Is(out[i].Err, ErrUnreachable) {
				return out[i].Err
			}
		} else if out[i].Err != nil {
			out[i].Err = fmt.Errorf("info of stream %q: %w", out[i].Stream, classify(out[i].Err))
		}
	}
	return nil
}

// info takes the reply of XINFO STREAM.
func (in *input) info() (Info, error) {
	n, err := in.length('*')
	if err != nil {
		return Info{}, err
	}
	if n < 0 || n%2 != 0 {
		return Info{}, in.bad("%d values for XINFO STREAM", n)
	}
	var info Info
	seen := 0
	for range n / 2 {
		at, size, err := in.bulk(1 << 10)
		if err != nil {
			return Info{}, in.fail(err)
		}
		switch string(in.buf[at : at+size]) {
		case "length":
			info.Length, err = in.number()
		case "entries-added":
			info.EntriesAdded, err = in.number()
			seen++
		case "groups":
			info.Groups, err = in.number()
		case "last-generated-id":
			info.LastGeneratedID, err = in.id()
			seen++
		case "max-deleted-entry-id":
			info.MaxDeletedID, err = in.id()
		case "first-entry":
			info.FirstID, err = in.entryID()
		case "last-entry":
			info.LastID, err = in.entryID()
		default:
			err = in.skip(0)
		}
		if err != nil {
			return Info{}, in.fail(err)
		}
	}
	if seen < 2 {
		return Info{}, in.bad("XINFO STREAM without entries-added: %w", ErrTooOld)
	}
	return info, nil
}

// entryID takes an entry or a null, and returns the ID or zero.
func (in *input) entryID() (event.ID, error) {
	if err := in.need(1); err != nil {
		return event.ID{}, err
	}
	if in.buf[in.pos] == '$' { // RESP2's null
		return event.ID{}, in.skip(0)
	}
	n, err := in.length('*')
	if err != nil || n < 0 {
		return event.ID{}, err
	}
	if n != 2 {
		return event.ID{}, in.bad("an entry of %d parts", n)
	}
	id, err := in.id()
	if err != nil {
		return event.ID{}, err
	}
	return id, in.skip(0)
}
