package rebuild_test

import (
	"bytes"
	"net/url"
	"testing"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/rebuild"
)

// A projector that is stopped just when it sends a batch, and goes on when a rebuild has
// taken its place and is live, puts nothing into the table.
func TestBatchThatComesLate(t *testing.T) {
	k := newKitchen(t, false)
	k.examples()
	k.must(k.publish(t.Context(), "shop:orders", 200))
	k.archiveAll(100)
	u, err := url.Parse(k.ch.URL())
	k.must(err)
	line := stacktest.NewLine(t, u.Host)
	u.Host = line.Addr
	slow, err := chstore.Connect(t.Context(), chstore.Config{URL: u.String()})
	k.must(err)
	t.Cleanup(func() { slow.Close() })
	direct := *k
	k.opts.ClickHouse = slow
	k.svc, err = rebuild.New(k.opts)
	k.must(err)
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
