package archive

import (
	"fmt"

	"github.com/reservoirhq/reservoir/event"
)

// Severity says how bad a finding is.
type Severity string

// The severities.
const (
	// Problem: the archive is not what it promises.
	Problem Severity = "problem"
	// Warning: nothing is lost, but something is not as it should be.
	Warning Severity = "warning"
	// Info: worth knowing, and as it should be.
	Info Severity = "info"
)

// FindingKind says what was found.
type FindingKind string

// The kinds of findings.
const (
	FindingLog          FindingKind = "log"          // a commit is unreadable or contradicts the ones before it
	FindingSnapshot     FindingKind = "snapshot"     // a snapshot is unreadable or is not what the commits add up to
	FindingMissing      FindingKind = "missing"      // a segment's object does not exist
	FindingUnreadable   FindingKind = "unreadable"   // a segment cannot be decoded
	FindingChecksum     FindingKind = "checksum"     // a segment's bytes are not those that were written
	FindingContents     FindingKind = "contents"     // a segment's count, order, bounds, hour or raw bytes are not what the commit says
	FindingDiffers      FindingKind = "differs"      // two formats of a span do not hold the same events
	FindingSummary      FindingKind = "summary"      // the commit's summary is not that of the events
	FindingUnreferenced FindingKind = "unreferenced" // an object that no commit names
	FindingUncommitted  FindingKind = "uncommitted"  // segments of an incarnation without any commit
	FindingGap          FindingKind = "gap"          // entries that Redis lost before they were archived
)

// Finding is one thing that Verify found.
type Finding struct {
	Severity    Severity    `json:"severity"`
	Kind        FindingKind `json:"kind"`
	Stream      string      `json:"stream"`
	Incarnation int         `json:"incarnation"`
	Key         string      `json:"key,omitempty"` // of the object, whole
	First       event.ID    `json:"first"`         // of the events concerned; zero when none are
	Last        event.ID    `json:"last"`
	Message     string      `json:"message"`
	Remedy      string      `json:"remedy,omitempty"`
}

// String gives the finding on one line.
func (f Finding) String() string {
	s := fmt.Sprintf("%s (%s): stream %q incarnation %d: %s", f.Severity, f.Kind, f.Stream, f.Incarnation, f.Message)
	if f.Key != "" {
		s += " [" + f.Key + "]"
	}
	return s
}

var remedies = map[FindingKind]string{
	FindingLog:        "restore the commit from a backup or an earlier object version of the bucket; until then the archive is not complete",
	FindingSnapshot:   "delete the snapshot: the commits hold all that it does, and a new one is made in time",
	FindingMissing:    "restore the object from a backup or an earlier object version; the span's other format, if it has one, still holds the events",
	FindingUnreadable: "restore the object from a backup or an earlier object version; the span's other format, if it has one, still holds the events",
	FindingChecksum:   "restore the object from a backup or an earlier object version; the span's other format, if it has one, still holds the events",
	FindingContents:   "restore the object from a backup or an earlier object version; the span's other format, if it has one, still holds the events",
	FindingDiffers:    "compare both objects with what produced the events, and keep the right one",
	FindingSummary:    "filters by type or tenant may miss events of this segment: read it without a filter, and report this as a defect of reservoir or of the store",
	FindingUncommitted: "none if an archiver is at work on the stream or was stopped at its first commit; if events of the stream were archived here, its log is lost: " +
		"restore the commits from a backup or earlier object versions of the bucket before garbage collection deletes the segments",
	FindingUnreferenced: "none needed: garbage collection deletes it after the grace period",
}
