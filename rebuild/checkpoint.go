package rebuild

import (
	"encoding/json"
	"fmt"

	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/projection"
)

// The phases of a rebuild, in their order, in jobs.Progress.Phase.
const (
	PhasePlan     = "plan"
	PhaseShadow   = "shadow"
	PhaseCarry    = "carry-over" // of a scoped rebuild
	PhaseLoad     = "load"
	PhasePour     = "pour" // from the staging table, where the engine adds up, and into dependent tables
	PhaseCatchUp  = "catch-up"
	PhaseVerify   = "verify"
	PhaseApproval = "approval"
	PhaseHandOver = "hand-over"
	PhaseDone     = "done"
)

// phases lists them in their order.
func phases() []string {
	return []string{PhasePlan, PhaseShadow, PhaseCarry, PhaseLoad, PhasePour, PhaseCatchUp, PhaseVerify, PhaseApproval, PhaseHandOver, PhaseDone}
}

// checkpointVersion is the version of checkpoint that this program writes.
const checkpointVersion = 1

// checkpoint is where an attempt at a rebuild goes on.
type checkpoint struct {
	Version int    `json:"version"`
	Phase   string `json:"phase"`
	// Generation is the number of the one that is built, and Base that of the one
	// that was live when it began: 0 for none.
	Generation uint64 `json:"generation,omitempty"`
	Base       uint64 `json:"base,omitempty"`
	Way        Way    `json:"way,omitempty"` // of the load: pushdown or go
	Journal    string `json:"journal,omitempty"`
	// Rows is how many rows were carried over.
	Rows    uint64 `json:"rows,omitempty"`
	Carried bool   `json:"carried,omitempty"`
	// Derived is how many rows each dependent table got of what was loaded, by name.
	Derived map[string]uint64 `json:"derived,omitempty"`
	// Snapshot is up to where the carried rows go, by stream.
	Snapshot map[string]place `json:"snapshot,omitempty"`
	// Frozen is the table that has the parts of the live one as of Snapshot.
	Frozen  string `json:"frozen,omitempty"`
	Letters uint64 `json:"letters,omitempty"`
	Skipped uint64 `json:"skipped,omitempty"`
	// Feed is how far the shadow is fed beyond its chunks.
	Feed feedState `json:"feed,omitzero"`
	// Sealed says that it was noted what the tables were made of when they were loaded.
	Sealed bool `json:"sealed,omitempty"`
	// Verified is the number of the last batch that was in the table when it was verified.
	Verified uint64 `json:"verified,omitempty"`
	// Warnings are what a person has to know before the swap: with any, approval is
	// not automatic.
	Warnings []string `json:"warnings,omitempty"`
	Approved string   `json:"approved,omitempty"` // by whom
	Swapped  bool     `json:"swapped,omitempty"`
}

func readCheckpoint(text json.RawMessage) (*checkpoint, error) {
	cp := &checkpoint{Version: checkpointVersion, Phase: PhasePlan}
	if len(text) > 0 {
		if err := json.Unmarshal(text, cp); err != nil {
			return nil, fmt.Errorf("read the checkpoint of the rebuild: %w", err)
		}
	}
	if cp.Version > checkpointVersion {
		return nil, remedy.Wrap(fmt.Errorf("the checkpoint of the rebuild has version %d, and this program reads up to %d", cp.Version, checkpointVersion),
			"Run all workers with the same version of reservoir.")
	}
	return cp, nil
}

// feedState is how far a shadow is fed with batches, and which one is in flight.
type feedState struct {
	Places map[string]place `json:"places,omitempty"`
	Batch  uint64           `json:"batch"` // the number of the last one
	Rows   uint64           `json:"rows,omitempty"`
	Events uint64           `json:"events,omitempty"` // that it was fed
	// Derived is how many rows each dependent table got of batches, by name, where rows of
	// it are not merged away.
	Derived map[string]uint64 `json:"derived,omitempty"`
	// Pending is a batch of which it is not known whether the table has it.
	Pending *projection.Pending `json:"pending,omitempty"`
}
