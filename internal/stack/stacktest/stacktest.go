// Package stacktest starts the servers of package stack for a test and ends them
// with it. A server that is not installed fails the test: it is never skipped, except
// by -short, which asks for the tests that need no server.
package stacktest

import (
	"testing"

	"github.com/reservoirhq/reservoir/internal/stack"
)

// Redis starts a redis-server that lives as long as the test.
func Redis(t testing.TB, opts stack.RedisOptions) *stack.Redis {
	t.Helper()
	needsServer(t)
	if opts.Dir == "" {
		opts.Dir = t.TempDir()
	}
	r, err := stack.StartRedis(t.Context(), opts)
	return started(t, r, err)
}

// Sentinel starts a Redis Sentinel that watches the master under the given name and
// lives as long as the test.
func Sentinel(t testing.TB, name, master string) *stack.Redis {
	t.Helper()
	needsServer(t)
	r, err := stack.StartSentinel(t.Context(), name, master, stack.RedisOptions{Dir: t.TempDir()})
	return started(t, r, err)
}

// S3 starts an S3 server that lives as long as the test.
func S3(t testing.TB, opts stack.S3Options) *stack.S3 {
	t.Helper()
	needsServer(t)
	if opts.Dir == "" {
		opts.Dir = t.TempDir()
	}
	s, err := stack.StartS3(t.Context(), opts)
	return started(t, s, err)
}

// ClickHouse starts the ClickHouse engine, which lives as long as the test, behind a
// relay: see [stack.ClickHouseOptions].
func ClickHouse(t testing.TB, opts stack.ClickHouseOptions) *stack.ClickHouse {
	t.Helper()
	needsServer(t)
	if opts.Dir == "" {
		opts.Dir = t.TempDir()
	}
	opts.Relay = true
	c, err := stack.StartClickHouse(t.Context(), opts)
	return started(t, c, err)
}

// Postgres starts a PostgreSQL server that lives as long as the test.
func Postgres(t testing.TB) *stack.Postgres {
	t.Helper()
	needsServer(t)
	p, err := stack.StartPostgres(t.Context())
	return started(t, p, err)
}

// MySQL starts a MariaDB server that lives as long as the test.
func MySQL(t testing.TB) *stack.MySQL {
	t.Helper()
	needsServer(t)
	m, err := stack.StartMySQL(t.Context())
	return started(t, m, err)
}

// DuckDB runs statements in DuckDB and decodes the rows of the last one: see
// [stack.DuckDB].
func DuckDB(t testing.TB, statements string, rows any) {
	t.Helper()
	needsServer(t)
	if err := stack.DuckDB(t.Context(), statements, rows); err != nil {
		t.Fatal(err)
	}
}

func needsServer(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a server: run without -short")
	}
}

func started[S interface{ Close() error }](t testing.TB, s S, err error) S {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
