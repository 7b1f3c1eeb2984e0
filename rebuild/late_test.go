package rebuild_test

import (
	"bytes"
	"net/url"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/rebuild"
)

// behindLine has the service reach ClickHouse by a line.
func (k *kitchen) behindLine() *stacktest.Line {
	k.t.Helper()
	u, err := url.Parse(k.ch.URL())
	k.must(err)
	line := stacktest.NewLine(k.t, u.Host)
	u.Host = line.Addr
	k.opts.ClickHouse, err = chstore.Connect(k.t.Context(), chstore.Config{URL: u.String()})
	k.must(err)
	k.t.Cleanup(func() { k.opts.ClickHouse.Close() })
	k.svc, err = rebuild.New(k.opts)
	k.must(err)
	return line
}

// A projector that is stopped just when it sends a batch, and goes on when a rebuild has
// taken its place and is live, puts nothing into the table.
func TestBatchThatComesLate(t *testing.T) {
	k := newKitchen(t, false)
	k.examples()
	k.must(k.publish(t.Context(), "shop:orders", 200))
	k.archiveAll(100)
	direct := *k
	line := k.behindLine()
	direct.build(rebuild.Spec{Projection: "revenue"})
	k.project("revenue")
	held, release := line.Hold(func(said []byte) bool { return bytes.Contains(said, []byte("INSERT INTO")) })
	k.must(k.publish(t.Context(), "shop:orders", 100))
	<-held
	direct.build(rebuild.Spec{Projection: "revenue"})
	release()
	k.must(k.publish(t.Context(), "shop:orders", 1)) // it goes on when its projector has found out
	direct.caughtUp(direct.reference("revenue"))
}

// Where statements take much longer to come to the server than batches are first given,
// and than holders live, tables are fed and handed over all the same, by holders that do
// not take turns.
func TestSlowLine(t *testing.T) {
	k := newKitchen(t, false)
	k.examples()
	k.opts.TTL = 600 * time.Millisecond
	direct := *k
	line := k.behindLine()
	k.must(k.publish(t.Context(), "shop:orders", 200))
	k.archiveAll(100)
	direct.build(rebuild.Spec{Projection: "revenue"})
	line.Slow(func(said []byte) time.Duration {
		if bytes.Contains(said, []byte("INSERT INTO")) {
			return 1200 * time.Millisecond
		}
		return 0
	})
	first, second := k.project("revenue"), k.project("revenue")
	defer func() { first(); second() }()
	holders := func() uint64 {
		doc, err := k.svc.Documents().Get(t.Context(), "revenue")
		k.must(err)
		return doc.Epoch
	}
	before := holders()
	k.must(k.publish(t.Context(), "shop:orders", 100))
	want := direct.reference("revenue")
	eventually(t, time.Minute, func() bool { return k.contents("revenue") == want["revenue"] }, func() string {
		return firstDifference("revenue", k.contents("revenue"), want["revenue"])
	})
	if n := holders() - before; n > 2 {
		t.Errorf("there were %d holders", n)
	}
	stop := k.writer(30 * time.Millisecond)
	before = holders()
	k.build(rebuild.Spec{Projection: "revenue"})
	stop()
	if n := holders() - before; n > 4 {
		t.Errorf("there were %d holders during the rebuild", n)
	}
	want = direct.reference("revenue")
	eventually(t, time.Minute, func() bool { return k.contents("revenue") == want["revenue"] }, func() string {
		return firstDifference("revenue", k.contents("revenue"), want["revenue"])
	})
}
