package jobs

import (
	"crypto/rand"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"
)

// NewID returns the ID of a new job: a ULID, which sorts by the time, to the
// millisecond, and is 26 digits and capital letters.
func NewID() string {
	id := ulid.ULID{}
	if err := id.SetTime(ulid.Timestamp(time.Now())); err != nil {
		id = ulid.ULID{} // the clock is beyond the year 10889
	}
	rand.Read(id[6:]) // never fails: see its documentation
	return id.String()
}

// CheckID says whether id is one that NewID could have made.
func CheckID(id string) error {
	if parsed, err := ulid.ParseStrict(id); err != nil || parsed.String() != id {
		return fmt.Errorf("%w: %.40q is not an ID of a job, which is 26 digits and capital letters", ErrNotFound, id)
	}
	return nil
}

// oldestID sorts before all IDs of that time, and after those of earlier ones; "" for the
// zero time.
func oldestID(since time.Time) string {
	id := ulid.ULID{}
	if since.IsZero() || id.SetTime(ulid.Timestamp(since)) != nil {
		return ""
	}
	const timeDigits = 10
	return id.String()[:timeDigits]
}

// Created gives the time that is in an ID, to the millisecond; zero where it is
// no ID.
func Created(id string) time.Time {
	parsed, err := ulid.ParseStrict(id)
	if err != nil {
		return time.Time{}
	}
	return parsed.Timestamp().UTC()
}
