package archive

import "time"

// rememberFor is how long a commit is believed to be on the store still.
const rememberFor = time.Minute

// What commits take in memory, about: one without its Adds and Removes, and a decoded
// one for each byte of its JSON.
const (
	strippedSize = 1 << 10
	decodedSize  = 4
)

// remembered is a commit that was read, or the end of a log that was found. Nobody
// changes what it points to.
type remembered struct {
	commit Commit
	since  time.Time
}

// remember keeps a commit as what is called key: that of its object, or the directory
// of the log whose end it was since then.
func (a *Archive) remember(key string, c *Commit, size int64, since time.Time) {
	if a.remembered != nil {
		a.remembered.Put(key, remembered{*c, since}, size+int64(len(key)))
	}
}

// recall returns a copy of what was remembered, and since when, or nil.
func (a *Archive) recall(key string) (*Commit, time.Time) {
	r, ok := a.remembered.Get(key)
	if !ok || time.Since(r.since) > rememberFor {
		return nil, time.Time{}
	}
	return &r.commit, r.since
}
