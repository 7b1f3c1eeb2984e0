package jobs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/objectstore"
)

// FormatVersion is the version of the documents that this package writes, and
// the newest that it reads.
const FormatVersion = 1

const (
	// MaxSpec bounds Job.Spec, in bytes of JSON. What is larger belongs into the
	// job's files.
	MaxSpec = 1 << 20
	// MaxCheckpoint bounds Job.Checkpoint, in bytes of JSON.
	MaxCheckpoint = 256 << 10

	maxDocument = 4 << 20 // bytes of any document here
	maxText     = 4 << 10 // bytes of a reason, a log entry, …
)

// DocumentError says that a document is there and cannot be used: it is damaged,
// or a newer Reservoir wrote it.
type DocumentError struct {
	Key string // on the object store
	Err error
}

func (e *DocumentError) Error() string { return fmt.Sprintf("document %s: %v", e.Key, e.Err) }
func (e *DocumentError) Unwrap() error { return e.Err }

// readJSON reads a small document into v and returns its ETag.
func (s *Store) readJSON(ctx context.Context, key string, v any) (etag string, err error) {
	body, info, err := s.objects.Get(ctx, key, objectstore.ByteRange{})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	text, err := io.ReadAll(io.LimitReader(body, maxDocument+1))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", key, err)
	}
	if len(text) > maxDocument {
		return "", &DocumentError{key, fmt.Errorf("it has more than %d bytes", maxDocument)}
	}
	var version struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(text, &version); err != nil {
		return "", &DocumentError{key, err}
	}
	if version.Version != FormatVersion {
		return "", &DocumentError{key, remedy.Wrapf(
			fmt.Errorf("it is of version %d, and this program knows version %d", version.Version, FormatVersion), "update reservoir")}
	}
	if err := json.Unmarshal(text, v); err != nil {
		return "", &DocumentError{key, err}
	}
	return info.ETag, nil
}

// writeJSON writes a small document. When that fails in whatever way, it looks
// whether exactly this document is there all the same: v must therefore hold
// a nonce, or be the same whoever writes it.
func (s *Store) writeJSON(ctx context.Context, key string, v any, cond objectstore.Condition) (etag string, err error) {
	text, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("encode %s: %w", key, err)
	}
	text = append(text, '\n')
	if len(text) > maxDocument {
		return "", fmt.Errorf("write %s: the document has %d bytes, more than the %d allowed", key, len(text), maxDocument)
	}
	info, putErr := s.objects.Put(ctx, key, bytes.NewReader(text), cond)
	if putErr == nil {
		return info.ETag, nil
	}
	body, info, err := s.objects.Get(ctx, key, objectstore.ByteRange{})
	if err != nil {
		return "", putErr
	}
	there, err := io.ReadAll(io.LimitReader(body, maxDocument))
	if err = errors.Join(err, body.Close()); err != nil || !bytes.Equal(there, text) {
		return "", putErr
	}
	return info.ETag, nil
}

// read reads the document of a job.
func (s *Store) read(ctx context.Context, id, key string) (*Job, error) {
	j := &Job{}
	etag, err := s.readJSON(ctx, key, j)
	if err != nil {
		return nil, err
	}
	switch {
	case j.ID != id:
		return nil, &DocumentError{key, fmt.Errorf("it is of job %.40q", j.ID)}
	case !j.State.known():
		return nil, &DocumentError{key, fmt.Errorf("there is no state %.40q", j.State)}
	case !validKind(j.Kind):
		return nil, &DocumentError{key, fmt.Errorf("there is no kind %.40q", j.Kind)}
	}
	j.ETag = etag
	return j, nil
}

// replace writes the next revision of a job in place of the one that j was made
// from, whose ETag it still has. The error wraps ErrChanged when that one is no
// longer there.
func (s *Store) replace(ctx context.Context, j *Job) error {
	etag, err := s.writeJSON(ctx, activeKey(j.ID), j, objectstore.IfMatch(j.ETag))
	switch {
	case err == nil:
		j.ETag = etag
		return nil
	case errors.Is(err, objectstore.ErrPrecondition) || errors.Is(err, objectstore.ErrNotFound):
		return fmt.Errorf("write job %s: %w", j.ID, errors.Join(ErrChanged, err))
	default:
		return fmt.Errorf("write job %s: %w", j.ID, err)
	}
}

// clone copies what a writer may change in place.
func (j *Job) clone() *Job {
	c := *j
	c.Log = slices.Clone(j.Log)
	c.Progress.Streams = slices.Clone(j.Progress.Streams)
	if j.Lease != nil {
		lease := *j.Lease
		c.Lease = &lease
	}
	if j.LastError != nil {
		failure := *j.LastError
		c.LastError = &failure
	}
	return &c
}

// log adds an entry, unless it is there already, and keeps the log in bounds.
func (j *Job) log(entries ...LogEntry) {
	for _, e := range entries {
		e.Message = clip(e.Message)
		if !slices.Contains(j.Log, e) {
			j.Log = append(j.Log, e)
		}
	}
	if over := len(j.Log) - MaxLog; over > 0 {
		j.Log = slices.Delete(j.Log, 0, over)
		j.LogDropped += over
	}
}

// clip keeps a text in bounds.
func clip(text string) string {
	if len(text) <= maxText {
		return text
	}
	return string(bytes.ToValidUTF8([]byte(text[:maxText]), nil)) + " …"
}

// now is the time as documents hold it.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
