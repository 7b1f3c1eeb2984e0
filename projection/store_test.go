package projection_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/objectstore/faulty"
	"github.com/reservoirhq/reservoir/projection"
)

func objects(t testing.TB) objectstore.Store {
	t.Helper()
	store, err := objectstore.NewLocal(t.TempDir(), objectstore.LocalOptions{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func claim(worker string, kind projection.HolderKind) projection.Claim {
	return projection.Claim{Worker: worker, Kind: kind, TTL: time.Minute}
}

func at(ms uint64) map[string]projection.Position {
	return map[string]projection.Position{"s": {Incarnation: 1, ID: event.ID{Ms: ms}}}
}

// build makes a first generation live at a position.
func build(ctx context.Context, s *projection.Store, ms uint64) error {
	generation, err := s.NextGeneration(ctx, "p")
	if err != nil {
		return err
	}
	h, err := s.Acquire(ctx, "p", claim("rebuild", projection.Rebuilder))
	if err != nil {
		return err
	}
	if err := h.HandOver(ctx, projection.Generation{Generation: generation, Digest: "d", Positions: at(ms)}, 10, projection.Retired{}, "job"); err != nil {
		return err
	}
	return h.Release(ctx)
}

func TestLifeOfADocument(t *testing.T) {
	ctx, s := t.Context(), projection.NewStore(objects(t))
	if _, err := s.Get(ctx, "p"); !errors.Is(err, projection.ErrNotBuilt) {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(build(ctx, s, 100))
	h, err := s.Acquire(ctx, "p", claim("w1", projection.Projector))
	must(err)
	must(h.Intend(ctx, projection.Pending{Batch: 11, Positions: at(200), Rows: 7}))
	if err := h.Intend(ctx, projection.Pending{Batch: 12, Positions: at(300)}); err == nil {
		t.Error("a second batch was announced while the first was in flight")
	}
	h.Settle(true)
	for name, wrong := range map[string]projection.Pending{
		"number": {Batch: 13, Positions: at(300)}, "back": {Batch: 12, Positions: at(150)},
	} {
		if err := h.Intend(ctx, wrong); err == nil || errors.Is(err, projection.ErrFenced) {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(h.Intend(ctx, projection.Pending{Batch: 12, Positions: at(300)}))
	d, err := s.Get(ctx, "p")
	must(err)
	if d.Batch != 11 || d.Live.Positions["s"].ID.Ms != 200 || d.Pending.Batch != 12 || d.Holder.Worker != "w1" {
		t.Errorf("%+v", d)
	}
	h.Settle(false) // nothing of it is there
	must(h.Release(ctx))

	generation, err := s.NextGeneration(ctx, "p")
	must(err)
	r, err := s.Acquire(ctx, "p", claim("w2", projection.Rebuilder))
	must(err)
	must(r.HandOver(ctx, projection.Generation{Generation: generation, Digest: "e", Positions: at(250)}, 99, projection.Retired{Table: "p__g1", Keep: time.Hour, Feed: true}, "job2"))
	// The previous generation goes on being fed.
	must(r.IntendKept(ctx, 1, projection.Pending{Batch: 12, Positions: at(300), Rows: 3}))
	if err := r.RollBack(ctx, 1, projection.Retired{}, "ann"); err == nil {
		t.Error("rolled back to a table with a batch in flight")
	}
	d, err = s.Get(ctx, "p")
	must(err)
	if kept := d.Kept(1); kept == nil || !kept.Feed || kept.Pending.Batch != 12 || kept.Positions["s"].ID.Ms != 200 {
		t.Errorf("%+v", kept)
	}
	if err := r.IntendKept(ctx, 1, projection.Pending{Batch: 13, Positions: at(300)}); err == nil {
		t.Error("a second batch was announced while the first was in flight")
	}
	if err := r.IntendKept(ctx, 7, projection.Pending{}); !errors.Is(err, projection.ErrNotKept) {
		t.Error(err)
	}
	r.SettleKept(1, true)
	_, err = s.NextGeneration(ctx, "p") // somebody else writes
	must(err)
	must(r.Renew(ctx))
	must(r.RollBack(ctx, 1, projection.Retired{Table: "p__g2", Keep: time.Hour}, "ann"))
	d = r.Document()
	if d.Live.Generation != 1 || d.Batch != 12 || d.Live.Positions["s"].ID.Ms != 300 || len(d.Previous) != 1 ||
		d.Previous[0].Table != "p__g2" || d.Previous[0].Batch != 99 || d.Live.Digest != "d" {
		t.Errorf("%+v", d)
	}
	must(r.Damage(ctx, "counts differ", "w2"))
	if err := r.Intend(ctx, projection.Pending{Batch: 13, Positions: at(400)}); !errors.Is(err, projection.ErrDamaged) {
		t.Error(err)
	}
	must(s.Dropped(ctx, "p", 2, "w2"))
	if err := r.RollBack(ctx, 2, projection.Retired{}, "ann"); err == nil {
		t.Error("rolled back to a table that was dropped")
	}
	must(r.Release(ctx))
	if err := r.Renew(ctx); !errors.Is(err, projection.ErrFenced) {
		t.Error(err)
	}
	d, err = s.Get(ctx, "p")
	must(err)
	var what []string
	for _, e := range d.History {
		what = append(what, e.What)
	}
	if got := strings.Join(what, " "); got != "live live rolled_back damaged dropped" || d.Damaged == "" || d.Holder != nil {
		t.Errorf("%s, %+v", got, d)
	}
	n := 0
	for _, err := range s.List(ctx) {
		must(err)
		n++
	}
	if n != 1 {
		t.Errorf("%d documents", n)
	}
}

// TestHolders: a projector is not disturbed while it writes, a rebuild takes its
// place at once, and who lost it writes nothing more.
func TestHolders(t *testing.T) {
	store := objects(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, a, b := t.Context(), projection.NewStore(store), projection.NewStore(store)
		if err := build(ctx, a, 1); err != nil {
			t.Fatal(err)
		}
		h, err := a.Acquire(ctx, "p", claim("w1", projection.Projector))
		if err != nil {
			t.Fatal(err)
		}
		for range 10 { // it renews, for longer than its TTL
			<-time.After(30 * time.Second)
			if err := h.Renew(ctx); err != nil {
				t.Fatal(err)
			}
			if _, err := b.Acquire(ctx, "p", claim("w2", projection.Projector)); !errors.Is(err, projection.ErrHeld) {
				t.Fatal(err)
			}
		}
		<-time.After(59 * time.Second)
		if _, err := b.NextGeneration(ctx, "p"); err != nil { // is no sign of life of the holder
			t.Fatal(err)
		}
		if _, err := b.Acquire(ctx, "p", claim("w2", projection.Projector)); !errors.Is(err, projection.ErrHeld) {
			t.Fatal(err)
		}
		<-time.After(2 * time.Second)
		h2, err := b.Acquire(ctx, "p", claim("w2", projection.Projector))
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Intend(ctx, projection.Pending{Batch: 11, Positions: at(2)}); !errors.Is(err, projection.ErrFenced) {
			t.Fatal(err)
		}
		if err := h2.Intend(ctx, projection.Pending{Batch: 11, Positions: at(3)}); err != nil {
			t.Fatal(err)
		}
		r, err := a.Acquire(ctx, "p", claim("w3", projection.Rebuilder))
		if err != nil {
			t.Fatal(err)
		}
		if pending := r.Document().Pending; pending == nil || pending.Positions["s"].ID.Ms != 3 {
			t.Errorf("%+v", pending)
		}
		if err := h2.Renew(ctx); !errors.Is(err, projection.ErrFenced) {
			t.Fatal(err)
		}
		for _, kind := range []projection.HolderKind{projection.Projector, projection.Rebuilder} {
			if _, err := b.Acquire(ctx, "p", claim("w4", kind)); !errors.Is(err, projection.ErrHeld) {
				t.Fatal(err)
			}
		}
		if _, err := a.Acquire(ctx, "p", claim("w3", projection.Rebuilder)); err != nil { // itself, again
			t.Fatal(err)
		}
	})
}

// TestPersonsAndHoldersBothWrite: numbers of generations are given out while a
// holder writes, and nothing of either is lost.
func TestPersonsAndHoldersBothWrite(t *testing.T) {
	ctx, s := t.Context(), projection.NewStore(objects(t))
	if err := build(ctx, s, 1); err != nil {
		t.Fatal(err)
	}
	h, err := s.Acquire(ctx, "p", claim("w", projection.Projector))
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	group.Go(func() {
		for range 30 {
			if _, err := s.NextGeneration(ctx, "p"); err != nil {
				t.Error(err)
			}
		}
	})
	for n := range uint64(50) {
		if err := h.Intend(ctx, projection.Pending{Batch: 11 + n, Positions: at(2 + n)}); err != nil {
			t.Fatal(err)
		}
		h.Settle(true)
	}
	group.Wait()
	if err := h.Release(ctx); err != nil {
		t.Fatal(err)
	}
	d, err := s.Get(ctx, "p")
	if err != nil || d.LastGeneration != 31 || d.Batch != 60 || d.Live.Positions["s"].ID.Ms != 51 {
		t.Errorf("%+v, %v", d, err)
	}
}

// TestRace: of many that want to hold a projection at once one does, and generations
// have numbers of their own.
func TestRace(t *testing.T) {
	ctx, store := t.Context(), objects(t)
	if err := build(ctx, projection.NewStore(store), 1); err != nil {
		t.Fatal(err)
	}
	var won atomic.Int32
	var numbers sync.Map
	var group sync.WaitGroup
	for n := range 8 {
		group.Go(func() {
			s := projection.NewStore(store)
			if _, err := s.Acquire(ctx, "p", claim(fmt.Sprint("w", n), projection.Rebuilder)); err == nil {
				won.Add(1)
			} else if !errors.Is(err, projection.ErrHeld) {
				t.Error(err)
			}
			generation, err := s.NextGeneration(ctx, "p")
			if _, twice := numbers.LoadOrStore(generation, true); twice || err != nil {
				t.Errorf("generation %d, %v", generation, err)
			}
		})
	}
	group.Wait()
	if won.Load() != 1 {
		t.Errorf("%d holders", won.Load())
	}
}

// table stands for the live table in the tests of crashes: the batches in it.
type table map[uint64]uint64 // by number, how far they bring it

// project feeds a table up to a position like a projector: it takes the document,
// settles what is in flight by looking, and sends batches that it announced. die
// says after how many batches that were sent the process ends at once.
func project(ctx context.Context, s *projection.Store, rows table, to uint64, worker string) error {
	h, err := s.Acquire(ctx, "p", claim(worker, projection.Rebuilder)) // takes over at once
	if err != nil {
		return err
	}
	if p := h.Document().Pending; p != nil {
		_, done := rows[p.Batch]
		h.Settle(done)
	}
	for {
		d := h.Document()
		from := d.Live.Positions["s"].ID.Ms
		if from >= to {
			return h.Release(ctx)
		}
		next := projection.Pending{Batch: d.Batch + 1, Positions: at(from + 1)}
		if err := h.Intend(ctx, next); err != nil {
			return err
		}
		if _, twice := rows[next.Batch]; twice {
			return fmt.Errorf("batch %d is sent twice", next.Batch)
		}
		rows[next.Batch] = from + 1
		h.Settle(true)
	}
}

// TestCrashes: wherever the process dies, before or after the effect of whichever
// operation, the next one goes on, and every event is in the table once.
func TestCrashes(t *testing.T) {
	const upTo = 6
	for step, ended := 1, false; !ended; step++ {
		for _, after := range []bool{false, true} {
			store := objects(t)
			broken := faulty.New(store, faulty.CrashAt(step, after))
			rows := table{}
			err := build(t.Context(), projection.NewStore(broken), 1)
			if err == nil {
				err = project(t.Context(), projection.NewStore(broken), rows, upTo, "w1")
			}
			ended = !broken.Crashed()
			if err != nil && !broken.Crashed() {
				t.Fatal(err)
			}
			s := projection.NewStore(store)
			if d, err := s.Get(t.Context(), "p"); errors.Is(err, projection.ErrNotBuilt) || err == nil && d.Live.Generation == 0 {
				if d != nil && d.Holder != nil { // the rebuild that died is resumed by its worker
					h, err := s.Acquire(t.Context(), "p", claim("rebuild", projection.Rebuilder))
					if err != nil {
						t.Fatal(err)
					}
					if err := h.Release(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				if err := build(t.Context(), s, 1); err != nil {
					t.Fatal(step, after, err)
				}
			} else if err != nil {
				t.Fatal(err)
			} else if d.Holder != nil && d.Holder.Kind == projection.Rebuilder {
				h, err := s.Acquire(t.Context(), "p", claim(d.Holder.Worker, projection.Rebuilder))
				if err != nil {
					t.Fatal(err)
				}
				if p := h.Document().Pending; p != nil {
					_, done := rows[p.Batch]
					h.Settle(done)
				}
				if err := h.Release(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if err := project(t.Context(), s, rows, upTo, "w2"); err != nil {
				t.Fatalf("step %d, after %v: %v", step, after, err)
			}
			counts := map[uint64]int{}
			for _, ms := range rows {
				counts[ms]++
			}
			if want := map[uint64]int{2: 1, 3: 1, 4: 1, 5: 1, 6: 1}; !maps.Equal(counts, want) {
				t.Fatalf("step %d, after %v: %v", step, after, counts)
			}
		}
		if step > 100 {
			t.Fatal("it never ends")
		}
	}
}

// TestFaults: with operations that fail at random, before or after their effect,
// and two workers that take turns, every event is in the table once.
func TestFaults(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		store := objects(t)
		if err := build(t.Context(), projection.NewStore(store), 1); err != nil {
			rt.Fatal(err)
		}
		broken := faulty.New(store, faulty.Random(rapid.Uint64().Draw(rt, "seed"), faulty.Rates{Before: 0.1, After: 0.1}))
		s, rows := projection.NewStore(broken), table{}
		for try := 0; ; try++ {
			err := project(t.Context(), s, rows, 8, "w")
			if err == nil {
				break
			}
			if !errors.Is(err, faulty.ErrInjected) || try > 500 {
				rt.Fatal(err)
			}
		}
		counts := map[uint64]int{}
		for _, ms := range rows {
			counts[ms]++
		}
		for ms := uint64(2); ms <= 8; ms++ {
			if counts[ms] != 1 || len(counts) != 7 {
				rt.Fatalf("%v", counts)
			}
		}
	})
}

func TestDamagedDocuments(t *testing.T) {
	ctx, store := t.Context(), objects(t)
	s := projection.NewStore(store)
	for name, text := range map[string]string{
		"no_json": "{", "newer": `{"version":2,"name":"newer"}`, "another": `{"version":1,"name":"p"}`,
		"batch": `{"version":1,"name":"batch","batch":3,"pending":{"batch":5}}`, "generation": `{"version":1,"name":"generation","live":{"generation":2}}`,
	} {
		if _, err := store.Put(ctx, "projections/"+name+".json", bytes.NewReader([]byte(text)), objectstore.IfAbsent); err != nil {
			t.Fatal(err)
		}
		var damaged *projection.DocumentError
		if _, err := s.Get(ctx, name); !errors.As(err, &damaged) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := s.Acquire(ctx, name, claim("w", projection.Projector)); !errors.As(err, &damaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	n := 0
	for _, err := range s.List(ctx) {
		if err == nil {
			t.Error("a damaged document was listed")
		}
		n++
	}
	if n != 5 {
		t.Errorf("%d of 5 were listed", n)
	}
}

func TestHistoryIsBounded(t *testing.T) {
	ctx, s := t.Context(), projection.NewStore(objects(t))
	h, err := s.Acquire(ctx, "p", claim("w", projection.Rebuilder))
	if err != nil {
		t.Fatal(err)
	}
	for range projection.MaxHistory + 20 {
		generation, err := s.NextGeneration(ctx, "p")
		if err != nil {
			t.Fatal(err)
		}
		if err := h.HandOver(ctx, projection.Generation{Generation: generation}, 1, projection.Retired{Table: "t", Keep: time.Hour}, "job"); err != nil {
			t.Fatal(err)
		}
		if generation > 1 {
			if err := s.Dropped(ctx, "p", generation-1, "w"); err != nil {
				t.Fatal(err)
			}
		}
	}
	d, err := s.Get(ctx, "p")
	if err != nil || len(d.History) != projection.MaxHistory || len(d.Previous) != 0 {
		t.Errorf("%d entries, %d previous, %v", len(d.History), len(d.Previous), err)
	}
}
