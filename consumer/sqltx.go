package consumer

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"unicode/utf8"
)

// sqlTransaction is a transaction of a SQLStore. It changes the checkpoint's row
// last, so that the lock on it is short.
type sqlTransaction struct {
	store *SQLStore
	lease lease
	tx    *sql.Tx
	keys  []string
}

// maxKeys is how many keys one statement holds.
const maxKeys = 1024

func (t *sqlTransaction) exec(ctx context.Context, statement string, args ...any) (int64, error) {
	result, err := t.tx.ExecContext(ctx, t.store.d.sql(statement), args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

func (t *sqlTransaction) next(_ *Record, key string) *sql.Tx {
	if key != "" {
		t.keys = append(t.keys, shortKey(key))
	}
	return t.tx
}

// record records the keys, in an order that keeps workers from waiting for each
// other in circles.
func (t *sqlTransaction) record(ctx context.Context) error {
	slices.Sort(t.keys)
	for keys := range slices.Chunk(t.keys, maxKeys) {
		args := make([]any, 0, 4*len(keys))
		for _, key := range padded(keys) {
			args = append(args, t.lease.consumer, key)
		}
		values := strings.Repeat(", (?, ?, {now})", len(args)/2)[2:]
		rows, err := t.exec(ctx, "{ignore} reservoir_consumer_events (consumer, event_key, handled_at) VALUES "+values+" {conflict}", args...)
		if err != nil {
			return fmt.Errorf("record the events' keys: %w", err)
		}
		if int(rows) != len(keys) {
			return errTaken
		}
	}
	return nil
}

// padded repeats the last key until there is a power of two of them, so that there
// are few different statements to prepare.
func padded(keys []string) []string {
	n := 1 << bits.Len(uint(len(keys)-1))
	all := append(make([]string, 0, n), keys...)
	for len(all) < n {
		all = append(all, keys[len(keys)-1])
	}
	return all
}

// undo cannot: what one handler wrote is in the same transaction as the others'.
func (t *sqlTransaction) undo() bool { return false }

func (t *sqlTransaction) deadLetter(ctx context.Context, d *DeadLetter) error {
	fields, err := marshalFields(d.Fields)
	if err != nil {
		return fmt.Errorf("write a dead letter: %w", err)
	}
	const add = `{ignore} reservoir_consumer_dead_letters
		(consumer, stream, entry_id, event_type, event_key, attempts, error, fields, failed_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, {now}) {conflict}`
	text := t.store.d.text
	if _, err := t.exec(ctx, add, t.lease.consumer, d.Stream, d.ID.Sortable(), shortKey(text(d.Type)), shortKey(d.Key), d.Attempts,
		text(d.Error), fields); err != nil {
		return fmt.Errorf("write a dead letter: %w", err)
	}
	return nil
}

func (t *sqlTransaction) commit(ctx context.Context, from, to checkpoint) error {
	if err := t.record(ctx); err != nil {
		return err
	}
	const save = `UPDATE reservoir_consumer_checkpoints
		SET position = ?, added = ?, failed_id = '', failed_attempts = 0, failed_error = '', updated_at = {now}` + ofPlace + " AND epoch = ? AND position = ?"
	rows, err := t.exec(ctx, save, to.text(), to.added, t.lease.consumer, t.lease.stream, t.lease.epoch, from.text())
	if err == nil && rows == 0 {
		err = ErrFenced
	}
	if err == nil {
		err = t.tx.Commit()
	}
	if err != nil {
		return fmt.Errorf("commit position %s: %w", to.position, err)
	}
	return nil
}

func (t *sqlTransaction) rollback() error { return ended(t.tx.Rollback()) }

// text makes what any database takes as text of s.
func (d *dialect) text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// shortKey makes a key that fits a column of the tables: one that is too long, or
// not text, by its SHA-256.
func shortKey(key string) string {
	if len(key) <= 255 && utf8.ValidString(key) && !strings.Contains(key, "\x00") {
		return key
	}
	sum := sha256.Sum256([]byte(key))
	return "sha256:" + hex.EncodeToString(sum[:])
}
