package consumer_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/trace"

	"github.com/reservoirhq/reservoir/consumer"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/redisstream"
)

// deposit is an event's payload: money for an account.
type deposit struct {
	Account string `json:"account"`
	Amount  int64  `json:"amount"`
	// Chain books so that the order of the bookings shows in the balance.
	Chain bool `json:"chain,omitempty"`
}

// book is what a booking makes of a balance.
func (d deposit) book(balance int64) int64 {
	if d.Chain {
		return (balance*31 + d.Amount) % 1000003
	}
	return balance + d.Amount
}

// settings are what a test wants of a consumer.
type settings struct {
	name    string
	streams []string
	start   consumer.Start
	batch   int
	dedup   time.Duration
	retry   consumer.Retry
	lease   time.Duration
	stop    time.Duration
	lost    func(context.Context, string, redisstream.Loss)
	metrics prometheus.Registerer
	traces  trace.TracerProvider
	logger  *slog.Logger
	types   string // default "Deposit"
	// before runs in the handler before the money is booked, after when it is.
	before, after func(context.Context, *consumer.Record) error
}

// running is a Consumer of any store.
type running interface {
	Run(ctx context.Context) error
}

// bank keeps accounts in one kind of store.
type bank struct {
	kind, address string // for a child
	redisURL      string
	client        *redisstream.Client
	admin         *redis.Client
	db            *sql.DB // nil: in Redis
}

// banks starts one bank for each kind of store, on servers of their own.
func banks(t *testing.T, test func(t *testing.T, b *bank)) {
	t.Helper()
	for _, kind := range []string{"postgresql", "mysql", "redis", "at least once"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			test(t, newBank(t, kind))
		})
	}
}

