package redisstream

import (
	"errors"
	"fmt"

	"github.com/reservoirhq/reservoir/event"
)

// ErrHistoryReplaced says that the stream is not the one that was read before. The key
// was deleted and made anew, or Redis came back with an older state.
var ErrHistoryReplaced = errors.New("the stream's history was replaced")

// Cause says how entries were lost, as far as Redis tells.
type Cause string

// The causes of losses. Ledger tells the first three apart; the others are for
// those who know more.
const (
	CauseTrimmed  Cause = "trimmed"  // XTRIM, MAXLEN or MINID passed the reader
	CauseDeleted  Cause = "deleted"  // XDEL
	CauseUnknown  Cause = "unknown"  // trimmed or deleted
	CauseRemoved  Cause = "removed"  // the key itself: DEL, expiry, eviction, FLUSHALL
	CauseFailover Cause = "failover" // Redis came back with an older state
)

// Loss is a number of entries that were added to the stream with IDs above
// After and up to UpTo, and were gone before they were read. Other entries of
// that range may have been read. A zero After means that where the loss begins
// is not known.
type Loss struct {
	After event.ID
	UpTo  event.ID
	Lost  uint64
	Exact bool // unset: Lost is a lower bound; those of a Ledger are exact
	Cause Cause
	// Added is the account (Ledger.Added) with this loss, and without any entry
	// that was read after it.
	Added uint64
}

// Ledger accounts for the entries of one stream: those that were read, and
// those that were lost before. It rests on three of Redis's numbers that each
// batch comes with, from the same instant: how many entries were ever added,
// how many there are, and the first and last ID. Whenever it is certain that
// all entries after the position, or all that are present, have been counted,
//
//	lost = ever added − accounted for − present and not read yet
//
// holds exactly. Between such moments a loss may be pending, and is found at the
// next one, at the latest when the end of the stream is reached.
//
// To begin where another reader left off, set Position and Added. The zero
// value begins with the first entry ever added: what was trimmed before counts
// as lost.
type Ledger struct {
	Position event.ID // of the last entry read
	// Added is how many of the entries ever added are accounted for. While no
	// loss is pending, that is all with IDs up to Position.
	Added uint64

	begun   bool
	settled event.ID // no loss is pending up to here
	batch   uint64   // Added after the entries of the last batch
}

// Observe takes the account of a batch that was read after Position, and moves
// Position to its last entry. A loss that lies before the batch's first entry
// as a whole is returned as before. Any other is returned as after: some of it
// may lie between the batch's entries, or before them; its UpTo is above the
// batch's last entry only when the end of the stream was reached. At most one
// of the two is set.
//
// ErrHistoryReplaced is returned when the counters contradict what was read
// before; the Ledger is unchanged then. A stream that was deleted, made anew and
// then lost more entries than are accounted for looks like a loss: only a
// comparison of contents can tell.
func (l *Ledger) Observe(s Snapshot, b *event.Batch) (before, after *Loss, err error) {
	n, end := uint64(b.Len()), l.Position
	if n > 0 {
		end = b.ID(b.Len() - 1)
	}
	if !l.begun {
		l.begun, l.settled = true, l.Position
	}
	if !s.HasInfo {
		l.read(n, end)
		return nil, nil, nil
	}
	info := s.Info
	atEnd := !end.Less(info.LastID)
	allUnread := l.Position.Less(info.FirstID)
	present := n // and not read before: known if atEnd, a lower bound otherwise
	if !atEnd && allUnread {
		present = info.Length
	}
	if err := l.check(info, end, present); err != nil {
		return nil, nil, err
	}
	early := allUnread && info.MaxDeletedID.Less(info.FirstID)
	certain := atEnd || early || allUnread && !end.Less(info.MaxDeletedID)
	if !certain {
		l.read(n, end)
		return nil, nil, nil
	}
	loss := &Loss{
		After: l.settled, UpTo: end, Exact: true, Cause: l.cause(info),
		Lost: info.EntriesAdded - l.Added - present,
	}
	switch {
	case early:
		loss.UpTo = info.FirstID.Prev()
	case atEnd:
		loss.UpTo = info.LastGeneratedID
	}
	if !loss.After.Less(loss.UpTo) {
		loss.After = event.ID{}
	}
	l.settled = end
	if atEnd {
		l.settled = info.LastGeneratedID
	}
	return l.record(loss, early, n, end)
}

// check compares the counters with what is known to have been in the stream.
func (l *Ledger) check(info Info, end event.ID, present uint64) error {
	if info.LastGeneratedID.Less(end) || info.LastGeneratedID.Less(l.settled) {
		return fmt.Errorf("%w: its last ID is %s, below %s, which it had before", ErrHistoryReplaced, info.LastGeneratedID, l.settled)
	}
	if info.EntriesAdded < l.Added || info.EntriesAdded-l.Added < present {
		return fmt.Errorf("%w: %d entries were ever added, fewer than the %d accounted for and %d new ones",
			ErrHistoryReplaced, info.EntriesAdded, l.Added, present)
	}
	return nil
}

// cause tells what removed entries above settled. Trimming removes the oldest:
// with one at or below settled left it did not happen above.
func (l *Ledger) cause(info Info) Cause {
	switch {
	case !l.settled.Less(info.MaxDeletedID):
		return CauseTrimmed
	case !info.FirstID.IsZero() && !l.settled.Less(info.FirstID):
		return CauseDeleted
	default:
		return CauseUnknown
	}
}

// record takes the account of n entries up to end and of a loss.
func (l *Ledger) record(loss *Loss, early bool, n uint64, end event.ID) (before, after *Loss, err error) {
	if early {
		l.Added += loss.Lost
		loss.Added = l.Added
		before = loss
	}
	l.read(n, end)
	if !early {
		l.Added += loss.Lost
		loss.Added = l.Added
		after = loss
	}
	if loss.Lost == 0 {
		return nil, nil, nil
	}
	return before, after, nil
}

func (l *Ledger) read(n uint64, end event.ID) {
	l.Position = end
	l.Added += n
	l.batch = l.Added
}

// AddedAt returns the account at the entry of the last batch after which
// remaining more followed in it: what to commit together with that entry as
// the head. A loss that Observe returned as after is not in it.
func (l *Ledger) AddedAt(remaining int) uint64 { return l.batch - uint64(remaining) }
