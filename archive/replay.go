package archive

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/reservoirhq/reservoir/objectstore"
)

// replay is what the commits of a log add up to, in constant memory: the live
// keys are known by their sum only.
type replay struct {
	last   *Commit
	keys   keySum
	totals Totals // of the live segments, where they were added up
	counts struct{ appended, lost uint64 }
	exact  bool // all gaps were
	at     map[uint64]milestone
}

// milestone is the replay at a commit that has a snapshot.
type milestone struct {
	keys keySum
	last Commit
}

func newReplay() *replay { return &replay{exact: true, at: map[uint64]milestone{}} }

// keySum is the sum of the hashes of a set of keys: equal sets have equal sums,
// whatever the order, and different ones practically never have.
type keySum [2]uint64

func (s *keySum) add(key string) { s.combine(key, 1) }
func (s *keySum) sub(key string) { s.combine(key, ^uint64(0)) }

func (s *keySum) combine(key string, sign uint64) {
	h := sha256.Sum256([]byte(key))
	s[0] += sign * binary.BigEndian.Uint64(h[:])
	s[1] += sign * binary.BigEndian.Uint64(h[8:])
}

func (r *replay) addSpan(s *Span) {
	r.totals.add(s)
	for _, seg := range s.Segments {
		r.keys.add(seg.Key)
	}
}

// checkedSnapshots is how many of the newest snapshots are verified.
const checkedSnapshots = 2

// replay reads all commits of the incarnation, and checks each against itself
// and the ones before it.
func (v *incarnationCheck) replay(ctx context.Context, base Seal) (*replay, error) {
	snapshots, err := v.a.snapshots(ctx, v.dir)
	if err != nil {
		return nil, err
	}
	wanted := map[uint64]bool{}
	for _, n := range snapshots[max(0, len(snapshots)-checkedSnapshots):] {
		wanted[n] = true
	}
	r := newReplay()
	before := &Commit{Head: base.Base, EntriesAdded: base.BaseEntriesAdded}
	for c, err := range v.a.commits(ctx, v.dir, 0, 0) {
		if err != nil {
			return r, v.damaged(err)
		}
		v.checkCommit(before, c)
		for _, s := range c.Adds {
			r.keys.add(s.Key)
		}
		for _, key := range c.Removes {
			r.keys.sub(key)
		}
		if c.Kind == KindAppend {
			r.counts.appended += c.Totals.Events - before.Totals.Events
		}
		if c.Gap != nil {
			r.counts.lost = saturate(r.counts.lost, c.Gap.Lost)
			r.exact = r.exact && c.Gap.Exact
		}
		c.Adds, c.Removes = nil, nil
		r.last, before = c, c
		if wanted[c.Number] {
			r.at[c.Number] = milestone{r.keys, *c}
		}
		v.progress(VerifyTotals{Commits: 1})
	}
	v.checkEnd(r, base, snapshots)
	return r, nil
}

func (v *incarnationCheck) checkEnd(r *replay, base Seal, snapshots []uint64) {
	if r.last == nil {
		if len(snapshots) > 0 {
			v.found(Problem, FindingLog, commitKey(1), "the first commit is missing, and there are snapshots of later ones")
		}
		return
	}
	if n := len(snapshots); n > 0 && snapshots[n-1] > r.last.Number {
		v.found(Problem, FindingLog, commitKey(r.last.Number+1), "the commit is missing, and there is a snapshot of a later one")
	}
	accounted := base.BaseEntriesAdded + r.counts.appended + r.counts.lost
	if added := r.last.EntriesAdded; r.exact && added != 0 && added != accounted {
		v.found(Warning, FindingLog, commitKey(r.last.Number),
			"Redis had counted %d entries up to the head, and %d were archived or recorded as lost", added, accounted)
	}
}

// checkCommit checks c against the commit before it.
func (v *incarnationCheck) checkCommit(before, c *Commit) {
	key := commitKey(c.Number)
	if c.Prev != before.Head {
		v.found(Problem, FindingLog, key, "it follows head %s, and the head before it is %s", c.Prev, before.Head)
	}
	if err := c.validate(v.incarnation, before.EntriesAdded); err != nil {
		v.found(Problem, FindingLog, key, "%v", err)
	}
	if before.Seal != nil && (c.Kind.extends() || c.Seal == nil || *c.Seal != *before.Seal) {
		v.found(Problem, FindingLog, key, "it comes after the incarnation's seal")
	}
	var problem string
	switch t := before.Totals; c.Kind {
	case KindAppend, KindGap, KindSeal:
		want, err := t.after(c, nil)
		if err != nil || c.Totals != want {
			problem = fmt.Sprintf("its totals are %+v, and should be %+v", c.Totals, want)
		}
	case KindCompact:
		if c.Totals.Events != t.Events || c.Totals.RawBytes != t.RawBytes {
			problem = fmt.Sprintf("it compacts %d events to %d", t.Events, c.Totals.Events)
		}
	case KindExpire, KindErase:
		if c.Totals.Events > t.Events {
			problem = fmt.Sprintf("it makes %d events of %d", c.Totals.Events, t.Events)
		}
	}
	if problem != "" {
		v.found(Problem, FindingLog, key, "%s", problem)
	}
}

// checkSnapshots compares the newest snapshots with the replayed commits.
func (v *incarnationCheck) checkSnapshots(ctx context.Context, r *replay) error {
	for number, want := range r.at {
		if err := v.checkSnapshot(ctx, number, want); err != nil {
			if errors.Is(err, objectstore.ErrNotFound) {
				continue // collected meanwhile
			}
			if !errors.Is(err, ErrDamaged) {
				return err
			}
			v.found(Problem, FindingSnapshot, snapshotKey(number), "%v", err)
		}
	}
	return nil
}

func (v *incarnationCheck) checkSnapshot(ctx context.Context, number uint64, want milestone) error {
	header, err := v.a.snapshotHeader(ctx, v.dir, number)
	if err != nil {
		return err
	}
	if last := header.Last; last.Nonce != want.last.Nonce || last.Head != want.last.Head || last.Totals != want.last.Totals {
		return fmt.Errorf("%w: its last commit is not commit %d", ErrDamaged, number)
	}
	var keys keySum
	var totals Totals
	span := &Span{}
	flush := func() {
		if len(span.Segments) > 0 {
			totals.add(span)
		}
	}
	for rec, err := range v.a.snapshotRecords(ctx, v.dir, number) {
		switch {
		case err != nil:
			return err
		case rec.Gap != nil:
			totals.Gaps++
			totals.Lost = saturate(totals.Lost, rec.Gap.Lost)
			continue
		}
		keys.add(rec.Segment.Key)
		joined, err := span.join(*rec.Segment)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		if !joined {
			flush()
			span = newSpan(*rec.Segment)
		}
	}
	flush()
	if keys != want.keys || totals != want.last.Totals {
		return fmt.Errorf("%w: it does not hold what the commits up to %d add up to", ErrDamaged, number)
	}
	return nil
}