func newBank(t testing.TB, kind string) *bank {
	t.Helper()
	server := stacktest.Redis(t, stack.RedisOptions{})
	address := server.Addr()
	switch kind {
	case "postgresql":
		address = stacktest.Postgres(t).URL()
	case "mysql":
		address = stacktest.MySQL(t).DSN() + "?wait_timeout=4"
	}
	b, err := openBank(t.Context(), kind, address, server.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func openBank(ctx context.Context, kind, address, redisURL string) (b *bank, err error) {
	b = &bank{kind: kind, address: address, redisURL: redisURL}
	if b.client, err = redisstream.Connect(ctx, redisstream.Config{URL: redisURL}); err != nil {
		return nil, err
	}
	opts, err := redis.ParseURL(redisURL)
	if err != nil {
		return nil, err
	}
	opts.DisableIdentity = true
	b.admin = redis.NewClient(opts)
	tables := []string{
		"CREATE TABLE IF NOT EXISTS accounts (name VARCHAR(100) PRIMARY KEY, balance BIGINT NOT NULL, bookings BIGINT NOT NULL)",
	}
	switch kind {
	case "postgresql":
		b.db, err = sql.Open("pgx", address)
	case "mysql":
		b.db, err = sql.Open("mysql", address)
	default:
		return b, nil
	}
	if err != nil {
		return nil, err
	}
	if err := b.sqlStore().Migrate(ctx); err != nil {
		return nil, err
	}
	for _, table := range tables {
		if _, err := b.db.ExecContext(ctx, table); err != nil && kind == "mysql" {
			return nil, err
		}
	}
	return b, nil
}

func (b *bank) close() error {
	err := errors.Join(b.client.Close(), b.admin.Close())
	if b.db != nil {
		err = errors.Join(err, b.db.Close())
	}
	return err
}

func (b *bank) sqlStore() *consumer.SQLStore {
	if b.kind == "mysql" {
		return consumer.MySQL(b.db)
	}
	return consumer.PostgreSQL(b.db)
}

func (b *bank) redisStore() *consumer.RedisStore { return consumer.Redis(b.admin, "") }

// consumer makes a consumer that books deposits.
func (b *bank) consumer(s settings) (running, error) {
	switch b.kind {
	case "postgresql", "mysql":
		return newConsumer(b, s, b.sqlStore(), b.bookSQL)
	case "redis":
		return newConsumer(b, s, b.redisStore(), func(ctx context.Context, pipe redis.Pipeliner, d deposit) error {
			if d.Chain {
				pipe.Eval(ctx, "local b = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0')\n"+
					"redis.call('HSET', KEYS[1], ARGV[1], string.format('%d', (b * 31 + ARGV[2]) % 1000003))", []string{"{reservoir}:balances"}, d.Account, d.Amount)
			} else {
				pipe.HIncrBy(ctx, "{reservoir}:balances", d.Account, d.Amount)
			}
			pipe.HIncrBy(ctx, "{reservoir}:bookings", d.Account, 1)
			return nil
		})
	default:
		return newConsumer(b, s, consumer.AtLeastOnce(b.redisStore()), func(ctx context.Context, _ consumer.None, d deposit) error {
			return errors.Join(b.admin.HIncrBy(ctx, "{reservoir}:balances", d.Account, d.Amount).Err(),
				b.admin.HIncrBy(ctx, "{reservoir}:bookings", d.Account, 1).Err())
		})
	}
}

func (b *bank) bookSQL(ctx context.Context, tx *sql.Tx, d deposit) error {
	sum := "accounts.balance + ?"
	if d.Chain {
		sum = "(accounts.balance * 31 + ?) % 1000003"
	}
	book := "INSERT INTO accounts (name, balance, bookings) VALUES (?, ?, 1) ON DUPLICATE KEY UPDATE balance = " + sum + ", bookings = bookings + 1"
	if b.kind == "postgresql" {
		book = "INSERT INTO accounts (name, balance, bookings) VALUES ($1, $2, 1) ON CONFLICT (name) DO UPDATE SET balance = " +
			strings.Replace(sum, "?", "$3", 1) + ", bookings = accounts.bookings + 1"
	}
	_, err := tx.ExecContext(ctx, book, d.Account, d.Amount, d.Amount)
	return err
}

func newConsumer[Tx any](b *bank, s settings, store consumer.Store[Tx], book func(context.Context, Tx, deposit) error) (running, error) {
	mux := consumer.NewMux[Tx]()
	types := s.types
	if types == "" {
		types = "Deposit"
	}
	consumer.On(mux, types, func(ctx context.Context, tx Tx, e consumer.Event[deposit]) error {
		if s.before != nil {
			if err := s.before(ctx, e.Record); err != nil {
				return err
			}
		}
		if err := book(ctx, tx, e.Data); err != nil {
			return err
		}
		if s.after != nil {
			return s.after(ctx, e.Record)
		}
		return nil
	})
	return consumer.New(consumer.Config[Tx]{
		Name: s.name, Redis: b.client, Streams: s.streams, Store: store, Mux: mux, Start: s.start, Batch: s.batch,
		Deduplicate: s.dedup, Retry: s.retry, Lease: s.lease, StopTimeout: s.stop, Lost: s.lost,
		Metrics: s.metrics, Traces: s.traces, Logger: s.logger,
	})
}

// start runs a consumer until the returned function is called.
func (b *bank) start(t testing.TB, s settings) (stop func()) {
	t.Helper()
	if s.lease == 0 {
		s.lease = time.Second
	}
	c, err := b.consumer(s)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// add adds one event and returns its ID.
func (b *bank) add(t *testing.T, stream string, fields ...any) string {
	t.Helper()
	id, err := b.admin.Do(t.Context(), append([]any{"XADD", stream, "*"}, fields...)...).Text()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (b *bank) deposit(t *testing.T, stream, account string, amount int) string {
	t.Helper()
	return b.add(t, stream, "type", "Deposit", "payload", fmt.Sprintf(`{"account":%q,"amount":%d}`, account, amount))
}

// account returns what an account holds, and how many bookings made it.
func (b *bank) account(t *testing.T, name string) (balance, bookings int64) {
	t.Helper()
	if b.db == nil {
		var sums [2]int64
		for i, key := range []string{"{reservoir}:balances", "{reservoir}:bookings"} {
			n, err := b.admin.HGet(t.Context(), key, name).Int64()
			if err != nil && !errors.Is(err, redis.Nil) {
				t.Fatal(err)
			}
			sums[i] = n
		}
		return sums[0], sums[1]
	}
	err := b.db.QueryRowContext(t.Context(), "SELECT balance, bookings FROM accounts WHERE name = '"+name+"'").Scan(&balance, &bookings)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		t.Fatal(err)
	}
	return balance, bookings
}

// holds waits until an account has a balance.
func (b *bank) holds(t *testing.T, name string, want int64) {
	t.Helper()
	waitFor(t, fmt.Sprintf("%s to hold %d", name, want), func() (string, bool) {
		balance, bookings := b.account(t, name)
		return fmt.Sprintf("balance %d of %d bookings", balance, bookings), balance == want
	})
}

// position returns the consumer's checkpoint.
func (b *bank) position(t *testing.T, name, stream string) string {
	t.Helper()
	if b.db == nil {
		at, err := b.admin.HGet(t.Context(), "{reservoir}:consumer:"+name+":at:"+stream, "position").Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			t.Fatal(err)
		}
		return at
	}
	var at string
	err := b.db.QueryRowContext(t.Context(),
		"SELECT position FROM reservoir_consumer_checkpoints WHERE consumer = '"+name+"' AND stream = '"+stream+"'").Scan(&at)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		t.Fatal(err)
	}
	return at
}

// reaches waits until the checkpoint is an ID.
func (b *bank) reaches(t *testing.T, name, stream, id string) {
	t.Helper()
	waitFor(t, "position "+id, func() (string, bool) {
		at := b.position(t, name, stream)
		return at, at == id
	})
}

// dead returns the dead letters of a consumer: ID, attempts and error of each.
func (b *bank) dead(t *testing.T, name string) (letters [][3]string) {
	t.Helper()
	if b.db == nil {
		entries, err := b.admin.XRange(t.Context(), b.redisStore().DeadLetterStream(name), "-", "+").Result()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			letters = append(letters, [3]string{e.Values["reservoir_dead_id"].(string), e.Values["reservoir_dead_attempts"].(string), e.Values["reservoir_dead_error"].(string)})
		}
		return letters
	}
	rows, err := b.db.QueryContext(t.Context(),
		"SELECT entry_id, attempts, error FROM reservoir_consumer_dead_letters WHERE consumer = '"+name+"' ORDER BY stream, entry_id")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id, text string
		var attempts int
		if err := rows.Scan(&id, &attempts, &text); err != nil {
			t.Fatal(err)
		}
		letters = append(letters, [3]string{plainID(t, id), strconv.Itoa(attempts), text})
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return letters
}

func waitFor(t *testing.T, what string, done func() (string, bool)) {
	t.Helper()
	deadline := time.After(40 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		last, ok := done()
		if ok {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("waited for %s: %s", what, last)
		case <-tick.C:
		}
	}
}
