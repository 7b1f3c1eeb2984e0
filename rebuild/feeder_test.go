package rebuild

import (
	"context"
	"testing"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/projection"
)

// memoryLedger is a ledger that remembers nothing durably.
type memoryLedger struct {
	inFlight *projection.Pending
	done     bool
	sure     func(context.Context) error
}

func (l *memoryLedger) places() map[string]place     { return nil }
func (l *memoryLedger) batch() uint64                { return 0 }
func (l *memoryLedger) pending() *projection.Pending { return l.inFlight }
func (l *memoryLedger) confirm(ctx context.Context) error {
	if l.sure == nil {
		return nil
	}
	return l.sure(ctx)
}

func (l *memoryLedger) intend(_ context.Context, p projection.Pending) error {
	l.inFlight = &p
	return nil
}

func (l *memoryLedger) settle(done bool) { l.inFlight, l.done = nil, done }

// someRows makes so many rows of nothing.
type someRows int

func (r someRows) make(context.Context, *batch, bool) (made, error) {
	return made{rows: uint64(r)}, nil //nolint:gosec // small
}

func (r someRows) insert(context.Context, *chstore.Store, chstore.Load) (uint64, error) {
	return uint64(r), nil //nolint:gosec // small
}

// testTable makes a table of an engine in a server of its own.
func testTable(t *testing.T, engine string) (*chstore.Store, chstore.Table, chstore.Mark) {
	t.Helper()
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	server := stacktest.ClickHouse(t, stack.ClickHouseOptions{})
	db, err := chstore.Connect(t.Context(), chstore.Config{URL: server.URL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	db = db.As("test")
	table, mark := db.Table("t"), chstore.Mark{Projection: "t", Generation: 1}
	spec := chstore.TableSpec{Columns: []chstore.Column{{Name: "n", Type: "UInt64"}}, Engine: engine, OrderBy: "n"}
	if err := db.CreateTable(t.Context(), table, spec, mark); err != nil {
		t.Fatal(err)
	}
	return db, table, mark
}

// The states of a fold may be ahead of a batch in flight, and give more rows than when it
// was announced.
func TestBatchThatGivesOtherRows(t *testing.T) {
	db, table, mark := testTable(t, "ReplacingMergeTree")
	for kind, want := range map[chstore.Kind]bool{chstore.Replacing: true, chstore.Keeping: false} {
		ledger := &memoryLedger{inFlight: &projection.Pending{Batch: 1, Rows: 2}}
		f := &feeder{db: db, into: table, mark: mark, kind: kind, rows: someRows(3), reader: newReader(nil, nil, event.Mapping{}, nil), ledger: ledger, dependents: &dependents{}}
		err := f.settleOnce(t.Context())
		if ledger.done != want || (err == nil) != want {
			t.Errorf("%s: the batch is settled: %t, %v; want %t", kind, ledger.done, err, want)
		}
	}
}
