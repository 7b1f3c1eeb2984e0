package archiver

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/redisstream"
)

// prepare brings what is known of a stream up to date before a drain: the log's
// end (another archiver may have moved it), what Redis has now, and whether
// that is still the history that was archived. Where it is not, the incarnation
// is sealed and the next one begun.
func (a *Archiver) prepare(ctx context.Context, st *stream) error {
	if err := a.loadLog(ctx, st); err != nil {
		return err
	}
	err := a.look(ctx, st)
	if err != nil {
		return err
	}
	if !st.present {
		return a.removed(ctx, st)
	}
	same, err := a.sameHistory(ctx, st)
	if err != nil {
		return err
	}
	if same {
		return a.wentBack(ctx, st)
	}
	return a.replaceHistory(ctx, st)
}

// look takes note of what Redis has now.
func (a *Archiver) look(ctx context.Context, st *stream) error {
	asked := st.witness()
	info, digest, err := a.redis.InfoAt(ctx, st.name, asked)
	if errors.Is(err, redisstream.ErrNoStream) {
		st.present, st.info = false, redisstream.Info{}
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at %s: %w", st.name, err)
	}
	st.see(info, asked, digest)
	st.present = true
	return nil
}

// wentBack commits a gap when Redis has the archived history but has lost
// entries after it that this process saw: a failover to a replica that was
// behind, or a restart from an older file. Other entries may have come since.
func (a *Archiver) wentBack(ctx context.Context, st *stream) error {
	seen := st.seen
	if seen == st.info || seen.EntriesAdded <= st.log.EntriesAdded() || !st.log.Head().Less(seen.LastGeneratedID) {
		st.seen = st.info
		return nil
	}
	since, err := a.countBetween(ctx, st, seen.LastGeneratedID, st.info.LastGeneratedID)
	if err != nil {
		return fmt.Errorf("count what came to %s after it went back: %w", st.name, err)
	}
	before := st.info.EntriesAdded - min(since, st.info.EntriesAdded) // with IDs that were seen
	loss := &redisstream.Loss{
		After: st.log.Head(), UpTo: seen.LastGeneratedID, Lost: st.lostOf(seen.EntriesAdded, before),
		Cause: redisstream.CauseFailover, Added: st.log.EntriesAdded(),
	}
	// Another archiver that saw the same may have been here first.
	if loss.Lost > 0 && !isLast(st.log, loss) {
		if err := a.commitGap(ctx, st, loss); err != nil {
			return err
		}
	}
	st.seen = st.info
	return nil
}

// lostOf gives how many of the entries that were seen are lost at the least, where
// others hold so many of their places.
func (s *stream) lostOf(seen, others uint64) uint64 {
	lost := seen - min(seen, others)
	if s.missed {
		return max(lost, 1)
	}
	return lost
}

// isLast reports whether a loss is the last thing that a log says.
func isLast(log *archive.Log, loss *redisstream.Loss) bool {
	last := log.Last()
	return last != nil && last.Gap != nil && *last.Gap == *gapOf(loss)
}

// countBetween counts the entries of (after, to] that are in Redis.
func (a *Archiver) countBetween(ctx context.Context, st *stream, after, to event.ID) (uint64, error) {
	n := uint64(0)
	if st.info.Length == 0 || !after.Less(to) || to.Less(st.info.FirstID) {
		return 0, nil
	}
	for e, err := range a.redis.Scan(ctx, st.name, after) {
		if err != nil {
			return 0, err
		}
		if to.Less(e.ID) {
			break
		}
		n++
	}
	return n, nil
}

func (a *Archiver) loadLog(ctx context.Context, st *stream) error {
	if st.log == nil {
		log, err := a.archive.Log(ctx, st.name)
		if err != nil {
			return fmt.Errorf("load the commit log of %s: %w", st.name, err)
		}
		st.log = log
		return nil
	}
	incarnation := st.log.Incarnation()
	if err := st.log.Refresh(ctx); err != nil {
		return fmt.Errorf("refresh the commit log of %s: %w", st.name, err)
	}
	if st.log.Incarnation() != incarnation { // another archiver began it, and recorded what was lost with the one before
		st.seen, st.verified = redisstream.Info{}, 0
	}
	return nil
}

