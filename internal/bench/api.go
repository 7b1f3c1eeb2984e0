package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reservoirhq/reservoir/internal/stack"
)

// apiStreams are what producers write to while clients ask.
var apiStreams = [...]string{"shop:orders", "shop:payments", "shop:shipments", "shop:returns"}

const (
	apiRate    = 500    // events that are published a second, of all streams
	apiReplay  = 1000   // events that are replayed a second
	apiRebuild = 10_000 // events that a rebuild loads a second
	apiPaused  = 20     // jobs that wait, beside those that run
)

const apiDefinition = `
name: orders
kind: sql
source: {streams: ["shop:*"]}
table:
  engine: ReplacingMergeTree(version)
  order_by: [order_id]
  columns: {order_id: String, tenant: String, total: Float64, version: UInt64}
select: |
  SELECT aggregate_id AS order_id, tenant, JSONExtractFloat(payload, 'total') AS total, id_ms * 1000 + id_seq AS version FROM events
`

// apiBench is a server in a process of its own, and what it serves.
type apiBench struct {
	*servers
	opts   options
	raw    *redis.Client
	url    string
	server *exec.Cmd
	said   *bytes.Buffer
	admin  string   // a token
	tokens []string // one for each client

	replay  string                 // the job that replays all the while
	rebuild atomic.Pointer[string] // the job that rebuilds now
	paused  []string               // jobs
}

// benchAPI asks a server that archives, rebuilds and replays meanwhile.
func benchAPI(ctx context.Context, opts options) error {
	setDefault(&opts.events, 200_000)
	return withServers(ctx, func(s *servers) (err error) {
		b := &apiBench{servers: s, opts: opts, raw: redis.NewClient(&redis.Options{Addr: s.redis.Addr()})}
		defer func() { err = errors.Join(err, b.raw.Close()) }()
		engine, err := stack.StartClickHouse(ctx, stack.ClickHouseOptions{Dir: filepath.Join(s.dir, "clickhouse")})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, engine.Close()) }()
		if err := b.prepare(ctx, engine.URL()); err != nil {
			return err
		}
		if err := b.serve(ctx); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, b.stop()) }()
		if err := b.order(ctx); err != nil {
			return err
		}
		return b.measureBeside(ctx)
	})
}

func (b *apiBench) prepare(ctx context.Context, clickhouse string) error {
	definitions := filepath.Join(b.dir, "definitions")
	if err := errors.Join(os.MkdirAll(definitions, 0o700), os.WriteFile(filepath.Join(definitions, "orders.yaml"), []byte(apiDefinition), 0o600)); err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		return err
	}
	b.url = "http://" + address
	b.env = []string{
		"RESERVOIR_CLICKHOUSE_URL=" + clickhouse, "RESERVOIR_PROJECTIONS_DIR=" + definitions, "RESERVOIR_SERVER_LISTEN=" + address,
		"RESERVOIR_ARCHIVE_ROLL_AGE=5s", "RESERVOIR_STREAMS_INCLUDE=shop:*",
	}
	if b.opts.every == 0 { // no client shall be refused for asking too much
		b.env = append(b.env, "RESERVOIR_SERVER_RATE=100000", "RESERVOIR_SERVER_BURST=100000")
	}
	const batch = 1000
	for done := 0; done < b.opts.events; done += batch {
		if err := b.publish(ctx, done, batch); err != nil {
			return err
		}
	}
	if _, _, err := b.child(ctx, b.storeURL(false, "api"), "archive", "--once"); err != nil {
		return err
	}
	_, admin, err := b.child(ctx, b.storeURL(false, "api"), "token", "create", "--name", "bench", "--role", "admin", "--quiet")
	b.admin = strings.TrimSpace(string(admin))
	return err
}

// publish adds events to the streams in turn.
func (b *apiBench) publish(ctx context.Context, first, n int) error {
	pipe := b.raw.Pipeline()
	for i := first; i < first+n; i++ {
		pipe.XAdd(ctx, &redis.XAddArgs{Stream: apiStreams[i%len(apiStreams)], Values: []any{
			"event_id", fmt.Sprint("e", i), "type", "OrderPlaced", "tenant", fmt.Sprint("t", i%100), "aggregate_type", "order", "aggregate_id", fmt.Sprint("o", i%10_000),
			"payload", fmt.Sprintf(`{"total":%d.5,"note":%q}`, i%500, strings.Repeat("x", 100)),
		}})
	}
	_, err := pipe.Exec(ctx)
	return err
}

// serve starts the server, and waits until it serves.
func (b *apiBench) serve(ctx context.Context) error {
	b.server, b.said = b.command(ctx, b.storeURL(false, "api"), "serve", "--archive", "--project")
	if err := b.server.Start(); err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := b.call(ctx, http.DefaultClient, http.MethodGet, "/readyz", b.admin, ""); err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("the server does not serve: %w: %s", ctx.Err(), b.said), b.stop())
		}
	}
}

func (b *apiBench) stop() error {
	if err := b.server.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop the server: %w", err)
	}
	if err := b.server.Wait(); err != nil {
		return fmt.Errorf("the server: %w: %s", err, b.said)
	}
	return nil
}

// call sends a request; the answer must be a success.
func (b *apiBench) call(ctx context.Context, client *http.Client, method, path, token, body string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, b.url+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	response, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return nil, err
	}
	if response.StatusCode/100 != 2 {
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, response.Status, text)
	}
	return text, nil
}

// ask sends a request as the admin, and decodes its answer.
func (b *apiBench) ask(ctx context.Context, method, path, body string, answer any) error {
	text, err := b.call(ctx, http.DefaultClient, method, path, b.admin, body)
	if err == nil {
		err = json.Unmarshal(text, answer)
	}
	return err
}

// create creates a job.
func (b *apiBench) create(ctx context.Context, path, body string) (id string, err error) {
	var job struct{ ID string }
	err = b.ask(ctx, http.MethodPost, path, body, &job)
	return job.ID, err
}

// order makes a token for each client, the replay, and jobs that wait.
func (b *apiBench) order(ctx context.Context) (err error) {
	for i := range apiClients {
		var made struct{ Text string }
		if err := b.ask(ctx, http.MethodPost, "/v1/tokens", fmt.Sprintf(`{"name":"client %d","role":"viewer"}`, i), &made); err != nil {
			return err
		}
		b.tokens = append(b.tokens, made.Text)
	}
	// It follows its stream, so that it does not end.
	replay := fmt.Sprintf(`{"spec":{"streams":["shop:orders"],"follow":true,"pace":{"rate":%d},"sink":{"type":"redis","options":{"stream":"copy"}}}}`, apiReplay)
	if b.replay, err = b.create(ctx, "/v1/replays", replay); err != nil {
		return err
	}
	for i := range apiPaused {
		id, err := b.create(ctx, "/v1/replays", fmt.Sprintf(`{"paused":true,"spec":{"streams":["shop:orders"],"limit":%d,"sink":{"type":"redis","options":{"stream":"copy"}}}}`, i+1))
		if err != nil {
			return err
		}
		b.paused = append(b.paused, id)
	}
	return nil
}
