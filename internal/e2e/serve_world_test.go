package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
)

// serveWorld is what `reservoir serve` serves: events in Redis, a projection of them, and
// a ClickHouse with users, of whom one may only read.
type serveWorld struct {
	*world
	ch  *stack.ClickHouse
	raw *redis.Client
	env []string // of servers
}

// newServeWorld has count events in the stream lane:a.
func newServeWorld(t *testing.T, count int) *serveWorld {
	t.Helper()
	users := filepath.Join(t.TempDir(), "users.xml")
	definitions := t.TempDir()
	for file, text := range map[string]string{users: someUsers, filepath.Join(definitions, "orders.yaml"): kitchenTables["orders"] + "approval: required\n"} {
		writeFile(t, file, text)
	}
	w := &serveWorld{world: newS3World(t, stack.RedisOptions{})}
	w.ch = stacktest.ClickHouse(t, stack.ClickHouseOptions{Config: "<users_config>" + users + "</users_config>", Relay: true})
	w.env = w.with(busyEnv, []string{
		"RESERVOIR_CLICKHOUSE_URL=" + w.ch.URL(), "RESERVOIR_PROJECTIONS_DIR=" + definitions, "RESERVOIR_JOBS_POLL=100ms", "RESERVOIR_SERVER_LISTEN=127.0.0.1:0",
	})
	options, err := redis.ParseURL(w.redis.URL())
	if err != nil {
		t.Fatal(err)
	}
	w.raw = redis.NewClient(options)
	t.Cleanup(func() { w.raw.Close() })
	pipe := w.raw.Pipeline()
	for n := range count {
		pipe.XAdd(t.Context(), &redis.XAddArgs{Stream: "lane:a", Values: []any{
			"event_id", fmt.Sprint("e", n), "type", "Sold", "tenant", "acme", "aggregate_type", "order", "aggregate_id", fmt.Sprint("o-", n%40), "payload", fmt.Sprintf(`{"n":%d}`, n+1),
		}})
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w
}

// newToken makes a token at the command line.
func (w *serveWorld) newToken(t *testing.T, role string) string {
	t.Helper()
	return strings.TrimSpace(mustReservoir(t, w.env, "token", "create", "--name", "ci-"+role, "--role", role, "--quiet").stdout)
}

// archived waits until so many events of lane:a are archived.
func (o *outside) archived(count uint64) {
	o.t.Helper()
	var stream struct{ Totals struct{ Events uint64 } }
	every(o.t, "for the archive", func() bool {
		response := o.send(o.t.Context(), "GET", "/v1/streams/lane%3Aa", "")
		defer response.Body.Close()
		return json.NewDecoder(response.Body).Decode(&stream) == nil && stream.Totals.Events == count
	})
}

// list gives what a list of jobs has.
func (o *outside) list(query string) []calledJob {
	o.t.Helper()
	var list struct{ Jobs []calledJob }
	if text := o.want(200, "GET", "/v1/jobs"+query, ""); json.Unmarshal([]byte(text), &list) != nil {
		o.t.Fatalf("no list: %s", text)
	}
	return list.Jobs
}

// readFile reads a file of the repository, by its path from the root.
func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