// sameHistory reports whether Redis still holds the history that the archive's
// head belongs to. The counters cannot have gone back, and the entry at the
// head, if it is still there, must have the same content. An entry that is not
// there was trimmed or deleted, if Redis says that it trims or deletes there; but
// not in a stream that was gone meanwhile.
func (a *Archiver) sameHistory(ctx context.Context, st *stream) (bool, error) {
	head := st.log.Head()
	if head.IsZero() {
		return true, nil
	}
	if !fits(st.info, head, st.log.EntriesAdded()) {
		return false, nil
	}
	if digest := st.log.HeadDigest(); digest != "" { // or else it is the end of a gap
		e, found, err := a.redis.Get(ctx, st.name, head)
		if err != nil {
			return false, fmt.Errorf("compare %s with its archive: %w", st.name, err)
		}
		if found && event.Digest(e) == digest {
			if last := st.log.Last(); last != nil {
				st.verified = last.Number
			}
			return true, nil
		}
		if found {
			return false, nil
		}
		if !st.info.Explains(head) {
			return false, nil
		}
	}
	if last := st.log.Last(); last != nil && last.Number == st.verified {
		return true, nil
	}
	gone, err := wasGone(ctx, st.log)
	if err != nil {
		return false, fmt.Errorf("look whether %s was gone: %w", st.name, err)
	}
	return !gone, nil
}

// removed records that a stream's key is gone, and with it what is known to have
// been in it beyond the archive: at the least that, for nobody can know what was
// added after the last look. The incarnation goes on: only what comes back, if
// anything does, tells whether it is the same stream.
func (a *Archiver) removed(ctx context.Context, st *stream) error {
	st.verified, st.settled = 0, event.ID{}
	if !st.leaves() {
		return nil
	}
	recorded, err := wasGone(ctx, st.log)
	if err != nil {
		return fmt.Errorf("look whether %s was gone before: %w", st.name, err)
	}
	loss := &redisstream.Loss{
		After: st.log.Head(), UpTo: st.log.Head().Next(), Cause: redisstream.CauseRemoved, Added: st.log.EntriesAdded(),
	}
	if st.seen.EntriesAdded > loss.Added && loss.After.Less(st.seen.LastGeneratedID) {
		loss.UpTo, loss.Lost = st.seen.LastGeneratedID, st.seen.EntriesAdded-loss.Added
	}
	if !recorded || loss.Lost > 0 && !isLast(st.log, loss) {
		if err := a.commitGap(ctx, st, loss); err != nil {
			return err
		}
	}
	st.gone, st.seen = true, redisstream.Info{}
	return nil
}

// wasGone reports whether the last thing that a log says of its stream is that
// it was gone from Redis.
func wasGone(ctx context.Context, log *archive.Log) (bool, error) {
	if last := log.Last(); last == nil || last.Kind == archive.KindAppend {
		return false, nil
	}
	for c, err := range log.Backwards(ctx) {
		if err != nil {
			return false, err
		}
		switch c.Kind {
		case archive.KindCompact, archive.KindExpire, archive.KindErase:
		default:
			return c.Gap != nil && c.Gap.Cause == archive.CauseRemoved, nil
		}
	}
	return false, nil
}

// replaceHistory seals the incarnation and begins the next one where the
// history in Redis leaves the archived one.
func (a *Archiver) replaceHistory(ctx context.Context, st *stream) error {
	at, err := a.findFork(ctx, st)
	if err != nil {
		return fmt.Errorf("compare %s with its archive: %w", st.name, err)
	}
	cause := archive.CauseFailover
	if at.base.IsZero() {
		cause = archive.CauseRemoved
	}
	if err := a.recordUnarchived(ctx, st, redisstream.Cause(cause)); err != nil {
		return err
	}
	return a.seal(ctx, st, cause, at)
}

// replacedMeanwhile is replaceHistory for a stream of which that shows while it is
// read: it may have been replaced since it was looked at.
func (a *Archiver) replacedMeanwhile(ctx context.Context, st *stream) error {
	if err := a.look(ctx, st); err != nil || !st.present {
		return err // gone already: the next drain records that
	}
	return a.replaceHistory(ctx, st)
}

// recordUnarchived commits a gap for entries that this process saw in the
// stream (by its counters) and that went away with it. Nobody can know what was
// added after the last look, nor whether what the other stream holds in their
// place is the same, so the count is a lower bound.
func (a *Archiver) recordUnarchived(ctx context.Context, st *stream, cause redisstream.Cause) error {
	seen, head := st.seen, st.log.Head()
	if seen == st.info || seen.EntriesAdded <= st.log.EntriesAdded() || !head.Less(seen.LastGeneratedID) {
		return nil
	}
	others, err := a.countBetween(ctx, st, head, seen.LastGeneratedID)
	if err != nil {
		return fmt.Errorf("count what is in the place of what was lost of %s: %w", st.name, err)
	}
	loss := &redisstream.Loss{
		After: head, UpTo: seen.LastGeneratedID, Lost: st.lostOf(seen.EntriesAdded-st.log.EntriesAdded(), others),
		Cause: cause, Added: seen.EntriesAdded,
	}
	if loss.Lost == 0 {
		return nil
	}
	return a.commitGap(ctx, st, loss)
}

