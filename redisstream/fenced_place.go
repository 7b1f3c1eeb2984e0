package redisstream

import (
	"context"
	"fmt"
	"strings"

	"github.com/reservoirhq/reservoir/event"
)

// What the keys of streams that are not in their place yet have in common.
const (
	stagePrefix = "reservoir:"
	stageMark   = "restoring:"
)

// Stage gives the name under which a stream is restored until it is whole, and
// FencedWriter.Place gives it its own. tag is the hash tag that puts both into
// one slot of a cluster, "" where there is none. owner tells the restores of a
// stream apart. Patterns of Discover and Selected do not select such names.
func Stage(owner, tag, stream string) string {
	if tag != "" {
		return stagePrefix + "{" + tag + "}:" + stageMark + owner + ":" + stream
	}
	return stagePrefix + stageMark + owner + ":" + stream
}

// IsStage reports whether Stage gives such names.
func IsStage(name string) bool {
	rest, ok := strings.CutPrefix(name, stagePrefix)
	if !ok {
		return false
	}
	if strings.HasPrefix(rest, "{") {
		_, rest, _ = strings.Cut(rest, "}:")
	}
	return strings.HasPrefix(rest, stageMark)
}

// Placed reports whether Place has put a stream there, by any writer of the key.
func (w *FencedWriter) Placed(to string) bool { return !w.last[to].IsZero() }

// Place gives a stream that was restored the name to, in one transaction with a
// note of it in the key: who looks sees all of the stream or nothing. There must
// be no stream of that name, or one to which nothing was ever added: its consumer
// groups are kept. Otherwise it is an ErrForeign, and nothing is changed.
func (w *FencedWriter) Place(ctx context.Context, from, to string) error {
	if w.ahead != nil {
		w.Rest()
	}
	if err := w.do(ctx, func() error { return w.place(ctx, from, to) }); err != nil {
		return fmt.Errorf("put stream %q in the place of %q: %w", from, to, err)
	}
	return nil
}

// place is one try.
func (w *FencedWriter) place(ctx context.Context, from, to string) error {
	delete(w.seen, from)
	delete(w.seen, to)
	if err := w.look([]string{from, to}); err != nil {
		return err
	}
	rename := "RENAMENX"
	var commands [][]string
	if w.seen[to].there {
		rename = "RENAME"
		// It is watched by now: what is true afterwards is true in the transaction.
		groups, err := w.client.Groups(ctx, to)
		if err != nil {
			return err
		}
		for _, g := range groups {
			commands = append(commands, []string{"XGROUP", "CREATE", from, g.Name, g.LastDeliveredID.String()})
		}
	}
	commands = append(commands, []string{rename, from, to})
	return w.set(w.position, map[string]event.ID{to: w.last[from]}, commands...)
}

// Drop deletes streams that were not Placed, fenced. Restoring them begins anew.
func (w *FencedWriter) Drop(ctx context.Context, streams []string) error {
	if w.ahead != nil {
		w.Rest()
	}
	none := make(map[string]event.ID, len(streams))
	for _, stream := range streams {
		none[stream] = event.ID{}
	}
	command := append([]string{"UNLINK"}, streams...)
	if err := w.do(ctx, func() error { return w.set(w.position, none, command) }); err != nil {
		return fmt.Errorf("delete %d streams that were not restored to their end: %w", len(streams), err)
	}
	return nil
}
