package consumer

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/remedy"
)

// SQLStore is a Store in a SQL database: handlers get the *sql.Tx in which the
// consumer's position changes too. It uses the driver's connections as they are:
// each stream that a process works on needs up to two of them at a time.
//
// A worker that is frozen in the middle of a transaction, process and all, keeps
// its row locks until the database ends its session. In PostgreSQL the store sees
// to that, with an idle_in_transaction_session_timeout of four leases; in MySQL set wait_timeout for
// the sessions of the pool, to about the lease.
type SQLStore struct {
	db *sql.DB
	d  *dialect
}

// maxIdle is how many leases a transaction may be idle, which a handler makes it
// that waits for something else, before PostgreSQL takes its worker for frozen.
const maxIdle = 4

// PostgreSQL returns the Store in a PostgreSQL database, version 11 or later. The
// caller closes db, after the consumers have ended.
func PostgreSQL(db *sql.DB) *SQLStore { return &SQLStore{db: db, d: &postgreSQL} }

// MySQL returns the Store in a database of MySQL 8.0, MariaDB 10.6 or later. The
// caller closes db, after the consumers have ended.
func MySQL(db *sql.DB) *SQLStore { return &SQLStore{db: db, d: &mySQL} }

// Migrate makes the tables that are missing. It can be called by many processes
// at once, and every time.
func (s *SQLStore) Migrate(ctx context.Context) (err error) {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("make the consumer's tables: %w", err)
	}
	defer func() { err = errors.Join(err, ended(tx.Rollback())) }()
	if s.d.numbered { // which else may trip over the other's IF NOT EXISTS
		if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock(hashtext('reservoir_consumer'))"); err != nil {
			return fmt.Errorf("make the consumer's tables: %w", err)
		}
	}
	for statement := range strings.SplitSeq(s.d.schema, ";\n") {
		if strings.TrimSpace(statement) == "" {
			continue
		}
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("make the consumer's tables: %w", err)
		}
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("make the consumer's tables: %w", err)
	}
	return nil
}

// ended leaves out the error that says that there is nothing to roll back.
func ended(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return err
}

