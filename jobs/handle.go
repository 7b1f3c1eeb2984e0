package jobs

import (
	"context"

	"github.com/reservoirhq/reservoir/objectstore"
)

// Handle is an engine's hold on the job that it runs. It is safe for concurrent
// use.
type Handle struct{}

// Job returns the job as it was last written, with what was reported since.
func (h *Handle) Job() Job { return Job{} }

// Epoch returns the number that fences this attempt; see Job.Epoch.
func (h *Handle) Epoch() uint64 { return 0 }

// Files is a part of the object store that is this job's alone, for as long as
// the job is kept.
func (h *Handle) Files() objectstore.Store { return nil }

// Report changes the progress in memory; the next heartbeat writes it.
func (h *Handle) Report(change func(*Progress)) {}

// SetCheckpoint replaces the checkpoint in memory; the next heartbeat, and the
// end of the attempt however it ends, write it. v is marshalled at once.
func (h *Handle) SetCheckpoint(v any) error { return nil }

// Save writes the document now, with what was reported and the checkpoint. An
// error that wraps ErrLeaseLost says that the job is another worker's.
func (h *Handle) Save(ctx context.Context) error { return nil }

// Log adds an entry to the job's log; level is info, warn or error.
func (h *Handle) Log(level, message string) {}
