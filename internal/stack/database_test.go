package stack_test

import (
	"context"
	"database/sql"
	"testing"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
)

func TestPostgres(t *testing.T) {
	t.Parallel()
	p := stacktest.Postgres(t)
	testDatabase(t, p, "pgx", p.URL())
}

func TestMySQL(t *testing.T) {
	t.Parallel()
	m := stacktest.MySQL(t)
	testDatabase(t, m, "mysql", m.DSN())
}

type restarting interface {
	Kill() error
	Restart(ctx context.Context) error
}

// testDatabase kills the server after a commit, and expects it to be there still.
func testDatabase(t *testing.T, server restarting, driver, address string) {
	t.Helper()
	before := open(t, driver, address)
	for _, statement := range []string{"CREATE TABLE t (n INT)", "INSERT INTO t VALUES (42)"} {
		if _, err := before.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := open(t, driver, address).QueryRowContext(t.Context(), "SELECT n FROM t").Scan(&n); err != nil || n != 42 {
		t.Fatalf("read %d, %v after the restart", n, err)
	}
}

func open(t *testing.T, driver, address string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}
