package rebuild

import (
	"context"
	"errors"
	"testing"
	"time"

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
func (l *memoryLedger) confirm(ctx context.Context, _ time.Duration) error {
	if l.sure == nil {
		return nil
	}
	return l.sure(ctx)
}

func (l *memoryLedger) intend(_ context.Context, p projection.Pending) error {
	l.inFlight = &p
	return nil
}

func (l *memoryLedger) settle(done bool, _ map[string]uint64) { l.inFlight, l.done = nil, done }

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

// What is there in part of a batch is removed only by the one who feeds, and soon after
// that was made sure: somebody else may have issued the batch again since.
func TestPartOfBatchIsRemoved(t *testing.T) {
	db, table, _ := testTable(t, "MergeTree")
	load := chstore.Load{Into: table, Columns: []string{"n"}, Select: "SELECT number AS n FROM numbers(2)", Chunk: 7}
	if _, err := db.LoadSelect(t.Context(), load); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		confirm func(context.Context) error
		within  time.Duration
		err     error
		rows    uint64
	}{
		{"fenced", func(context.Context) error { return projection.ErrFenced }, issueWithin, projection.ErrFenced, 2},
		{"stopped since", func(ctx context.Context) error { return wait(ctx, issueWithin+100*time.Millisecond) }, issueWithin, chstore.ErrLate, 2},
		{"sure", func(context.Context) error { return nil }, time.Minute, nil, 0}, // a busy machine takes more than a second
	} {
		_, err := look(t.Context(), db, table, chstore.Keeping, &projection.Pending{Batch: 7, Rows: 3}, c.within, func(ctx context.Context, _ time.Duration) error { return c.confirm(ctx) })
		if !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", c.name, err, c.err)
		}
		if rows, err := db.Prove(t.Context(), table, 7); err != nil || rows != c.rows {
			t.Errorf("%s: %d rows of the batch are there, %v; want %d", c.name, rows, err, c.rows)
		}
	}
}

// fickleRows gives a letter when it is asked first, and none from then on.
type fickleRows struct {
	someRows
	asked bool
}

func (r *fickleRows) make(context.Context, *batch, bool) (made, error) {
	first := !r.asked
	r.asked = true
	if first {
		return made{rows: 1, letters: []Letter{{Reason: "it is bad"}}}, nil
	}
	return made{rows: 1}, nil
}

// timidLedger does not announce what comes first.
type timidLedger struct {
	memoryLedger
	asked bool
}

func (l *timidLedger) intend(ctx context.Context, p projection.Pending) error {
	if !l.asked {
		l.asked = true
		return errors.New("not now")
	}
	return l.memoryLedger.intend(ctx, p)
}

// What was put aside of a batch that was not announced does not stay when that has no
// letters any more, also without another life of the one who feeds.
func TestBatchWithoutLettersAnyMore(t *testing.T) {
	db, table, mark := testTable(t, "ReplacingMergeTree")
	aside := -1
	f := &feeder{
		db: db, into: table, mark: mark, kind: chstore.Replacing, rows: &fickleRows{}, reader: newReader(nil, nil, event.Mapping{}, nil), ledger: &timidLedger{},
		dependents: &dependents{}, fed: func(map[string]place) error { return nil },
		aside: func(_ context.Context, _ uint64, letters []Letter) error {
			aside = len(letters)
			return nil
		},
	}
	for _, want := range []int{1, 0} {
		if err := f.feed(t.Context()); (err == nil) != (want == 0) || aside != want {
			t.Errorf("%d letters are aside, want %d: %v", aside, want, err)
		}
	}
}
