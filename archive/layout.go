package archive

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/reservoirhq/reservoir/event"
)

// The names of the layout. docs/format.md specifies them; nothing outside this
// file spells one out.
const (
	markerKey    = "reservoir.json"
	streamsDir   = "streams/"
	logDir       = "log/"
	snapshotDir  = "log/snapshot/"
	commitExt    = ".json"
	snapshotExt  = ".jsonl.zst"
	escapeByte   = '~'
	pieceLength  = 200 // of an escaped name, per path element
	maxEscaped   = 700 // bytes: what S3's 1024 leave beside a prefix and the rest of a key
	hourMs       = 3_600_000
	lastHourMs   = 253402297200000 // 9999-12-31T23:00:00Z, the last hour a date= can name
	incarnations = "%08d"
)

// formatVersions are the versions in which segments are written.
var formatVersions = map[Format]int{JSONL: 1, Parquet: 1}

// formatExts are the endings of segment keys.
var formatExts = map[Format]string{JSONL: ".jsonl.zst", Parquet: ".parquet"}

// ErrStreamName is wrapped by what is asked about a stream whose name is too
// long to be part of a key.
var ErrStreamName = errors.New("stream name is too long to be archived")

// CheckStreamName returns an error that wraps ErrStreamName when the name,
// escaped, has more than 700 bytes.
func CheckStreamName(stream string) error {
	if n := len(escape(stream)); n > maxEscaped {
		return fmt.Errorf("%w: %d bytes when escaped, and object keys leave room for %d", ErrStreamName, n, maxEscaped)
	}
	return nil
}

// Hour returns the number of the hour of an ID's milliseconds since 1970. A
// segment never holds events of two hours.
func Hour(id event.ID) uint64 { return id.Ms / hourMs }

// escape turns any bytes into path elements that are safe in every store, URL
// and file system, and reads back exactly:
//
//   - a-z, 0-9, "-", "_" and "." stand for themselves, except "." and "_" at the
//     beginning, which many tools take for hidden; all else is "~" and two
//     lower-case hex digits, so names that differ in case only differ in more
//     than case;
//   - the empty name is "~";
//   - a long result is cut into elements of at most 200 bytes, never within an
//     escape; all but the last end in an additional "~".
func escape(name string) string {
	if name == "" {
		return string(escapeByte)
	}
	var out strings.Builder
	element := 0 // bytes in the element so far
	for i := range len(name) {
		c := name[i]
		piece := string(c)
		if !plain(c, i == 0) {
			piece = fmt.Sprintf("%c%02x", escapeByte, c)
		}
		if element+len(piece) > pieceLength {
			out.WriteString(string(escapeByte) + "/")
			element = 0
			if !plain(c, true) && len(piece) == 1 { // it begins an element now
				piece = fmt.Sprintf("%c%02x", escapeByte, c)
			}
		}
		out.WriteString(piece)
		element += len(piece)
	}
	return out.String()
}

func plain(c byte, begins bool) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-':
		return true
	case c == '_', c == '.':
		return !begins
	default:
		return false
	}
}

// continued reports whether a path element is a piece of an escaped name that
// goes on in the next element.
func continued(element string) bool {
	return len(element) > 1 && element[len(element)-1] == escapeByte
}

// unescape is the inverse of escape; it refuses what escape never makes.
func unescape(escaped string) (string, error) {
	var name []byte
	for joined := strings.ReplaceAll(escaped, string(escapeByte)+"/", ""); joined != "" && escaped != string(escapeByte); {
		if joined[0] != escapeByte {
			name, joined = append(name, joined[0]), joined[1:]
			continue
		}
		if len(joined) < 3 {
			return "", fmt.Errorf("%q is not an escaped stream name", escaped)
		}
		c, err := strconv.ParseUint(joined[1:3], 16, 8)
		if err != nil {
			return "", fmt.Errorf("%q is not an escaped stream name", escaped)
		}
		name, joined = append(name, byte(c)), joined[3:]
	}
	if escape(string(name)) != escaped {
		return "", fmt.Errorf("%q is not an escaped stream name", escaped)
	}
	return string(name), nil
}

// streamDir is where everything of one stream is.
func streamDir(stream string) string { return streamsDir + escape(stream) + "/" }

// incarnationDir is where everything of one incarnation is; keys of segments
// are relative to it.
func incarnationDir(stream string, incarnation int) string {
	return streamDir(stream) + fmt.Sprintf(incarnations, incarnation) + "/"
}

// parseIncarnation reads the name of an incarnation's directory, "00000001".
func parseIncarnation(element string) (int, bool) {
	n, err := strconv.ParseUint(element, 10, 31)
	if err != nil || n == 0 || fmt.Sprintf(incarnations, n) != element {
		return 0, false
	}
	return int(n), true
}

func commitKey(number uint64) string { return fmt.Sprintf("%s%020d%s", logDir, number, commitExt) }
func snapshotKey(number uint64) string {
	return fmt.Sprintf("%s%020d%s", snapshotDir, number, snapshotExt)
}

// parseSnapshot reads the last element of a snapshot's key.
func parseSnapshot(element string) (uint64, bool) {
	digits, ok := strings.CutSuffix(element, snapshotExt)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil && n > 0 && len(digits) == 20
}

// segmentKey names a segment, relative to its incarnation's directory. The
// last ID is not part of it: a key must be known before the segment ends.
func segmentKey(format Format, first event.ID, unique string) string {
	return fmt.Sprintf("%s%s-%s%s", hourDir(format, first), first.Sortable(), unique, formatExts[format])
}

// hourDir is the hive-style directory of an ID's hour in UTC. Hours after the
// year 9999 share that of its last hour.
func hourDir(format Format, id event.ID) string {
	t := time.UnixMilli(int64(min(id.Ms, lastHourMs))).UTC()
	return fmt.Sprintf("%s/date=%s/hour=%02d/", format, t.Format(time.DateOnly), t.Hour())
}