// fork is where two histories of one stream part: entries up to base are in
// both, added says how many had been added by then.
type fork struct {
	base   event.ID
	digest string // of the entry at base
	added  uint64
}

func (a *Archiver) seal(ctx context.Context, st *stream, reason archive.GapCause, at fork) error {
	a.log.Error("the stream in Redis is not the one that was archived; a new incarnation begins",
		"stream", st.name, "incarnation", st.log.Incarnation(), "reason", reason, "head", st.log.Head(), "base", at.base)
	err := a.commit(ctx, st, archive.Commit{
		Kind: archive.KindSeal,
		Seal: &archive.Seal{Reason: reason, Next: st.log.Incarnation() + 1, Base: at.base, BaseDigest: at.digest, BaseEntriesAdded: at.added},
	})
	if err != nil {
		return err
	}
	st.seen, st.verified = redisstream.Info{}, 0
	return nil
}

// findFork compares archive and Redis where they overlap. It finds the newest
// commit whose head Redis holds with the same content, then goes on entry by
// entry. Histories with nothing in common have the zero fork.
func (a *Archiver) findFork(ctx context.Context, st *stream) (fork, error) {
	at, err := a.lastCommon(ctx, st)
	if err != nil || at.base.IsZero() {
		return fork{}, err
	}
	err = a.recount(ctx, st, &at)
	return at, err
}

// recount corrects the count at a fork where Redis began to count anew: entries
// that were copied to another server keep their IDs only.
func (a *Archiver) recount(ctx context.Context, st *stream, at *fork) error {
	later := uint64(0)
	for e, err := range a.redis.Scan(ctx, st.name, at.base) {
		if err != nil {
			return err
		}
		if st.info.LastGeneratedID.Less(e.ID) {
			break // added since info was
		}
		later++
	}
	at.added = min(at.added, st.info.EntriesAdded-min(later, st.info.EntriesAdded))
	return nil
}

// lastCommon is findFork, with the archive's count.
func (a *Archiver) lastCommon(ctx context.Context, st *stream) (fork, error) {
	for c, err := range st.log.Backwards(ctx) {
		if err != nil {
			return fork{}, err
		}
		if c.Head.Less(st.info.FirstID) {
			break // Redis holds nothing so old
		}
		if c.HeadDigest == "" || st.info.LastGeneratedID.Less(c.Head) {
			continue
		}
		e, found, err := a.redis.Get(ctx, st.name, c.Head)
		if err != nil {
			return fork{}, err
		}
		if found && event.Digest(e) == c.HeadDigest {
			at := fork{c.Head, c.HeadDigest, c.EntriesAdded}
			_, err := a.followFork(ctx, st, &at)
			return at, err
		}
	}
	// Nothing to go by but what Redis still has. What it no longer has was added
	// before that.
	at := fork{base: st.info.FirstID.Prev(), added: st.info.EntriesAdded - st.info.Length}
	common, err := a.followFork(ctx, st, &at)
	if err != nil || !common {
		return fork{}, err
	}
	return at, nil
}

// followFork moves a fork forward for as long as the next entries are the same
// in both histories, and reports whether any were.
func (a *Archiver) followFork(ctx context.Context, st *stream, at *fork) (common bool, err error) {
	plan, err := a.archive.Plan(ctx, archive.PlanSpec{
		Stream: st.name, Incarnation: st.log.Incarnation(), Range: event.Range{From: at.base.Next(), To: st.info.LastGeneratedID},
	})
	if err != nil {
		return false, err
	}
	live, stop := iter.Pull2(a.redis.Scan(ctx, st.name, at.base))
	defer stop()
	for archived, err := range plan.Events(ctx) {
		if err != nil {
			return false, err
		}
		e, err, more := live()
		if err != nil {
			return false, err
		}
		if !more || !e.Equal(archived) {
			break
		}
		*at = fork{archived.ID, event.Digest(e), at.added + 1}
		common = true
	}
	return common, nil
}
