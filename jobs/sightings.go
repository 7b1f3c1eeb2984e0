package jobs

import "time"

// sightings tell how long documents have been seen unchanged, by the clock of
// this process alone: no two clocks are ever compared.
type sightings map[string]sighting

type sighting struct {
	nonce       string // of the revision
	since, last time.Time
}

// see notes a revision, and returns since when it has been seen.
func (s sightings) see(name, nonce string) time.Time {
	seen, ok := s[name]
	if !ok || seen.nonce != nonce {
		seen = sighting{nonce: nonce, since: time.Now()}
	}
	seen.last = time.Now()
	s[name] = seen
	return seen.since
}

// forget drops what has not been looked at for a while.
func (s sightings) forget(after time.Duration) {
	for name, seen := range s {
		if time.Since(seen.last) > after {
			delete(s, name)
		}
	}
}
