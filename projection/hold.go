package projection

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/reservoirhq/reservoir/internal/remedy"
)

// Claim says who wants to hold a projection.
type Claim struct {
	// Worker is another text in every process.
	Worker string
	Kind   HolderKind
	// TTL is how long the holder stays one without a write: it renews three times
	// as often.
	TTL time.Duration
}

// Hold is the right to write to a projection's table, as long as nobody has taken
// it away. It is safe for concurrent use: one goroutine may renew it while another
// one works.
type Hold struct {
	store *Store
	claim Claim

	writing sync.Mutex // held during a write, and by whoever changes doc

	mu    sync.Mutex // of what is below
	doc   *Document  // as last written, with what is to be written next
	ended bool
	wrote time.Time // when the last write began that was done
}

func (h *Hold) state() (doc *Document, ended bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.doc, h.ended
}

func (h *Hold) set(doc *Document, began time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.doc = doc
	if !began.IsZero() {
		h.wrote = began
	}
}

func (h *Hold) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = true
}

// Idle is how long ago the last write began that others have seen.
func (h *Hold) Idle() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Since(h.wrote)
}

// Acquire makes a worker the holder of a projection, with the next epoch; a
// document that is not there is made. The error wraps ErrHeld while another
// worker is: one that has written within its TTL, as far as this Store has
// looked. A rebuild does not wait for a projector.
//
// What was in flight (Document.Pending) must then be settled first: kill what
// still runs at ClickHouse, look what is there, and call Settle.
func (s *Store) Acquire(ctx context.Context, name string, claim Claim) (*Hold, error) {
	if claim.Worker == "" || claim.TTL <= 0 {
		return nil, fmt.Errorf("projection %s: a holder needs a name and a time", name)
	}
	began := time.Now()
	d, err := s.revise(ctx, name, func(d *Document) error {
		if !s.free(d, claim) {
			return fmt.Errorf("projection %s: %w: %s %s", name, ErrHeld, d.Holder.Kind, d.Holder.Worker)
		}
		d.Epoch++
		d.Holder = &Holder{Worker: claim.Worker, Kind: claim.Kind, Renewed: now(), TTL: claim.TTL}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &Hold{store: s, claim: claim, doc: d, wrote: began}, nil
}

// free says whether a document may be taken for a claim now.
func (s *Store) free(d *Document, claim Claim) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.Holder == nil || d.Holder.Worker == claim.Worker {
		delete(s.seen, d.Name)
		return true
	}
	last, ok := s.seen[d.Name]
	if !ok || last.epoch != d.Epoch || last.beat != d.Holder.Beat {
		last = sighting{d.Epoch, d.Holder.Beat, time.Now()}
		s.seen[d.Name] = last
	}
	if claim.Kind == Rebuilder && d.Holder.Kind == Projector {
		return true
	}
	return time.Since(last.since) >= d.Holder.TTL
}

// Document returns the document as it is held: a copy, with what was settled.
func (h *Hold) Document() *Document {
	doc, _ := h.state()
	return doc.clone()
}

// write writes the document with a change. Where somebody who is no holder has
// changed it meanwhile, both changes hold. Unless the error is one of change, the
// Hold has ended: whether the write arrives cannot be known.
func (h *Hold) write(ctx context.Context, change func(*Document) error) error {
	h.writing.Lock()
	defer h.writing.Unlock()
	doc, ended := h.state()
	if ended {
		return fmt.Errorf("projection %s: %w", doc.Name, ErrFenced)
	}
	nonce, began := rand.Text(), time.Now()
	for base, fresh := doc, false; ; fresh = true {
		next := base.clone()
		if err := change(next); err != nil {
			if fresh {
				return err
			}
			// Perhaps it only does not know what others wrote.
			again, readErr := h.rebase(ctx, doc, nonce, errChanged)
			if readErr != nil {
				h.end()
				return fmt.Errorf("projection %s: %w", doc.Name, errors.Join(ErrFenced, readErr))
			}
			if again.Nonce == base.Nonce {
				return err
			}
			base = again
			continue
		}
		next.Nonce, next.UpdatedAt = nonce, now()
		if next.Holder != nil {
			next.Holder.Beat++
			next.Holder.Renewed = next.UpdatedAt
		}
		err := h.store.put(ctx, next)
		if err == nil {
			h.set(next, began)
			return nil
		}
		if base, err = h.rebase(ctx, doc, nonce, err); err != nil {
			h.end()
			return fmt.Errorf("projection %s: %w", doc.Name, errors.Join(ErrFenced, err))
		}
		if base.Nonce == nonce { // an earlier try arrived late
			h.set(base, began)
			return nil
		}
	}
}

// rebase reads the document again after a write that failed, and gives it what
// the holder had settled and not yet written.
func (h *Hold) rebase(ctx context.Context, doc *Document, nonce string, failure error) (*Document, error) {
	if !errors.Is(failure, errChanged) {
		return nil, failure
	}
	there, err := h.store.get(ctx, doc.Name)
	switch {
	case err != nil:
		return nil, err
	case there.Nonce == nonce:
		return there, nil
	case there.Epoch != doc.Epoch || there.Holder == nil || there.Holder.Beat != doc.Holder.Beat:
		return nil, errChanged
	}
	there.Live, there.Batch, there.Pending, there.Damaged, there.Waiting = doc.Live, doc.Batch, doc.Pending, doc.Damaged, doc.Waiting
	for i := range there.Previous {
		if kept := doc.Kept(there.Previous[i].Generation.Generation); kept != nil {
			there.Previous[i] = *kept
		}
	}
	return there, nil
}

// Renew tells others that the holder is alive, and writes what was settled.
func (h *Hold) Renew(ctx context.Context) error {
	return h.write(ctx, func(*Document) error { return nil })
}

// Intend announces the next batch, before anything of it is sent; what was
// settled is written with it. Its number is that after Document.Batch; base and
// rows are as Pending has them. When Intend fails, nothing may be sent.
//
// It is an error to announce a batch while another one is in flight, with
// positions that go back, or of a table that is damaged.
func (h *Hold) Intend(ctx context.Context, next Pending) error {
	return h.write(ctx, func(d *Document) error {
		switch {
		case d.Live.Generation == 0:
			return fmt.Errorf("projection %s: %w", d.Name, ErrNotBuilt)
		case d.Damaged != "":
			return damagedError(d)
		}
		pending, err := next.follow(d.Name, d.Live.Positions, d.Batch, d.Pending)
		if err == nil {
			d.Pending = pending
		}
		return err
	})
}

// Extend announces that the batch in flight, if there is one, may be sent for so long
// from now on: Pending.Within. Without, it is Renew.
func (h *Hold) Extend(ctx context.Context, within time.Duration) error {
	return h.write(ctx, func(d *Document) error {
		d.Pending.extend(within)
		return nil
	})
}

// ExtendKept is Extend for a previous generation.
func (h *Hold) ExtendKept(ctx context.Context, generation uint64, within time.Duration) error {
	return h.write(ctx, func(d *Document) error {
		if kept := d.Kept(generation); kept != nil {
			kept.Pending.extend(within)
		}
		return nil
	})
}

func (p *Pending) extend(within time.Duration) {
	if p != nil {
		p.Within = max(p.Within, within)
	}
}

// Wait notes why the live table is not fed just now, or, with "", that it is; the reason
// stays when the Hold is released. A reason is written at once, and that there is none
// with the next write.
func (h *Hold) Wait(ctx context.Context, reason string) error {
	if reason == "" {
		h.writing.Lock()
		defer h.writing.Unlock()
		d := h.Document()
		d.Waiting = nil
		h.set(d, time.Time{})
		return nil
	}
	return h.write(ctx, func(d *Document) error {
		if d.Waiting == nil {
			d.Waiting = &Waiting{Since: now()}
		}
		d.Waiting.Reason = clip(reason)
		return nil
	})
}

// follow says whether a batch may follow what a table has.
func (p Pending) follow(name string, at map[string]Position, batch uint64, pending *Pending) (*Pending, error) {
	switch {
	case pending != nil:
		return nil, fmt.Errorf("projection %s: batch %d is not settled", name, pending.Batch)
	case p.Batch != batch+1:
		return nil, fmt.Errorf("projection %s: batch %d cannot follow batch %d", name, p.Batch, batch)
	}
	for stream, to := range p.Positions {
		if from, ok := at[stream]; ok && to.Compare(from) < 0 {
			return nil, fmt.Errorf("projection %s: stream %q goes back from %v to %v", name, stream, from, to)
		}
	}
	p.Positions = maps.Clone(p.Positions)
	return &p, nil
}

// IntendKept is Intend for a previous generation. One that is not kept any more is
// ErrNotKept.
func (h *Hold) IntendKept(ctx context.Context, generation uint64, next Pending) error {
	return h.write(ctx, func(d *Document) error {
		kept, err := d.kept(generation)
		if err != nil {
			return err
		}
		pending, err := next.follow(d.Name, kept.Positions, kept.Batch, kept.Pending)
		if err == nil {
			kept.Pending = pending
		}
		return err
	})
}

// SettleKept is Settle for a previous generation.
func (h *Hold) SettleKept(generation uint64, done bool) {
	h.writing.Lock()
	defer h.writing.Unlock()
	d := h.Document()
	kept := d.Kept(generation)
	if kept == nil || kept.Pending == nil {
		return
	}
	kept.Positions, kept.Batch = kept.Pending.settle(kept.Positions, kept.Batch, done)
	kept.Pending = nil
	h.set(d, time.Time{})
}

// ErrNotKept is wrapped for a generation that is not among the previous ones.
var ErrNotKept = errors.New("the generation is not kept")

func (d *Document) kept(generation uint64) (*Previous, error) {
	kept := d.Kept(generation)
	if kept == nil {
		return nil, fmt.Errorf("generation %d of projection %s: %w", generation, d.Name, ErrNotKept)
	}
	return kept, nil
}

// settle gives where a table is when its batch in flight is there, or is not.
func (p *Pending) settle(at map[string]Position, batch uint64, done bool) (map[string]Position, uint64) {
	if !done {
		return at, batch
	}
	if at == nil {
		at = make(map[string]Position)
	}
	maps.Copy(at, p.Positions)
	return at, p.Batch
}

// Settle says what became of the batch in flight: it is in the table as a whole,
// or there is nothing of it. It is written with the next write of the Hold; until
// then whoever takes over settles the batch anew. Without a batch in flight
// nothing happens.
func (h *Hold) Settle(done bool) {
	h.writing.Lock()
	defer h.writing.Unlock()
	d := h.Document()
	if d.Pending == nil {
		return
	}
	d.Live.Positions, d.Batch = d.Pending.settle(d.Live.Positions, d.Batch, done)
	d.Pending = nil
	h.set(d, time.Time{})
}

// HandOver makes another generation the live one: its table has the live name
// already. batch is the highest number of a chunk or batch in it. It is one write:
// readers of the document see the old positions with the old generation or the
// new with the new.
func (h *Hold) HandOver(ctx context.Context, next Generation, batch uint64, old Retired, by string) error {
	return h.write(ctx, func(d *Document) error {
		switch {
		case d.Pending != nil:
			return fmt.Errorf("projection %s: batch %d is not settled", d.Name, d.Pending.Batch)
		case next.Generation == 0 || next.Generation > d.LastGeneration:
			return fmt.Errorf("projection %s: generation %d was never given out", d.Name, next.Generation)
		case next.Generation == d.Live.Generation:
			return nil // done before, and its answer was lost
		case d.Live.Generation != 0 && old.Table == "":
			return fmt.Errorf("projection %s: where is the table of generation %d?", d.Name, d.Live.Generation)
		}
		d.retire(old)
		d.Live, d.Batch, d.Damaged, d.Waiting = next, batch, "", nil
		d.Live.Positions, d.Live.LiveAt = maps.Clone(next.Positions), now()
		d.log(HistoryEntry{Time: now(), What: "live", Generation: next.Generation, By: by})
		return nil
	})
}

// Retired says how a generation is kept that is live no more.
type Retired struct {
	// Table is the name of its table from now on; empty where there was none live.
	Table string
	// Keep is for how long it can be rolled back to, and Feed whether it is fed so long.
	Keep time.Duration
	Feed bool
}

// retire puts the live generation among the previous ones.
func (d *Document) retire(how Retired) {
	if d.Live.Generation == 0 {
		return
	}
	old := Previous{
		Generation: d.Live, Batch: d.Batch, Table: how.Table, RetiredAt: now(), DropAfter: now().Add(how.Keep), Damaged: d.Damaged,
		Feed: how.Feed && d.Damaged == "",
	}
	d.Previous = slices.Insert(d.Previous, 0, old)
}

// RollBack makes a previous generation the live one again: its table has the live
// name already. Its positions are where it was left, or fed up to: it is fed from
// there, by a definition of its digest.
func (h *Hold) RollBack(ctx context.Context, generation uint64, old Retired, by string) error {
	return h.write(ctx, func(d *Document) error {
		if d.Pending != nil {
			return fmt.Errorf("projection %s: batch %d is not settled", d.Name, d.Pending.Batch)
		}
		if d.Live.Generation == generation {
			return nil
		}
		kept, err := d.kept(generation)
		if err != nil {
			return err
		}
		if kept.Pending != nil {
			return fmt.Errorf("projection %s: batch %d is not settled", d.Name, kept.Pending.Batch)
		}
		back := *kept
		d.Previous = slices.DeleteFunc(d.Previous, func(p Previous) bool { return p.Generation.Generation == generation })
		from := d.Live.Generation
		d.retire(old)
		d.Live, d.Batch, d.Damaged, d.Waiting = back.Generation, back.Batch, back.Damaged, nil
		d.Live.LiveAt = now()
		d.log(HistoryEntry{Time: now(), What: "rolled_back", Generation: generation, By: by, Message: fmt.Sprintf("from generation %d", from)})
		return nil
	})
}

// DamageKept notes why a previous generation cannot be trusted or fed any more.
func (h *Hold) DamageKept(ctx context.Context, generation uint64, reason, by string) error {
	return h.write(ctx, func(d *Document) error {
		kept, err := d.kept(generation)
		if err != nil || kept.Damaged != "" {
			return err
		}
		kept.Damaged, kept.Feed = clip(reason), false
		d.log(HistoryEntry{Time: now(), What: "damaged", Generation: generation, By: by, Message: reason})
		return nil
	})
}

// Damage notes why the live table cannot be trusted any more. Nothing is written
// to it until another generation is live.
func (h *Hold) Damage(ctx context.Context, reason, by string) error {
	return h.write(ctx, func(d *Document) error {
		if d.Damaged != "" {
			return nil
		}
		d.Damaged = clip(reason)
		d.log(HistoryEntry{Time: now(), What: "damaged", Generation: d.Live.Generation, By: by, Message: reason})
		return nil
	})
}

// Release gives the hold back, with what was settled. The Hold has ended then.
func (h *Hold) Release(ctx context.Context) error {
	err := h.write(ctx, func(d *Document) error {
		d.Holder = nil
		return nil
	})
	h.end()
	return err
}

// ErrDamaged is wrapped where the live table cannot be trusted any more.
var ErrDamaged = errors.New("the table is damaged")

func damagedError(d *Document) error {
	return remedy.Wrapf(fmt.Errorf("projection %s: %w: %s", d.Name, ErrDamaged, d.Damaged), "rebuild it: reservoir rebuild create %s", d.Name)
}
