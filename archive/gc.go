package archive

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"strings"
	"time"

	"github.com/reservoirhq/reservoir/objectstore"
)

// MinGrace is the shortest grace period that GC accepts without Force: a
// segment must be committed, and a reader done, within the grace period.
const MinGrace = time.Hour

// GCSpec says what to collect.
type GCSpec struct {
	Stream string
	// Grace is how long an object stays after it was written, and after the
	// commit that removed it; default 24h. It must be longer than any writer
	// takes from finishing a segment to committing it, any reader works on one
	// plan, and clocks differ.
	Grace time.Duration
	// Force allows a Grace below MinGrace: for when no one else uses the stream.
	Force bool
	// DryRun deletes nothing.
	DryRun bool
	// Collected is called for every object that was (or would be) deleted.
	Collected func(objectstore.Info)
}

// GCReport counts what was, or with DryRun would be, deleted.
type GCReport struct {
	Segments  uint64 `json:"segments"`
	Snapshots uint64 `json:"snapshots"`
	Bytes     int64  `json:"bytes"`
	// Kept counts the objects that no live view names, but whose grace period has
	// not passed.
	Kept uint64 `json:"kept"`
}

// keptSnapshots is how many of the newest snapshots are never collected.
const keptSnapshots = 2

// GC deletes the data objects that no commit names, and old snapshots, once the
// grace period has passed. It is safe beside writers, readers and other GCs.
// Commits are never deleted.
func (a *Archive) GC(ctx context.Context, spec GCSpec) (GCReport, error) {
	var report GCReport
	if spec.Grace == 0 {
		spec.Grace = 24 * time.Hour
	}
	if spec.Grace < MinGrace && !spec.Force {
		return report, fmt.Errorf("collect garbage: grace period %s is too short to be safe: want at least %s, or Force", spec.Grace, MinGrace)
	}
	if err := CheckStreamName(spec.Stream); err != nil {
		return report, err
	}
	newest, err := a.newestIncarnation(ctx, spec.Stream)
	if err != nil {
		return report, fmt.Errorf("collect garbage of stream %q: %w", spec.Stream, err)
	}
	for n := 1; n <= newest; n++ {
		g := &collection{a: a, spec: spec, report: &report, dir: incarnationDir(spec.Stream, n), before: a.opts.Clock().Add(-spec.Grace)}
		if err := g.run(ctx); err != nil {
			return report, fmt.Errorf("collect garbage of stream %q: %w", spec.Stream, err)
		}
	}
	return report, nil
}

// collection is GC in one incarnation.
type collection struct {
	a      *Archive
	spec   GCSpec
	report *GCReport
	dir    string
	before time.Time // what is older may go
}

// deleteBatch is how many objects are deleted after one look at the log.
const deleteBatch = 500

func (g *collection) run(ctx context.Context) error {
	v, err := g.a.view(ctx, g.dir, 0)
	if err != nil {
		return err
	}
	if err := g.whole(ctx, v); err != nil {
		return err
	}
	live, err := v.liveKeys(ctx)
	if err != nil {
		return err
	}
	removed, err := g.recentlyRemoved(ctx, v)
	if err != nil {
		return err
	}
	var doomed []objectstore.Info
	for info, err := range g.a.unnamed(ctx, g.dir, live) {
		if err != nil {
			return err
		}
		if !info.ModTime.Before(g.before) || removed.has(strings.TrimPrefix(info.Key, g.dir)) {
			g.report.Kept++
			continue
		}
		if doomed = append(doomed, info); len(doomed) == deleteBatch {
			if err := g.deleteSegments(ctx, v, doomed); err != nil {
				return err
			}
			doomed = doomed[:0]
		}
	}
	if err := g.deleteSegments(ctx, v, doomed); err != nil {
		return err
	}
	return g.deleteSnapshots(ctx)
}

// recentlyRemoved gives what was removed within the grace period: readers may
// have planned with it. Commit times are those of their writers' clocks, and
// need not go up; a commit long before the grace period ends the search.
func (g *collection) recentlyRemoved(ctx context.Context, v *view) (*keySet, error) {
	removed := newKeySet()
	if v.last == nil {
		return removed, nil
	}
	longBefore := g.before.Add(-MinGrace)
	for upTo := v.last.Number; upTo > 0; {
		n := min(upTo, maxWindow)
		for _, r := range g.a.fetchCommits(ctx, g.dir, upTo-n+1, int(n)) {
			if r.err != nil {
				return nil, r.err
			}
			if r.commit.Time.Before(g.before) {
				if r.commit.Time.Before(longBefore) {
					upTo = n // the last round
				}
				continue
			}
			for _, key := range r.commit.Removes {
				removed.add(key)
			}
		}
		upTo -= n
	}
	return removed, nil
}

