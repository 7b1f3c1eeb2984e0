package consumer

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reservoirhq/reservoir/event"
)

// A dead letter's own fields come after those of the event.
const (
	deadPrefix = "reservoir_dead_"
	deadOwn    = 6
)

// deadFields are those of an entry of the dead letters' stream.
func deadFields(d *DeadLetter) []any {
	args := make([]any, 0, 2*(len(d.Fields)+deadOwn))
	for _, f := range d.Fields {
		args = append(args, f.Name, f.Value)
	}
	return append(args, deadPrefix+"stream", d.Stream, deadPrefix+"id", d.ID.String(), deadPrefix+"type", d.Type,
		deadPrefix+"key", d.Key, deadPrefix+"attempts", d.Attempts, deadPrefix+"error", d.Error)
}

func addDeadLetter(ctx context.Context, pipe redis.Pipeliner, key string, d *DeadLetter) {
	pipe.Do(ctx, append([]any{"XADD", key, "*"}, deadFields(d)...)...)
}

func (s *RedisStore) letters(ctx context.Context, consumer string, limit int) ([]DeadLetter, error) {
	// A client's own type for entries would lose the order of fields and repeated names.
	entries, err := s.client.Do(ctx, "XRANGE", s.DeadLetterStream(consumer), "-", "+", "COUNT", limit).Slice()
	if err != nil {
		return nil, err
	}
	letters := make([]DeadLetter, len(entries))
	for i, entry := range entries {
		if err := letters[i].parse(entry); err != nil {
			return nil, fmt.Errorf("read a dead letter: %w", err)
		}
	}
	return letters, nil
}

// parse reads an entry of a reply.
func (d *DeadLetter) parse(entry any) error {
	pair, ok := entry.([]any)
	if !ok || len(pair) != 2 {
		return fmt.Errorf("entry %v", entry)
	}
	at, ok := pair[0].(string)
	fields, isList := pair[1].([]any)
	if !ok || !isList || len(fields)%2 != 0 || len(fields) < 2*deadOwn {
		return fmt.Errorf("entry %v", entry)
	}
	failed, err := event.ParseID(at)
	if err != nil {
		return err
	}
	d.ref, d.FailedAt = at, time.UnixMilli(int64(failed.Ms)).UTC()
	own := len(fields) - 2*deadOwn
	for i := 0; i < own; i += 2 {
		d.Fields = append(d.Fields, event.Field{Name: fmt.Append(nil, fields[i]), Value: fmt.Append(nil, fields[i+1])})
	}
	var values [deadOwn]string
	for i := range values {
		values[i] = fmt.Sprint(fields[own+2*i+1])
	}
	d.Stream, d.Type, d.Key, d.Error = values[0], values[2], values[3], values[5]
	var idErr, attemptsErr error
	d.ID, idErr = event.ParseID(values[1])
	d.Attempts, attemptsErr = strconv.Atoi(values[4])
	return errors.Join(idErr, attemptsErr)
}

func (s *RedisStore) resolve(ctx context.Context, r retrial, handle func(pipe redis.Pipeliner) error) error {
	dead, e := s.DeadLetterStream(r.consumer), redisEvent{pipe: s.client.TxPipeline()}
	keys := []string{dead}
	if handle != nil {
		if r.key != "" {
			e.seen = s.seenKey(r.consumer, r.key)
			keys = append(keys, e.seen)
		}
		if err := handle(e.pipe); err != nil {
			return err
		}
	}
	for try := 0; ; try++ {
		err := s.client.Watch(ctx, func(tx *redis.Tx) error {
			there, err := tx.XRange(ctx, dead, r.letter.ref, r.letter.ref).Result()
			if err != nil || len(there) == 0 {
				return errors.Join(err, ErrNoDeadLetter)
			}
			handled := int64(0)
			if e.seen != "" {
				if handled, err = tx.Exists(ctx, e.seen).Result(); err != nil {
					return err
				}
			}
			_, err = tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
				pipe.XDel(ctx, dead, r.letter.ref)
				if handled > 0 {
					return nil
				}
				return e.queue(ctx, pipe, r.dedup)
			})
			return err
		}, keys...)
		if !errors.Is(err, redis.TxFailedErr) || try == maxWatchTries {
			return err
		}
	}
}
