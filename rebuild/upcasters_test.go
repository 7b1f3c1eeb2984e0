package rebuild_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/rebuild"
	"github.com/reservoirhq/reservoir/upcast"
)

// keptLog is what was logged.
type keptLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *keptLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *keptLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// A table that was built with other upcasters than those of now is not fed by these, until
// it is rebuilt.
func TestOtherUpcasters(t *testing.T) {
	k := newKitchen(t, false)
	k.defs.put("totals", strings.NewReplacer("name: timeline\n", "name: totals\nupcast: true\n", "scope: {tenant: what}\n", "").Replace(timelineYAML))
	log := &keptLog{}
	k.opts.Logger = slog.New(slog.NewTextHandler(log, nil))
	with := func(total int) {
		t.Helper()
		set, err := upcast.New(upcast.Func("OrderPaid", "", "2", "total is "+strings.Repeat("1", total), func(e *upcast.Edit) error { return e.Set("total", total) }))
		k.must(err)
		k.opts.Upcasters = set
		k.svc, err = rebuild.New(k.opts)
		k.must(err)
	}
	const paid = "SELECT groupUniqArray(total) FROM totals WHERE what = 'OrderPaid'"
	with(1)
	k.must(k.publish(t.Context(), "shop:orders", 100))
	k.archiveAll(100)
	k.build(rebuild.Spec{Projection: "totals"})
	with(2)
	k.project("totals")
	k.must(k.publish(t.Context(), "shop:orders", 100))
	eventually(t, 10*time.Second, func() bool { return strings.Contains(log.String(), "the upcasters are not those") }, log.String)
	if got := k.query(paid); got != "[1]" {
		t.Errorf("the totals are %s", got)
	}
	k.build(rebuild.Spec{Projection: "totals"})
	k.must(k.publish(t.Context(), "shop:orders", 100))
	k.caughtUp(k.reference("totals"))
	if got := k.query(paid); got != "[2]" {
		t.Errorf("after the rebuild the totals are %s", got)
	}
}
