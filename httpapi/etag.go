package httpapi

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/reservoirhq/reservoir/jobs"
)

// jobETag identifies a revision for callers.
func jobETag(j *jobs.Job) string { return `"` + hex.EncodeToString([]byte(j.ETag)) + `"` }

// names reports whether If-Match or If-None-Match has an ETag: alone, in a list, or as *.
// The tags of this server are hexadecimal, so that commas are between tags only.
func names(header, etag string) bool {
	if strings.TrimSpace(header) == "*" {
		return true
	}
	for one := range strings.SplitSeq(header, ",") {
		if strings.TrimSpace(one) == etag {
			return true
		}
	}
	return false
}

// namesWeakly is names for reading, where a tag that something in between made weak, as by
// compressing the answer, is still the same.
func namesWeakly(header, etag string) bool { return names(header, etag) || names(header, "W/"+etag) }

// unchanged returns the revision that a change is bound to by If-Match, "" for none: the
// job as it is, if that is among those that the header names.
func unchanged(j *jobs.Job, header string) (etag string, err error) {
	switch {
	case header == "", strings.TrimSpace(header) == "*":
		return "", nil // the job is there
	case names(header, jobETag(j)):
		return j.ETag, nil
	}
	return "", changedMeanwhile(fmt.Errorf("job %s: %w since it was looked at", j.ID, jobs.ErrChanged))
}

func changedMeanwhile(err error) error {
	return &problemError{kind: changed, detail: err.Error(), remedy: "Look again, and send the ETag that comes with it", err: err}
}
