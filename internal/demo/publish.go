package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reservoirhq/reservoir/event"
)

const (
	publishEvery = 20 * time.Millisecond
	publishMost  = 1000 // events in one pipeline
)

// publish adds the source's events to their streams at its rate, and records them
// with the IDs that Redis gave them.
func (d *Demo) publish(ctx context.Context, to *records) error {
	began := time.Now()
	tick := time.NewTicker(publishEvery)
	defer tick.Stop()
	for sent := uint64(0); ; {
		due := uint64(time.Since(began).Seconds() * d.source.rate())
		for sent < due {
			n, err := d.publishSome(ctx, min(publishMost, due-sent), to)
			sent += n
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("publish events: %w", err)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

type published struct {
	stream string
	event  event.Event
	reply  *redis.Cmd
}

// publishSome returns io.EOF when there was no more.
func (d *Demo) publishSome(ctx context.Context, most uint64, to *records) (uint64, error) {
	pipe := d.publisher.Pipeline()
	var (
		batch []published
		ended error
	)
	for uint64(len(batch)) < most {
		stream, e, err := d.source.next()
		if err != nil {
			ended = err
			break
		}
		args := make([]any, 0, 3+2*len(e.Fields))
		args = append(args, "XADD", stream, "*")
		for _, f := range e.Fields {
			args = append(args, f.Name, f.Value)
		}
		batch = append(batch, published{stream, e, pipe.Do(ctx, args...)})
	}
	if len(batch) > 0 {
		if _, err := pipe.Exec(ctx); err != nil {
			return 0, err
		}
	}
	for i := range batch {
		text, err := batch[i].reply.Text()
		if err != nil {
			return 0, err
		}
		id, err := event.ParseID(text)
		if err != nil {
			return 0, err
		}
		to.add(batch[i].stream, id, &batch[i].event)
		if d.books != nil {
			d.books.add(&batch[i].event)
		}
	}
	return uint64(len(batch)), ended
}