func (s *SQLStore) exec(ctx context.Context, statement string, args ...any) (int64, error) {
	result, err := s.db.ExecContext(ctx, s.d.sql(statement), args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// fenced is exec for a statement that changes the row of a lease.
func (s *SQLStore) fenced(ctx context.Context, what, statement string, args ...any) error {
	rows, err := s.exec(ctx, statement, args...)
	if err == nil && rows == 0 {
		err = ErrFenced
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func (s *SQLStore) check(ctx context.Context) error {
	if err := s.db.PingContext(ctx); err != nil {
		return fmt.Errorf("reach the %s database: %w", s.d.name, err)
	}
	for _, table := range []string{"checkpoints", "members", "events", "dead_letters"} {
		rows, err := s.db.QueryContext(ctx, "SELECT consumer FROM reservoir_consumer_"+table+" LIMIT 0")
		if err != nil {
			return remedy.Wrapf(fmt.Errorf("%w: %w", ErrNotMigrated, err), "Call Migrate of the SQLStore, or run the schema of package consumer with your own tool.")
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return fmt.Errorf("look at the consumer's tables: %w", err)
		}
	}
	return nil
}

func (s *SQLStore) join(ctx context.Context, consumer, owner string, ttl time.Duration) (n int, err error) {
	if _, err := s.exec(ctx, s.d.member, consumer, owner, ttl.Microseconds()); err != nil {
		return 0, fmt.Errorf("join consumer %q: %w", consumer, err)
	}
	const count = "SELECT count(*) FROM reservoir_consumer_members WHERE consumer = ? AND seen_until > {now}"
	if err := s.db.QueryRowContext(ctx, s.d.sql(count), consumer).Scan(&n); err != nil {
		return 0, fmt.Errorf("count the processes of consumer %q: %w", consumer, err)
	}
	return n, nil
}

func (s *SQLStore) leave(ctx context.Context, consumer, owner string) error {
	const gone = "DELETE FROM reservoir_consumer_members WHERE consumer = ? AND (member = ? OR seen_until < {later})"
	if _, err := s.exec(ctx, gone, consumer, owner, (-24 * time.Hour).Microseconds()); err != nil {
		return fmt.Errorf("leave consumer %q: %w", consumer, err)
	}
	return nil
}

const ofPlace = " WHERE consumer = ? AND stream = ?"

func (s *SQLStore) acquire(ctx context.Context, p place, owner string, ttl time.Duration) (lease, checkpoint, bool, error) {
	fail := func(err error) (lease, checkpoint, bool, error) {
		return lease{}, checkpoint{}, false, fmt.Errorf("take the lease of stream %q: %w", p.stream, err)
	}
	const take = `UPDATE reservoir_consumer_checkpoints SET epoch = epoch + 1, owner = ?, leased_until = {later}` +
		ofPlace + ` AND (leased_until < {now} OR owner = ?)`
	args := []any{owner, ttl.Microseconds(), p.consumer, p.stream, owner}
	rows, err := s.exec(ctx, take, args...)
	if err != nil {
		return fail(err)
	}
	l := lease{place: p, owner: owner, ttl: ttl}
	const read = "SELECT owner, epoch FROM reservoir_consumer_checkpoints" + ofPlace
	for {
		var holder string
		err := s.db.QueryRowContext(ctx, s.d.sql(read), p.consumer, p.stream).Scan(&holder, &l.epoch)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			const add = "{ignore} reservoir_consumer_checkpoints (consumer, stream) VALUES (?, ?) {conflict}"
			if _, err := s.exec(ctx, add, p.consumer, p.stream); err != nil {
				return fail(err)
			}
			if rows, err = s.exec(ctx, take, args...); err != nil {
				return fail(err)
			}
			continue
		case err != nil:
			return fail(err)
		case rows == 0 || holder != owner:
			return lease{}, checkpoint{}, false, nil
		}
		at, err := s.load(ctx, l)
		if errors.Is(err, ErrFenced) {
			return lease{}, checkpoint{}, false, nil
		}
		if err != nil {
			return fail(err)
		}
		return l, at, true, nil
	}
}

func (s *SQLStore) load(ctx context.Context, l lease) (at checkpoint, err error) {
	var epoch int64
	var position, failed string
	const read = "SELECT epoch, position, added, failed_id, failed_attempts, failed_error FROM reservoir_consumer_checkpoints" + ofPlace
	err = s.db.QueryRowContext(ctx, s.d.sql(read), l.consumer, l.stream).
		Scan(&epoch, &position, &at.added, &failed, &at.failed.attempts, &at.failed.text)
	if err == nil && epoch != l.epoch || errors.Is(err, sql.ErrNoRows) {
		err = ErrFenced
	}
	if err == nil {
		at.set, at.position, at.failed.id, err = parsePlaces(position, failed)
	}
	if err != nil {
		return checkpoint{}, fmt.Errorf("read the checkpoint of stream %q: %w", l.stream, err)
	}
	return at, nil
}

// parsePlaces reads the IDs of a checkpoint as they are stored.
func parsePlaces(position, failed string) (set bool, at, failedAt event.ID, err error) {
	if failed != "" {
		if failedAt, err = event.ParseID(failed); err != nil {
			return false, event.ID{}, event.ID{}, err
		}
	}
	if position == "" {
		return false, event.ID{}, failedAt, nil
	}
	at, err = event.ParseID(position)
	return true, at, failedAt, err
}

func (s *SQLStore) renew(ctx context.Context, l lease, ttl time.Duration) error {
	return s.fenced(ctx, "renew the lease", "UPDATE reservoir_consumer_checkpoints SET leased_until = {later}"+ofPlace+" AND epoch = ?",
		ttl.Microseconds(), l.consumer, l.stream, l.epoch)
}

func (s *SQLStore) release(ctx context.Context, l lease) error {
	return s.fenced(ctx, "release the lease",
		"UPDATE reservoir_consumer_checkpoints SET leased_until = {later}, owner = ''"+ofPlace+" AND epoch = ?",
		-time.Second.Microseconds(), l.consumer, l.stream, l.epoch)
}

func (s *SQLStore) fail(ctx context.Context, l lease, f failure) error {
	return s.fenced(ctx, "record a failed attempt",
		"UPDATE reservoir_consumer_checkpoints SET failed_id = ?, failed_attempts = ?, failed_error = ?, updated_at = {now}"+ofPlace+" AND epoch = ?",
		f.id.String(), f.attempts, s.d.text(f.text), l.consumer, l.stream, l.epoch)
}

func (s *SQLStore) seek(ctx context.Context, p place, at checkpoint) error {
	const add = "{ignore} reservoir_consumer_checkpoints (consumer, stream) VALUES (?, ?) {conflict}"
	if _, err := s.exec(ctx, add, p.consumer, p.stream); err != nil {
		return fmt.Errorf("set the position: %w", err)
	}
	return s.fenced(ctx, "set the position", `UPDATE reservoir_consumer_checkpoints SET position = ?, added = ?, epoch = epoch + 1,
		leased_until = {later}, owner = '', failed_id = '', failed_attempts = 0, failed_error = '', updated_at = {now}`+ofPlace,
		at.position.String(), at.added, -time.Second.Microseconds(), p.consumer, p.stream)
}

func (s *SQLStore) seen(ctx context.Context, consumer string, keys []string) ([]bool, error) {
	there := map[string]bool{}
	for some := range slices.Chunk(keys, maxKeys) {
		if err := s.lookFor(ctx, consumer, some, there); err != nil {
			return nil, fmt.Errorf("look for the events' keys: %w", err)
		}
	}
	seen := make([]bool, len(keys))
	for i, key := range keys {
		seen[i] = there[shortKey(key)]
	}
	return seen, nil
}

// lookFor adds those of the keys that are recorded to there.
func (s *SQLStore) lookFor(ctx context.Context, consumer string, keys []string, there map[string]bool) (err error) {
	args := []any{consumer}
	for _, key := range padded(keys) {
		args = append(args, shortKey(key))
	}
	marks := strings.Repeat(", ?", len(args)-1)[2:]
	rows, err := s.db.QueryContext(ctx, s.d.sql("SELECT event_key FROM reservoir_consumer_events WHERE consumer = ? AND event_key IN ("+marks+")"), args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var key string
		if err := rows.Scan(&key); err != nil {
			return err
		}
		there[key] = true
	}
	return rows.Err()
}

func (s *SQLStore) prune(ctx context.Context, consumer string, age time.Duration) error {
	for {
		rows, err := s.exec(ctx, s.d.prune, consumer, -age.Microseconds())
		if err != nil {
			return fmt.Errorf("forget old event keys: %w", err)
		}
		if rows == 0 {
			return nil
		}
	}
}

func (s *SQLStore) begin(ctx context.Context, l lease) (transaction[*sql.Tx], error) {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("begin a transaction: %w", err)
	}
	if s.d.freeze != "" {
		if _, err := tx.ExecContext(ctx, s.d.sql(s.d.freeze), strconv.FormatInt(maxIdle*l.ttl.Milliseconds(), 10)); err != nil {
			return nil, errors.Join(fmt.Errorf("begin a transaction: %w", err), ended(tx.Rollback()))
		}
	}
	return &sqlTransaction{store: s, lease: l, tx: tx}, nil
}
