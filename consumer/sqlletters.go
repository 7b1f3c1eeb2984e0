package consumer

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/reservoirhq/reservoir/event"
)

func (s *SQLStore) letters(ctx context.Context, consumer string, limit int) (letters []DeadLetter, err error) {
	const read = `SELECT stream, entry_id, event_type, event_key, attempts, error, fields, failed_at
		FROM reservoir_consumer_dead_letters WHERE consumer = ? ORDER BY stream, entry_id LIMIT ?`
	rows, err := s.db.QueryContext(ctx, s.d.sql(read), consumer, limit)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var d DeadLetter
		var id, fields string
		var at any // MySQL's driver gives a time only where the DSN says parseTime
		if err := rows.Scan(&d.Stream, &id, &d.Type, &d.Key, &d.Attempts, &d.Error, &fields, &at); err != nil {
			return nil, err
		}
		if d.ID, err = event.ParseID(id); err != nil {
			return nil, err
		}
		if d.Fields, err = unmarshalFields([]byte(fields)); err != nil {
			return nil, err
		}
		if d.FailedAt, err = timeOf(at); err != nil {
			return nil, err
		}
		letters = append(letters, d)
	}
	return letters, rows.Err()
}

// timeOf reads a time in UTC as drivers give it.
func timeOf(value any) (time.Time, error) {
	switch value := value.(type) {
	case time.Time:
		return value.UTC(), nil
	case []byte:
		return time.Parse("2006-01-02 15:04:05.999999", string(value))
	default:
		return time.Time{}, fmt.Errorf("time %v of type %T", value, value)
	}
}

func (s *SQLStore) resolve(ctx context.Context, r retrial, handle func(tx *sql.Tx) error) (err error) {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin a transaction: %w", err)
	}
	t := &sqlTransaction{store: s, lease: lease{place: place{consumer: r.consumer}}, tx: tx}
	defer func() { err = errors.Join(err, t.rollback()) }()
	const remove = "DELETE FROM reservoir_consumer_dead_letters WHERE consumer = ? AND stream = ? AND entry_id = ?"
	rows, err := t.exec(ctx, remove, r.consumer, r.letter.Stream, r.letter.ID.Sortable())
	if err != nil {
		return fmt.Errorf("remove the dead letter: %w", err)
	}
	if rows == 0 {
		return ErrNoDeadLetter
	}
	if handle != nil {
		again := []bool{false}
		if r.key != "" {
			if again, err = s.seen(ctx, r.consumer, []string{r.key}); err != nil {
				return err
			}
		}
		if !again[0] {
			if err := handle(t.next(nil, r.key)); err != nil {
				return err
			}
			if err := t.record(ctx); err != nil {
				return err
			}
		}
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}
