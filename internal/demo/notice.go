package demo

import (
	"time"

	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/rebuild"
)

// Notice is one of the types below: something that happened.
type Notice interface{ notice() }

// Ready says that the servers and the archiver are up.
type Ready struct {
	Redis string // address
	Store string
	S3    bool // or else a directory, for want of an S3 server
	// ClickHouse is the address of the engine; without one NoTables says why there are
	// no projections.
	ClickHouse, NoTables string
	Dir                  string
	Pid                  int    // of the archiver
	Total                uint64 // events that will be published
}

// Progress comes several times a second.
type Progress struct {
	Published, Total  uint64
	Archived          uint64
	Lost              uint64 // as recorded in the archive
	Lag               uint64 // entries in Redis that are not archived
	LagAge            time.Duration
	RawBytes          int64 // of what is archived
	StoredBytes       int64
	ArchiverIsRunning bool
}

// Killed says that the archiver was ended by SIGKILL.
type Killed struct {
	Pid int
	Lag uint64 // entries that were in Redis and not yet archived
}

// Trimmed says that entries were removed from a stream, archived or not.
type Trimmed struct {
	Stream  string
	Entries uint64
}

// Restarted says that the archiver is back.
type Restarted struct {
	Pid int
	Lag uint64
}

// Published says that all events are in Redis.
type Published struct{ Events uint64 }

// Drained says that all events are archived, and the archiver has stopped.
type Drained struct{}

// Building says that a worker and a projector are up, which build the tables of
// projections and keep them live.
type Building struct {
	Worker, Projector int // pids
	Tables            []string
}

// Built says that the tables are there.
type Built struct {
	Tables      []string
	Events      uint64 // that were read, for all tables together
	Rows        uint64 // that these gave
	DeadLetters uint64 // events that could not be used, set aside
}

// Answer is what a table says that a tenant has sold, and what the shop has written
// down, who goes on selling meanwhile.
type Answer struct {
	Tenant       string
	Table, Books Sales
}

// Noticed says that a table is wrong.
type Noticed struct{ Answer }

// Corrected says that the mistake in the definition is corrected: MistakeTypes is
// RightTypes.
type Corrected struct{}

// Compared says that the table is rebuilt beside the live one, and how they differ.
type Compared struct {
	Rebuild string // the job
	Found   rebuild.Verification
}

// Swapped says that the table that was rebuilt is the live one.
type Swapped struct{ Answer }

// RolledBack says that the wrong table is live again.
type RolledBack struct{ Answer }

// RolledForth says that the right table is live again.
type RolledForth struct{ Answer }

// Replaying says that a part of the archive is being replayed.
type Replaying struct{ Replay }

// Replayed comes several times a second while it is.
type Replayed struct{ Job jobs.Job }

func (Ready) notice()       {}
func (Progress) notice()    {}
func (Killed) notice()      {}
func (Trimmed) notice()     {}
func (Restarted) notice()   {}
func (Published) notice()   {}
func (Drained) notice()     {}
func (Building) notice()    {}
func (Built) notice()       {}
func (Noticed) notice()     {}
func (Corrected) notice()   {}
func (Compared) notice()    {}
func (Swapped) notice()     {}
func (RolledBack) notice()  {}
func (RolledForth) notice() {}
func (Replaying) notice()   {}
func (Replayed) notice()    {}
