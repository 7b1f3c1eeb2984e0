package stack_test

import (
	"testing"

	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
)

func TestClickHouseKeepsItsData(t *testing.T) {
	c, ctx := stacktest.ClickHouse(t, stack.ClickHouseOptions{}), t.Context()
	query := func(statement, want string) {
		t.Helper()
		if got, err := c.Query(ctx, statement); err != nil || got != want {
			t.Fatalf("%s = %q, %v; want %q", statement, got, err, want)
		}
	}
	query("CREATE DATABASE shop", "")
	query("CREATE TABLE shop.orders (id UInt64) ORDER BY id", "")
	query("INSERT INTO shop.orders VALUES (18446744073709551615)", "")
	for name, down := range map[string]func() error{"kill": c.Kill, "stop": c.Stop} {
		if err := down(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := c.Restart(ctx); err != nil {
			t.Fatalf("restart after %s: %v", name, err)
		}
		query("SELECT id FROM shop.orders", "18446744073709551615\n")
	}
	if _, err := c.Query(ctx, "SELECT nonsense"); !contains(err, "UNKNOWN_IDENTIFIER") {
		t.Errorf("a wrong query: %v, want ClickHouse's own words", err)
	}
}

func TestTwoEnginesSideBySide(t *testing.T) {
	for range 2 {
		c := stacktest.ClickHouse(t, stack.ClickHouseOptions{})
		if got, err := c.Query(t.Context(), "SELECT currentUser()"); err != nil || got != "default\n" {
			t.Errorf("select = %q, %v", got, err)
		}
	}
}
