package migrations_test

import (
	"strconv"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/chstore"
)

// TestReadWhileSynced reads a view all the while events are added, compacted and
// collected, and synced by two at once: the count never goes back, and no event is
// there twice.
func TestReadWhileSynced(t *testing.T) {
	b := newBench(t, false)
	b.up()
	b.add("orders", at(21, 7, 0), 50)
	b.sync()
	store, err := chstore.Connect(t.Context(), chstore.Config{URL: b.ch.URL(), User: "analyst", Password: "secret", Database: "system"})
	b.must(err)
	defer store.Close()
	done, reads := make(chan struct{}), 0
	var reader errgroup.Group
	reader.Go(func() error {
		for last := 0; ; reads++ {
			select {
			case <-done:
				return nil
			default:
			}
			rows, err := store.Query(t.Context(), "SELECT count(), uniqExact(id_ms) FROM archive.orders", 1)
			if err != nil {
				return err
			}
			n, err := strconv.Atoi(string(rows.Rows[0][0]))
			if err != nil {
				return err
			}
			if n < last || string(rows.Rows[0][1]) != string(rows.Rows[0][0]) {
				t.Errorf("read %s after %d", rows.Rows[0], last)
			}
			last = n
		}
	})
	other := b.migrator(b.config)
	for round := range 10 {
		b.add("orders", at(21, 7, 1000*(round+1)), 50)
		b.sync()
		_, err := b.arch.Compact(t.Context(), archive.CompactSpec{Stream: "orders"})
		b.must(err)
		var group errgroup.Group
		group.Go(func() error {
			_, err := other.SyncArchive(t.Context(), b.arch, b.place)
			return err
		})
		b.sync()
		b.must(group.Wait())
	}
	_, err = b.arch.GC(t.Context(), archive.GCSpec{Stream: "orders", Grace: time.Hour})
	b.must(err)
	close(done)
	b.must(reader.Wait())
	b.agree("orders")
	if reads < 5 {
		t.Errorf("only %d reads: the test shows nothing", reads)
	}
}
