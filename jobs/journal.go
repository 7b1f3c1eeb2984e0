package jobs

import "slices"

// journal holds the entries of a log that are not yet written: the last MaxLog.
type journal struct {
	entries []LogEntry
	first   int // the number of entries[0], counting from the first ever
}

func (l *journal) add(e LogEntry) {
	l.entries = append(l.entries, e)
	l.cut(l.end() - MaxLog)
}

// end is the number of the next entry.
func (l *journal) end() int { return l.first + len(l.entries) }

// cut drops what comes before a number.
func (l *journal) cut(upTo int) {
	if n := upTo - l.first; n > 0 {
		l.entries = slices.Delete(l.entries, 0, n)
		l.first = upTo
	}
}
