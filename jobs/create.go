package jobs

import (
	"context"

	"github.com/reservoirhq/reservoir/objectstore"
)

// New is what a job is created from. Kind and Spec are required.
type New struct {
	// ID is the job's ID, from NewID; default: a new one. Creating a job whose
	// ID exists returns that one. With an IdempotencyKey that was used before,
	// the ID is that of the first time.
	ID                      string
	Kind, Target            string
	Name, Reason, CreatedBy string
	Spec                    any // marshalled to JSON; a json.RawMessage is taken as it is
	// IdempotencyKey makes repeats of the same request give the same job; ""
	// is none. The same key with another request is ErrKeyReused.
	IdempotencyKey string
	// Request is what two requests with the same key are compared by, where the
	// Spec holds more than was asked for (what is resolved at creation); default
	// Kind, Target and Spec. It is marshalled to JSON and only its hash is kept.
	Request any
	// Files, if set, writes the job's files; the job appears after it. It may
	// be called again, also at the same time, by a repeat with the same key:
	// names of files should then tell their contents.
	Files func(ctx context.Context, id string, files objectstore.Store) error
	// Paused creates the job paused: it waits for Resume, or for RunOne.
	Paused bool
}
