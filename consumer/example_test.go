package consumer_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reservoirhq/reservoir/consumer"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/redisstream"
)

// OrderPlaced is the payload of an event.
type OrderPlaced struct {
	Customer string `json:"customer"`
	Cents    int64  `json:"cents"`
}

// A projection in PostgreSQL that counts every order once: the live events, and
// the copies of them that a replay sends.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	servers, err := startServers(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer servers.Close()
	db := servers.db // sql.Open("pgx", "postgres://…")

	streams, err := redisstream.Connect(ctx, redisstream.Config{URL: servers.redisURL})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer streams.Close()

	store := consumer.PostgreSQL(db)
	if err := store.Migrate(ctx); err != nil {
		fmt.Println(err)
		return
	}

	mux := consumer.NewMux[*sql.Tx]()
	consumer.On(mux, "OrderPlaced", func(ctx context.Context, tx *sql.Tx, e consumer.Event[OrderPlaced]) error {
		_, err := tx.ExecContext(ctx, "UPDATE customers SET cents = cents + $1 WHERE name = $2", e.Data.Cents, e.Data.Customer)
		return err
	})

	c, err := consumer.New(consumer.Config[*sql.Tx]{
		Name: "revenue", Redis: streams, Streams: []string{"orders"}, Store: store, Mux: mux, Deduplicate: 30 * 24 * time.Hour,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()

	servers.XAdd("type", "OrderPlaced", "event_id", "1", "payload", `{"customer":"acme","cents":700}`)
	servers.XAdd("type", "OrderPlaced", "event_id", "2", "payload", `{"customer":"acme","cents":300}`)
	servers.XAdd("type", "OrderShipped", "event_id", "3") // no handler: skipped
	servers.XAdd("type", "OrderPlaced", "event_id", "1", "payload", `{"customer":"acme","cents":700}`,
		"reservoir_replay", "01HZ…", "reservoir_stream", "orders", "reservoir_id", "1700000000000-0") // a copy
	servers.XAdd("type", "OrderPlaced", "event_id", "4", "payload", `{"customer":"acme","cents":1}`)

	fmt.Println("revenue:", servers.WaitForRevenue(1001))
	stop()
	fmt.Println("ended:", <-done)
	// Output:
	// revenue: 1001
	// ended: <nil>
}

// A handler that must not repeat its effect for events that a replay sends again.
func ExampleRecord_Replay() {
	mux := consumer.NewMux[consumer.None]()
	mux.Handle("Order*", func(_ context.Context, _ consumer.None, r *consumer.Record) error {
		if _, stream, id, ok := r.Replay(); ok {
			fmt.Println("no mail for a copy of", stream, id)
			return nil
		}
		fmt.Println("mail for", r.ID)
		return nil
	})
}

// exampleServers are what an application has already.
type exampleServers struct {
	redis    *stack.Redis
	postgres *stack.Postgres
	redisURL string
	client   *redis.Client
	db       *sql.DB
}

func startServers(ctx context.Context) (s *exampleServers, err error) {
	s = &exampleServers{}
	if s.redis, err = stack.StartRedis(ctx, stack.RedisOptions{}); err != nil {
		return nil, err
	}
	if s.postgres, err = stack.StartPostgres(ctx); err != nil {
		return nil, err
	}
	s.redisURL = s.redis.URL()
	s.client = redis.NewClient(&redis.Options{Addr: s.redis.Addr(), DisableIdentity: true})
	if s.db, err = sql.Open("pgx", s.postgres.URL()); err != nil {
		return nil, err
	}
	for _, statement := range []string{"CREATE TABLE customers (name text PRIMARY KEY, cents bigint NOT NULL)", "INSERT INTO customers VALUES ('acme', 0)"} {
		if _, err := s.db.ExecContext(ctx, statement); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *exampleServers) XAdd(fields ...any) {
	if err := s.client.XAdd(context.Background(), &redis.XAddArgs{Stream: "orders", Values: fields}).Err(); err != nil {
		fmt.Println(err)
	}
}

func (s *exampleServers) WaitForRevenue(want int64) (cents int64) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 1000 {
		if err := s.db.QueryRow("SELECT cents FROM customers WHERE name = 'acme'").Scan(&cents); err != nil || cents == want {
			break
		}
		<-tick.C
	}
	return cents
}

func (s *exampleServers) Close() {
	for _, end := range []func() error{s.db.Close, s.client.Close, s.redis.Close, s.postgres.Close} {
		if err := end(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}
