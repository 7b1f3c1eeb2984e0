// Package audit keeps who did what, on the object store: one object per deed,
// written before it is begun and again when it has ended. A deed that cannot be
// written down is not done; a process that dies in between leaves an entry that
// says so.
package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/reservoirhq/reservoir/objectstore"
)

// FormatVersion is the version of the entries that this package writes, and the
// newest that it reads.
const FormatVersion = 1

// dir is where the entries are: audit/<yyyy>/<mm>/<dd>/<ulid>.json, by UTC.
const dir = "audit/"

// Bounds of what is kept and read.
const (
	maxEntry = 64 << 10
	maxText  = 2048 // of what callers send
)

// Trail keeps entries. It is safe for concurrent use, and so are any number of
// Trails on the same bucket.
type Trail struct {
	objects objectstore.Store
	clock   func() time.Time
}

// New returns the Trail below the root of objects. clock gives the time; nil is
// time.Now.
func New(objects objectstore.Store, clock func() time.Time) *Trail {
	if clock == nil {
		clock = time.Now
	}
	return &Trail{objects, clock}
}

// Begin writes that something is about to be done, and returns the entry for End. It
// must not be done when Begin fails.
func (t *Trail) Begin(ctx context.Context, e Entry) (*Entry, error) {
	now := t.clock().UTC()
	e.Version, e.ID, e.Time, e.Result = FormatVersion, ulid.MustNewDefault(now).String(), now, Begun
	e.Path, e.Name, e.Who = cut(e.Path), cut(e.Name), cut(e.Who)
	if err := t.put(ctx, &e, objectstore.IfAbsent); err != nil && !errors.Is(err, objectstore.ErrPrecondition) {
		return nil, fmt.Errorf("write the audit trail: %w", err) // a taken ULID is this write's own, whose answer was lost
	}
	return &e, nil
}

// End writes how it ended.
func (t *Trail) End(ctx context.Context, e *Entry, result Result, status int, problem string) error {
	e.Result, e.Status, e.Problem, e.EndedAt = result, status, cut(problem), t.clock().UTC()
	e.Subject = cut(e.Subject)
	if err := t.put(ctx, e, objectstore.Always); err != nil {
		return fmt.Errorf("write the end of audit entry %s: %w", e.ID, err)
	}
	return nil
}

func (t *Trail) put(ctx context.Context, e *Entry, cond objectstore.Condition) error {
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	_, err = t.objects.Put(ctx, key(e.ID), bytes.NewReader(text), cond)
	return err
}

func (t *Trail) get(ctx context.Context, id string) (*Entry, error) {
	body, _, err := t.objects.Get(ctx, key(id), objectstore.ByteRange{})
	if err != nil {
		return nil, fmt.Errorf("read audit entry %s: %w", id, err)
	}
	text, err := io.ReadAll(io.LimitReader(body, maxEntry))
	e := &Entry{}
	if err = errors.Join(err, body.Close()); err == nil {
		err = json.Unmarshal(text, e)
	}
	if err == nil && (e.Version < 1 || e.Version > FormatVersion) {
		err = fmt.Errorf("it has version %d, which a newer Reservoir wrote", e.Version)
	}
	if err != nil {
		return nil, fmt.Errorf("read audit entry %s: %w", id, err)
	}
	return e, nil
}

// key tells where an entry is: its day is in its ID.
func key(id string) string { return dayDir(created(id)) + id + ".json" }

func dayDir(day time.Time) string { return dir + day.UTC().Format("2006/01/02") + "/" }

// created is the time in an ID, zero where it is none.
func created(id string) time.Time {
	u, err := ulid.ParseStrict(id)
	if err != nil {
		return time.Time{}
	}
	return ulid.Time(u.Time()).UTC()
}

// CheckID says whether id is one that an entry could have.
func CheckID(id string) error {
	u, err := ulid.ParseStrict(id)
	if err != nil || u.String() != id {
		return fmt.Errorf("%q is no ID of an audit entry", id)
	}
	return nil
}

// cut shortens what a caller sent, and makes it valid text.
func cut(text string) string {
	if len(text) > maxText {
		text = text[:maxText]
	}
	return string(bytes.ToValidUTF8([]byte(text), []byte("\uFFFD")))
}