// deleteSegments deletes what no commit since v names either.
func (g *collection) deleteSegments(ctx context.Context, v *view, doomed []objectstore.Info) error {
	if len(doomed) == 0 {
		return nil
	}
	named := newKeySet()
	after := uint64(0)
	if v.last != nil {
		after = v.last.Number
	}
	for c, err := range g.a.commits(ctx, g.dir, after, 0) {
		if err != nil {
			return err
		}
		for _, s := range c.Adds {
			named.add(s.Key)
		}
	}
	for _, info := range doomed {
		if named.has(strings.TrimPrefix(info.Key, g.dir)) {
			continue
		}
		if err := g.delete(ctx, info); err != nil {
			return err
		}
		g.report.Segments++
	}
	return nil
}

func (g *collection) delete(ctx context.Context, info objectstore.Info) error {
	if !g.spec.DryRun {
		if err := g.a.store.Delete(ctx, info.Key); err != nil {
			return fmt.Errorf("delete %s: %w", info.Key, err)
		}
	}
	g.report.Bytes += info.Size
	if g.spec.Collected != nil {
		g.spec.Collected(info)
	}
	return nil
}

func (g *collection) deleteSnapshots(ctx context.Context) error {
	numbers, err := g.a.snapshots(ctx, g.dir)
	if err != nil {
		return err
	}
	for _, n := range numbers[:max(0, len(numbers)-keptSnapshots)] {
		info, err := g.a.store.Head(ctx, g.dir+snapshotKey(n))
		switch {
		case errors.Is(err, objectstore.ErrNotFound):
			continue
		case err != nil:
			return fmt.Errorf("look at snapshot %d: %w", n, err)
		case !info.ModTime.Before(g.before):
			g.report.Kept++
			continue
		}
		if err := g.delete(ctx, info); err != nil {
			return err
		}
		g.report.Snapshots++
	}
	return nil
}

// unnamed gives the data objects of an incarnation that are not in keep.
func (a *Archive) unnamed(ctx context.Context, dir string, keep *keySet) iter.Seq2[objectstore.Info, error] {
	return func(yield func(objectstore.Info, error) bool) {
		for format := range formatExts {
			for info, err := range a.store.List(ctx, dir+string(format)+"/", objectstore.ListOptions{}) {
				if err != nil {
					yield(info, fmt.Errorf("list objects: %w", err))
					return
				}
				if !keep.has(strings.TrimPrefix(info.Key, dir)) && !yield(info, nil) {
					return
				}
			}
		}
	}
}

// keySet is a set of keys that may hold a little more than was added, which
// errs on the side of keeping; it takes some 16 bytes a key.
type keySet struct {
	seed maphash.Seed
	keys map[uint64]struct{}
}

func newKeySet() *keySet { return &keySet{maphash.MakeSeed(), map[uint64]struct{}{}} }

func (s *keySet) add(key string) { s.keys[maphash.String(s.seed, key)] = struct{}{} }

func (s *keySet) has(key string) bool {
	_, ok := s.keys[maphash.String(s.seed, key)]
	return ok
}

func (v *view) liveKeys(ctx context.Context) (*keySet, error) {
	keys := newKeySet()
	for rec, err := range v.records(ctx) {
		if err != nil {
			return nil, err
		}
		if rec.Segment != nil {
			keys.add(rec.Segment.Key)
		}
	}
	return keys, nil
}

// checkGarbage reports the objects that no commit names.
func (v *incarnationCheck) checkGarbage(ctx context.Context, view *view) error {
	keys, err := view.liveKeys(ctx)
	if err != nil {
		return v.damaged(err)
	}
	for info, err := range v.a.unnamed(ctx, v.dir, keys) {
		if err != nil {
			return err
		}
		v.found(Info, FindingUnreferenced, strings.TrimPrefix(info.Key, v.dir), "no live view names this object of %d bytes", info.Size)
	}
	return nil
}

// checkUncommitted reports what is there of an incarnation without any commit. An archiver
// that is at its first commit, or was killed there, leaves the same behind as who loses the
// log, so it is a warning.
func (v *incarnationCheck) checkUncommitted(ctx context.Context) error {
	objects, bytes := 0, int64(0)
	for info, err := range v.a.unnamed(ctx, v.dir, newKeySet()) {
		if err != nil {
			return err
		}
		objects, bytes = objects+1, bytes+info.Size
	}
	if objects > 0 {
		v.found(Warning, FindingUncommitted, "", "%d segments of %d bytes are there, and no commit at all", objects, bytes)
	}
	return nil
}
