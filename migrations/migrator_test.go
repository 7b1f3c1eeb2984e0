package migrations_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/migrations"
)

func applied(list []migrations.Migration) string {
	var out []string
	for _, m := range list {
		out = append(out, fmt.Sprintf("%d %s %t", m.Version, m.Name, m.Applied))
	}
	return strings.Join(out, ", ")
}

func TestUpDownUp(t *testing.T) {
	b := newBench(t, false)
	ctx := t.Context()
	status := func() string {
		t.Helper()
		list, err := b.m.Status(ctx)
		b.must(err)
		for _, m := range list {
			if m.Applied == m.AppliedAt.IsZero() {
				t.Errorf("%+v", m)
			}
		}
		return applied(list)
	}
	move := func(how func(context.Context, int64) ([]migrations.Migration, error), to int64, want string) {
		t.Helper()
		done, err := how(ctx, to)
		b.must(err)
		if got := applied(done); got != want {
			t.Errorf("did %q, want %q", got, want)
		}
	}
	const none, first, all = "1 jobs false, 2 archive false", "1 jobs true, 2 archive false", "1 jobs true, 2 archive true"
	want := func(want string) {
		t.Helper()
		if got := status(); got != want {
			t.Errorf("status %q, want %q", got, want)
		}
	}
	want(none)
	if n := b.query("SELECT count() FROM system.databases WHERE name IN ('shop', 'archive')"); n != "0" {
		t.Errorf("asking for the status made %s databases", n)
	}
	move(b.m.Down, 0, "")
	if _, err := b.m.SyncArchive(ctx, b.arch, b.place); !errors.Is(err, migrations.ErrBehind) {
		t.Errorf("sync without tables: %v", err)
	}
	move(b.m.Up, 1, "1 jobs true")
	want(first)
	move(b.m.Up, 0, "2 archive true")
	move(b.m.Up, 0, "")
	want(all)
	b.add("orders", at(21, 7, 0), 10)
	b.sync()
	b.query("SELECT count() FROM archive.orders")
	if _, err := b.ch.Query(ctx, "CREATE TABLE shop.projection (a Int8) ENGINE = MergeTree ORDER BY a"); err != nil {
		t.Fatal(err)
	}
	move(b.m.Down, 1, "2 archive false")
	want(first)
	move(b.m.Down, 0, "1 jobs false")
	want(none)
	if left := b.query("SELECT arrayStringConcat(groupArray(name), ' ') FROM (SELECT name FROM system.tables WHERE database IN ('shop', 'archive') ORDER BY name)"); left != `"projection reservoir_migrations"` {
		t.Errorf("down leaves %s", left)
	}
	move(b.m.Up, 0, all)
	b.sync()
	if n := b.query("SELECT count() FROM archive.orders"); n != "10" {
		t.Errorf("%s events after up again", n)
	}
	if _, err := b.m.Up(ctx, 17); err == nil || !strings.Contains(err.Error(), "the last one is 2") {
		t.Errorf("up to an unknown version: %v", err)
	}
}

func TestDownKeepsWhatIsNotOurs(t *testing.T) {
	b := newBench(t, false)
	b.up()
	b.add("orders", at(21, 7, 0), 10)
	b.sync()
	if _, err := b.ch.Query(t.Context(), "CREATE VIEW archive.mine AS SELECT 1"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.m.Down(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if left := b.query("SELECT groupArray(name) FROM system.tables WHERE database = 'archive'"); left != `["mine"]` {
		t.Errorf("left %s", left)
	}
}

// TestUpAtOnce runs many at the same time, and after each statement that a killed one
// may have ended with.
func TestUpAtOnce(t *testing.T) {
	b := newBench(t, false)
	var group errgroup.Group
	for range 8 {
		m := b.migrator(b.config)
		group.Go(func() error {
			_, err := m.Up(t.Context(), 0)
			return err
		})
	}
	b.must(group.Wait())
	list, err := b.m.Status(t.Context())
	b.must(err)
	if got := applied(list); got != "1 jobs true, 2 archive true" {
		t.Errorf("status %q", got)
	}
	// Killed after any of its statements but before the version was written.
	for _, gone := range []string{"", "DROP VIEW shop.job_log", "DROP VIEW shop.rebuilds", "DROP TABLE shop.archive_streams SYNC"} {
		if gone != "" {
			if _, err := b.ch.Query(t.Context(), gone); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := b.ch.Query(t.Context(), "TRUNCATE TABLE shop.reservoir_migrations"); err != nil {
			t.Fatal(err)
		}
		b.up()
		b.query("SELECT count() FROM shop.job_log, shop.rebuilds, shop.replays, shop.archive_streams")
	}
	_, err = b.m.Down(t.Context(), 0)
	b.must(err)
	list, err = b.m.Status(t.Context())
	b.must(err)
	if got := applied(list); got != "1 jobs false, 2 archive false" {
		t.Errorf("status after down: %q", got)
	}
}

func TestOverHTTP(t *testing.T) {
	b := newBench(t, false)
	m := b.migrator(chstore.Config{URL: b.ch.HTTPURL(), Database: "shop"})
	_, err := m.Up(t.Context(), 0)
	b.must(err)
	b.add("orders", at(21, 7, 0), 10)
	_, err = m.SyncArchive(t.Context(), b.arch, b.place)
	b.must(err)
	if n := b.query("SELECT count() FROM archive.orders"); n != "10" {
		t.Errorf("%s events", n)
	}
}

func TestDeniedAndUnreachable(t *testing.T) {
	b := newBench(t, false)
	m := b.migrator(chstore.Config{URL: b.ch.URL(), Database: "shop", User: "analyst", Password: "secret"})
	if _, err := m.Up(t.Context(), 0); !errors.Is(err, chstore.ErrDenied) {
		t.Errorf("up as a reader: %v", err)
	}
	m = b.migrator(chstore.Config{URL: "clickhouse://127.0.0.1:1/shop"})
	if _, err := m.Status(t.Context()); !errors.Is(err, chstore.ErrUnreachable) {
		t.Errorf("status of nothing: %v", err)
	}
	if _, err := migrations.Open(migrations.Options{ClickHouse: chstore.Config{URL: b.ch.URL(), Database: "archive"}}); err == nil {
		t.Error("one database for both was taken")
	}
}
