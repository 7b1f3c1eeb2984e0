package jobs

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/objectstore"
)

// New is what a job is created from. Kind and Spec are required.
type New struct {
	// ID is the job's ID, from NewID; default: a new one. Creating a job whose
	// ID exists returns that one. With an IdempotencyKey that was used before,
	// the ID is that of the first time.
	ID                      string
	Kind, Target            string // Kind: lower-case letters, digits, - and _
	Name, Reason, CreatedBy string
	Spec                    any // marshalled to JSON; a json.RawMessage is taken as it is
	// IdempotencyKey makes repeats of the same request give the same job; ""
	// is none. The same key with another request is ErrKeyReused.
	IdempotencyKey string
	// Request is what two requests with the same key are compared by, where the
	// Spec holds more than was asked for (what is resolved at creation); default
	// the Spec. It is marshalled to JSON, of which only a hash is kept.
	Request any
	// Files, if set, writes the job's files; the job appears after it. It may
	// be called again, also at the same time, by a repeat with the same key:
	// names of files should then tell their contents.
	Files func(ctx context.Context, id string, files objectstore.Store) error
	// Paused creates the job paused: it waits for Resume, or for RunOne.
	Paused bool
}

// keyDocument says which job an idempotency key made.
type keyDocument struct {
	Version   int       `json:"version"`
	Job       string    `json:"job"`
	Digest    string    `json:"request_sha256"`
	CreatedAt time.Time `json:"created_at"`
}

// Create makes a job, pending or paused, and returns it. Whatever a crash or an
// error leaves half done, a repeat with the same ID or IdempotencyKey completes;
// without either, what is left is files that no job has.
func (s *Store) Create(ctx context.Context, n New) (*Job, error) {
	j, digest, err := n.job()
	if err != nil {
		return nil, fmt.Errorf("create job: %w", err)
	}
	if n.IdempotencyKey != "" {
		if j.ID, err = s.claim(ctx, n.IdempotencyKey, keyDocument{FormatVersion, j.ID, digest, j.CreatedAt}); err != nil {
			return nil, fmt.Errorf("create job: %w", err)
		}
	}
	if n.IdempotencyKey != "" || n.ID != "" {
		there, err := s.get(ctx, j.ID)
		if !errors.Is(err, ErrNotFound) {
			return there, err
		}
	}
	if n.Files != nil {
		if err := n.Files(ctx, j.ID, s.Files(j.ID)); err != nil {
			return nil, fmt.Errorf("create job %s: write its files: %w", j.ID, err)
		}
	}
	j.ETag, err = s.writeJSON(ctx, activeKey(j.ID), j, objectstore.IfAbsent)
	if errors.Is(err, objectstore.ErrPrecondition) { // it is this one, as a repeat or a worker wrote it
		return s.Get(ctx, j.ID)
	}
	if err != nil {
		return nil, fmt.Errorf("create job %s: %w", j.ID, err)
	}
	return j, nil
}

// Repeated returns the job that an earlier Create with the same IdempotencyKey
// made, whatever has become of what the job needed then. ErrNotFound is wrapped
// when there is none yet. The same key with another request is ErrKeyReused.
func (s *Store) Repeated(ctx context.Context, n New) (*Job, error) {
	j, digest, err := n.job()
	if err != nil {
		return nil, fmt.Errorf("create job: %w", err)
	}
	var first keyDocument
	_, err = s.readJSON(ctx, idempotencyKey(n.IdempotencyKey), &first)
	if errors.Is(err, objectstore.ErrNotFound) {
		return nil, fmt.Errorf("create job: %w", ErrNotFound)
	}
	if err == nil {
		j.ID, err = first.id(digest)
	}
	if err != nil {
		return nil, fmt.Errorf("create job: %w", err)
	}
	return s.get(ctx, j.ID)
}

// claim gives the ID of the job that a key stands for: that of mine, if it is
// the first.
func (s *Store) claim(ctx context.Context, key string, mine keyDocument) (string, error) {
	at := idempotencyKey(key)
	_, err := s.writeJSON(ctx, at, mine, objectstore.IfAbsent)
	if err == nil {
		return mine.Job, nil
	}
	if !errors.Is(err, objectstore.ErrPrecondition) {
		return "", err
	}
	var first keyDocument
	if _, err := s.readJSON(ctx, at, &first); err != nil {
		return "", err
	}
	return first.id(mine.Digest)
}

// id gives the ID of the job that the key made, for a request with that digest.
func (k *keyDocument) id(digest string) (string, error) {
	if k.Digest != digest {
		return "", remedy.Wrapf(fmt.Errorf("%w, which made job %s", ErrKeyReused, k.Job), "give every request a key of its own, and the same one only to its repeats")
	}
	return k.Job, CheckID(k.Job)
}

// job makes the first revision, and the hash that requests are compared by.
func (n *New) job() (*Job, string, error) {
	if err := n.check(); err != nil {
		return nil, "", err
	}
	spec, err := json.Marshal(n.Spec)
	if err != nil {
		return nil, "", fmt.Errorf("encode Spec: %w", err)
	}
	if len(spec) > MaxSpec {
		return nil, "", remedy.Wrapf(fmt.Errorf("the Spec has %d bytes of JSON, more than the %d allowed", len(spec), MaxSpec), "write what is large to the job's files")
	}
	request := spec
	if n.Request != nil {
		if request, err = json.Marshal(n.Request); err != nil {
			return nil, "", fmt.Errorf("encode Request: %w", err)
		}
	}
	at := now()
	j := &Job{
		Version: FormatVersion, ID: n.ID, Kind: n.Kind, Target: n.Target, Name: n.Name, Reason: n.Reason, CreatedBy: n.CreatedBy,
		Spec: spec, State: Pending, CreatedAt: at, UpdatedAt: at, Nonce: rand.Text(),
	}
	if j.ID == "" {
		j.ID = NewID()
	}
	message := "created"
	if n.Paused {
		j.State, message = Paused, "created, paused"
	}
	j.log(LogEntry{Time: at, Level: "info", Message: message, By: n.CreatedBy})
	return j, hashed(n.Kind + "\n" + string(request)), nil
}

func (n *New) check() error {
	if n.ID != "" {
		if err := CheckID(n.ID); err != nil {
			return err
		}
	}
	if !validKind(n.Kind) {
		return fmt.Errorf("%.40q is no Kind: it takes up to 32 lower-case letters, digits, - and _, the first a letter", n.Kind)
	}
	if n.Spec == nil {
		return errors.New("the Spec is missing")
	}
	texts := []struct{ name, text string }{
		{"Target", n.Target}, {"Name", n.Name}, {"Reason", n.Reason}, {"CreatedBy", n.CreatedBy}, {"IdempotencyKey", n.IdempotencyKey},
	}
	for _, t := range texts {
		if len(t.text) > maxText || !utf8.ValidString(t.text) {
			return fmt.Errorf("the %s must be UTF-8 of at most %d bytes, and has %d", t.name, maxText, len(t.text))
		}
	}
	return nil
}

// validKind says whether a kind can be part of a key.
func validKind(kind string) bool {
	for i, c := range []byte(kind) {
		letter := c >= 'a' && c <= 'z'
		if !letter && (i == 0 || (c < '0' || c > '9') && c != '-' && c != '_') {
			return false
		}
	}
	return kind != "" && len(kind) <= 32
}
