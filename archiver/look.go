package archiver

import (
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/redisstream"
)

// see takes note of what Redis says, and of the digest of the entry that witness asked
// for, "" if it is not there. What was seen before is kept when what Redis says now is
// not that stream, gone on: what it held beyond the archive is a loss then.
func (s *stream) see(info redisstream.Info, asked event.ID, digest string) {
	s.info, s.gone = info, false
	s.missed = !asked.IsZero() && digest != s.seen.LastDigest && (digest != "" || !info.Explains(asked))
	if !s.missed && (digest != "" && info.EntriesAdded >= s.seen.EntriesAdded || goesOn(s.seen, info)) {
		s.seen = info
	}
}

// witness gives the entry that tells the stream that was seen from another one, while
// something that was seen is not archived; the archive's head tells otherwise.
func (s *stream) witness() event.ID {
	if s.log != nil && s.seen.EntriesAdded <= s.log.EntriesAdded() {
		return event.ID{}
	}
	return s.seen.LastID
}

// goesOn reports whether, by all that counters can tell, a stream that was seen is the
// one that there is now.
func goesOn(seen, info redisstream.Info) bool {
	switch {
	case !fits(info, seen.LastGeneratedID, seen.EntriesAdded):
		return false
	case info.EntriesAdded == seen.EntriesAdded:
		return info.LastGeneratedID == seen.LastGeneratedID &&
			(info.LastID != seen.LastID || info.LastDigest == seen.LastDigest)
	default:
		return true
	}
}

// fits reports whether a stream can be the one to which added entries had been added
// up to head: its counters have not gone back, and where none of those entries is left,
// at least as many have gone.
func fits(info redisstream.Info, head event.ID, added uint64) bool {
	if info.LastGeneratedID.Less(head) || info.EntriesAdded < added {
		return false
	}
	left := info.Length > 0 && !head.Less(info.FirstID)
	return left || info.EntriesAdded-min(info.EntriesAdded, info.Length) >= added
}

// upToDate reports whether the archive covers everything that Redis has. That the
// counts are the same says little: another stream may have come to the same count.
func (s *stream) upToDate() bool {
	if !s.compared || s.info != s.seen || s.info.EntriesAdded != s.log.EntriesAdded() {
		return false
	}
	head, last := s.log.Head(), s.info.LastGeneratedID
	if last != head {
		return last == s.settled
	}
	digest := s.log.HeadDigest()
	return s.info.LastID != head || digest == "" || digest == s.info.LastDigest
}

// drained takes note that a drain came to its end.
func (s *stream) drained() {
	if s.compared = s.present; s.present && s.info.EntriesAdded == s.log.EntriesAdded() {
		s.settled = s.info.LastGeneratedID
	}
}
