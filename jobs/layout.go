package jobs

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// Where things are, below the root of the object store. docs/jobs.md specifies it.
const (
	activeDir = "jobs/active/"
	endedDir  = "jobs/ended/"
	filesDir  = "jobs/files/"
	keysDir   = "jobs/keys/"
	slotsDir  = "jobs/slots/"

	monthLayout = "2006-01"
	suffix      = ".json"
)

func activeKey(id string) string { return activeDir + id + suffix }

// activeID gives the job that a key below activeDir is of, or "".
func activeID(key string) string {
	id, ok := strings.CutSuffix(strings.TrimPrefix(key, activeDir), suffix)
	if !ok || CheckID(id) != nil {
		return ""
	}
	return id
}

func monthDir(t time.Time) string { return endedDir + t.UTC().Format(monthLayout) + "/" }

// endedPrefix is what the key of an ended job begins with, whatever its kind
// and state.
func endedPrefix(id string) string { return monthDir(Created(id)) + id + "." }

func endedKey(j *Job) string {
	return endedPrefix(j.ID) + j.Kind + "." + string(j.State) + suffix
}

// entry is what the key of a document tells. Kind and state are empty where the
// job is active.
type entry struct {
	id, key string
	kind    string
	state   State
	etag    string // of the listing, which may have none
}

// parseEnded reads the key of an ended job; ok is false for what is none.
func parseEnded(key string) (e entry, ok bool) {
	_, name, ok := strings.Cut(strings.TrimPrefix(key, endedDir), "/")
	if !ok {
		return entry{}, false
	}
	parts := strings.Split(strings.TrimSuffix(name, suffix), ".")
	if len(parts) != 3 || CheckID(parts[0]) != nil {
		return entry{}, false
	}
	return entry{id: parts[0], key: key, kind: parts[1], state: State(parts[2])}, true
}

func hashed(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func idempotencyKey(text string) string { return keysDir + hashed(text) + suffix }

func slotKey(target string, n int) string {
	return fmt.Sprintf("%s%s/%d%s", slotsDir, hashed(target), n, suffix)
}
