package chstore_test

import (
	"bytes"
	"net/url"
	"strings"
	"testing"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
)

// TestKillOfStalledClient kills the statement of a client that was stopped while it sends
// rows: the server does not wait for these for minutes, and none come into the table.
func TestKillOfStalledClient(t *testing.T) {
	store, engine := connect(t, chstore.Config{})
	u, err := url.Parse(engine.URL())
	if err != nil {
		t.Fatal(err)
	}
	line := stacktest.NewLine(t, u.Host)
	u.Host = line.Addr
	table := store.Table("t")
	spec := chstore.TableSpec{Columns: []chstore.Column{{Name: "payload", Type: "String"}}, Engine: "MergeTree", OrderBy: "payload"}
	if err := store.CreateTable(t.Context(), table, spec, chstore.Mark{Projection: "t"}); err != nil {
		t.Fatal(err)
	}
	usual := chstore.Load{Into: table, Columns: []string{"payload"}, Select: "SELECT toString(getSetting('receive_timeout')) AS payload FROM events", Chunk: 9}
	if _, err := store.LoadBlock(t.Context(), block(t, sample(1)), "", usual); err != nil {
		t.Fatal(err)
	}
	rows, err := store.Query(t.Context(), "SELECT payload FROM t WHERE _chunk = 9", 1)
	if err != nil || string(rows.Rows[0][0]) != `"15"` {
		t.Errorf("the server waits for %s s, %v; want 15", rows.Rows, err)
	}
	for chunk, c := range []struct {
		receive string // receive_timeout, over what is sent
		kill    bool
	}{
		{receive: "200"},            // for as long as a busy machine may take to look
		{receive: "10", kill: true}, // the same, sooner
	} {
		client := open(t, chstore.Config{URL: u.String(), Settings: map[string]string{"receive_timeout": c.receive}}).As("stopped")
		held, release := line.Hold(func(said []byte) bool { return bytes.Contains(said, []byte(`"amount":1999`)) })
		failed := make(chan error, 1)
		go func() {
			load := chstore.Load{Into: table, Columns: []string{"payload"}, Select: "SELECT payload FROM events", Chunk: uint64(chunk)}
			_, err := client.LoadBlock(t.Context(), block(t, sample(2000)), "", load)
			failed <- err
		}()
		select {
		case <-held:
		case err := <-failed:
			t.Fatalf("it was not held: %v", err)
		}
		waits, err := engine.Query(t.Context(), "SELECT Settings['receive_timeout'] FROM system.processes WHERE startsWith(query_id, 'reservoir/stopped/chunk/')")
		if err != nil || strings.TrimSpace(waits) != c.receive {
			t.Errorf("the server waits for %q s, %v; want %s", waits, err, c.receive)
		}
		if c.kill {
			if err := store.As("stopped").Kill(t.Context(), ""); err != nil {
				t.Error(err)
			}
		}
		release()
		if err := <-failed; (err == nil) == c.kill {
			t.Errorf("the statement ended with %v", err)
		}
		if rows, err := store.Prove(t.Context(), table, uint64(chunk)); err != nil || (rows == 0) != c.kill {
			t.Errorf("%d rows of it are there, %v", rows, err)
		}
	}
}
