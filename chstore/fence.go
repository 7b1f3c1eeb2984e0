package chstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrLate is a statement that came to the server after the time of its Fence. It had no
// effect.
var ErrLate = errors.New("statement came too late")

// Fence keeps a statement from having an effect that comes later than it was meant to:
// its process may have been stopped, have waited for a connection, or have sent the rows
// slowly, and by then somebody else may have taken its place. The server looks when it
// has got all of the statement; what it has begun by then, Kill ends.
type Fence struct {
	// Mark is what the table must bear, else the error is ErrChangedByHand: the name may be
	// that of another table by now.
	Mark Mark
	// Until is when it is too late, by the clock of the server (Clock): then the error is
	// ErrLate. Servers of one cluster should agree on the time to within some 100 ms.
	Until time.Time
}

// throwIfCode is what the function throwIf fails with.
const throwIfCode = 395

// What the server says where a fence is in the way.
const (
	lateNote    = "reservoir: the statement came too late"
	strangeNote = "reservoir: another table has the name"
)

// conditions are those of SQL that fail where the fence is in the way.
func (f *Fence) conditions(table Table) ([]string, error) {
	comment, err := f.Mark.Comment()
	if err != nil {
		return nil, err
	}
	return []string{
		fmt.Sprintf("throwIf(now64(6, 'UTC') >= fromUnixTimestamp64Micro(%d, 'UTC'), %s) = 0", f.Until.UnixMicro(), Literal(lateNote)),
		"throwIf((SELECT count() FROM system.tables WHERE database = " + Literal(table.Database) + " AND name = " + Literal(table.Name) +
			" AND comment = " + Literal(comment) + ") = 0, " + Literal(strangeNote) + ") = 0",
	}, nil
}

// fenced makes of an error of throwIf the one that a fence means by it. The server says
// first what failed, and may then name the whole condition.
func (e *Error) fenced() {
	for note, kind := range map[string]error{lateNote: ErrLate, strangeNote: ErrChangedByHand} {
		if strings.HasPrefix(e.Message, note) {
			e.Message, e.kind = strings.TrimPrefix(note, "reservoir: "), kind
			return
		}
	}
}

// Clock returns the time of the server.
func (s *Store) Clock(ctx context.Context) (now time.Time, err error) {
	err = s.scan(ctx, &statement{what: "clock", doing: "ask for the time", text: "SELECT now64(6, 'UTC')"}, &now)
	return now, err
}
