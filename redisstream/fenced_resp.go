package redisstream

import (
	"bytes"
	"strconv"

	"github.com/reservoirhq/reservoir/event"
)

// executed takes the replies to MULTI, n commands, and the head of that to EXEC.
// A transaction that was not executed because of a watched key is an
// errConflict; after another error reply nothing was executed either.
func (in *input) executed(n int) error {
	if _, _, err := in.status(); err != nil {
		return in.fail(err) // what follows was not queued but executed
	}
	var failed error
	for range n {
		if err := in.oneQueued(); err != nil {
			if in.err != nil {
				return in.err
			}
			failed = firstOf(failed, err)
		}
	}
	got, err := in.length('*')
	switch {
	case in.err != nil:
		return in.err
	case err != nil:
		return firstOf(failed, err)
	case got < 0:
		return errConflict
	case got != n:
		return in.bad("%d replies of %d in a transaction", got, n)
	}
	return nil
}

func firstOf(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// oneQueued takes the reply to a command in a transaction.
func (in *input) oneQueued() error {
	const queued = "+QUEUED\r\n"
	if len(in.buf)-in.pos >= len(queued) && bytes.Equal(in.buf[in.pos:in.pos+len(queued)], []byte(queued)) {
		in.pos += len(queued)
		return nil
	}
	_, _, err := in.status()
	return err
}

// statusOrNumber takes a simple string or a number.
func (in *input) statusOrNumber() error {
	if err := in.need(1); err != nil {
		return err
	}
	if in.buf[in.pos] == ':' {
		_, err := in.number()
		return err
	}
	_, _, err := in.status()
	return err
}

// text takes a bulk string.
func (in *input) text() (string, error) {
	at, n, err := in.bulk(1 << 20)
	if err != nil {
		return "", in.fail(err)
	}
	return string(in.buf[at : at+n]), nil
}

// textOrNull takes a bulk string or a null, or an error reply, after which the
// input can be used on.
func (in *input) textOrNull() (text string, there bool, err error) {
	n, err := in.length('$')
	if err != nil || n < 0 {
		return "", false, err
	}
	if n > 1<<20 {
		return "", false, in.fail(errOverLimit(n))
	}
	if err := in.need(n + 2); err != nil {
		return "", false, err
	}
	text = string(in.buf[in.pos : in.pos+n])
	in.pos += n + 2
	return text, true, nil
}

// setIDCommand restores a stream's counters.
func setIDCommand(stream string, last event.ID, added uint64, maxDeleted event.ID) []string {
	return []string{"XSETID", stream, last.String(), "ENTRIESADDED", strconv.FormatUint(added, 10), "MAXDELETEDID", maxDeleted.String()}
}
