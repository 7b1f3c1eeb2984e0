package redisstream

import (
	"context"
	"errors"
	"fmt"
	"slices"

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
	// LastDigest is the event.Digest of the last entry; "" when the stream is empty.
	LastDigest string
	Groups     uint64 // consumer groups
}

// Explains reports whether Redis says why an entry that was in the stream is not there
// any more: it trimmed or deleted there.
func (i Info) Explains(id event.ID) bool {
	return i.Length == 0 || id.Less(i.FirstID) || !i.MaxDeletedID.Less(id)
}

// StreamInfo is the Info of one of several streams.
type StreamInfo struct {
	Stream string
	Info
	// Digest is the event.Digest of the entry that InfosAt was asked for; "" if that is
	// not there, or none was.
	Digest string
	Err    error // wraps ErrNoStream, ErrNotStream, ErrPermission, …; Info is zero then
}

// infosChunk is how many streams one pipeline asks about.
const infosChunk = 500

// Info asks about one stream. A key that does not exist is an ErrNoStream, one
// that is not a stream an ErrNotStream.
func (c *Client) Info(ctx context.Context, stream string) (Info, error) {
	info, _, err := c.InfoAt(ctx, stream, event.ID{})
	return info, err
}

// InfoAt is Info, and asks at the same instant for one entry as well, unless its ID is
// zero: digest is its event.Digest, "" if it is not there.
func (c *Client) InfoAt(ctx context.Context, stream string, entry event.ID) (info Info, digest string, err error) {
	err = c.with(ctx, stream, func(cn *conn, asking bool) error {
		cn.out = appendLook(cn.out, stream, entry, asking)
		if err := cn.flush(); err != nil {
			return err
		}
		var err error
		info, digest, err = cn.in.look(entry, asking)
		return err
	})
	if err != nil {
		return Info{}, "", fmt.Errorf("info of stream %q: %w", stream, err)
	}
	return info, digest, nil
}

// Infos asks about many streams, in pipelines over few connections, and returns
// one StreamInfo each, in the same order. What is wrong with one stream is in
// its Err; the error of Infos itself says that a server could not be asked.
func (c *Client) Infos(ctx context.Context, streams []string) ([]StreamInfo, error) {
	return c.InfosAt(ctx, streams, make([]event.ID, len(streams)))
}

// InfosAt is Infos, and asks at the same instant for an entry of each stream as well,
// unless its ID is zero.
func (c *Client) InfosAt(ctx context.Context, streams []string, entries []event.ID) ([]StreamInfo, error) {
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
		for chunk := range slices.Chunk(indexes, infosChunk) {
			if err := c.infosOf(ctx, chunk, entries, out); err != nil {
				return nil, fmt.Errorf("info of %d streams: %w", len(streams), err)
			}
		}
	}
	return out, nil
}

// infosOf asks about streams of one node, in one pipeline.
func (c *Client) infosOf(ctx context.Context, indexes []int, entries []event.ID, out []StreamInfo) error {
	err := c.with(ctx, out[indexes[0]].Stream, func(cn *conn, _ bool) error {
		for _, i := range indexes {
			cn.out = appendLook(cn.out, out[i].Stream, entries[i], false)
		}
		if err := cn.flush(); err != nil {
			return err
		}
		for _, i := range indexes {
			out[i].Info, out[i].Digest, out[i].Err = cn.in.look(entries[i], false)
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
			out[i].Info, out[i].Digest, out[i].Err = c.InfoAt(ctx, out[i].Stream, entries[i])
			if errors.Is(out[i].Err, ErrUnreachable) {
				return out[i].Err
			}
		} else if out[i].Err != nil {
			out[i].Err = fmt.Errorf("info of stream %q: %w", out[i].Stream, classify(out[i].Err))
		}
	}
	return nil
}

// appendLook appends what asks about a stream, and in a transaction about an entry
// unless its ID is zero.
func appendLook(b []byte, stream string, entry event.ID, asking bool) []byte {
	if asking {
		b = appendCommand(b, "ASKING")
	}
	if entry.IsZero() {
		return appendCommand(b, "XINFO", "STREAM", stream)
	}
	b = appendCommand(b, "MULTI")
	b = appendCommand(b, "XINFO", "STREAM", stream)
	b = appendCommand(b, "XRANGE", stream, entry.String(), entry.String())
	return appendCommand(b, "EXEC")
}

// look takes the replies to appendLook, all of them also after an error reply.
func (in *input) look(entry event.ID, asking bool) (info Info, digest string, err error) {
	if asking {
		if err := in.skip(0); err != nil {
			return Info{}, "", err
		}
	}
	if entry.IsZero() {
		info, err = in.info()
		return info, "", err
	}
	if err := in.queued(2); err != nil {
		return Info{}, "", err
	}
	info, err = in.info()
	if in.err != nil {
		return Info{}, "", err
	}
	digest, rangeErr := in.digestOfOne()
	if err == nil {
		err = rangeErr
	}
	if err != nil {
		return Info{}, "", err
	}
	return info, digest, nil
}

// digestOfOne takes the reply of an XRANGE for one ID.
func (in *input) digestOfOne() (string, error) {
	n, err := in.length('*')
	if err != nil || n <= 0 {
		return "", err
	}
	if n > 1 {
		return "", in.bad("%d entries of one ID", n)
	}
	_, digest, err := in.entryDigest()
	return digest, err
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
			info.LastID, info.LastDigest, err = in.entryDigest()
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
	id, there, err := in.maybeEntry()
	if err != nil || !there {
		return event.ID{}, err
	}
	return id, in.skip(0)
}

// entryDigest takes an entry or a null, and returns its ID and its event.Digest, or
// zeros. However large the entry is, it is not held in memory.
func (in *input) entryDigest() (event.ID, string, error) {
	id, there, err := in.maybeEntry()
	if err != nil || !there {
		return event.ID{}, "", err
	}
	n, err := in.length('*')
	if err != nil {
		return event.ID{}, "", in.fail(err)
	}
	if n < 0 || n%2 != 0 {
		return event.ID{}, "", in.bad("%d names and values", n)
	}
	d := event.NewDigester(n / 2)
	for range n {
		size, err := in.length('$')
		if err != nil {
			return event.ID{}, "", in.fail(err)
		}
		if size < 0 {
			return event.ID{}, "", in.bad("null for a string")
		}
		d.Begin(size)
		if err := in.pass(size, d); err != nil {
			return event.ID{}, "", err
		}
		if err := in.discard(2); err != nil {
			return event.ID{}, "", err
		}
	}
	return id, d.Digest(), nil
}

// maybeEntry takes the beginning of an entry, up to its ID, or a null.
func (in *input) maybeEntry() (id event.ID, there bool, err error) {
	if err := in.need(1); err != nil {
		return event.ID{}, false, err
	}
	if in.buf[in.pos] == '$' { // RESP2's null
		return event.ID{}, false, in.skip(0)
	}
	n, err := in.length('*')
	if err != nil || n < 0 {
		return event.ID{}, false, err
	}
	if n != 2 {
		return event.ID{}, false, in.bad("an entry of %d parts", n)
	}
	id, err = in.id()
	return id, true, err
}
