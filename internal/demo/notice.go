package demo

import (
	"time"

	"github.com/reservoirhq/reservoir/jobs"
)

// Notice is one of the types below: something that happened.
type Notice interface{ notice() }

// Ready says that the servers and the archiver are up.
type Ready struct {
	Redis string // address
	Store string
	S3    bool // or else a directory, for want of an S3 server
	Dir   string
	Pid   int    // of the archiver
	Total uint64 // events that will be published
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

// Replaying says that a part of the archive is being replayed.
type Replaying struct{ Replay }

// Replayed comes several times a second while it is.
type Replayed struct{ Job jobs.Job }

func (Ready) notice()     {}
func (Progress) notice()  {}
func (Killed) notice()    {}
func (Trimmed) notice()   {}
func (Restarted) notice() {}
func (Published) notice() {}
func (Drained) notice()   {}
func (Replaying) notice() {}
func (Replayed) notice()  {}
