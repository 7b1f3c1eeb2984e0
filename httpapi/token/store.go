package token

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/reservoirhq/reservoir/objectstore"
)

// dir is where the documents are: tokens/<id>.json.
const dir = "tokens/"

// Bounds of what is read.
const (
	maxDocument = 1 << 20
	maxTokens   = 100_000
)

// Store keeps tokens on the object store. It is safe for concurrent use, and so are
// any number of Stores on the same bucket.
type Store struct {
	objects objectstore.Store
	clock   func() time.Time
	cache   *cache
}

// NewStore returns the Store of the tokens below the root of objects. clock gives the
// time; nil is time.Now.
func NewStore(objects objectstore.Store, clock func() time.Time) *Store {
	if clock == nil {
		clock = time.Now
	}
	return &Store{objects: objects, clock: clock, cache: newCache()}
}

// Create makes a token and returns it with its text, which is not kept anywhere.
func (s *Store) Create(ctx context.Context, n New) (*Token, string, error) {
	now := s.clock()
	if err := n.Validate(now); err != nil {
		return nil, "", err
	}
	t, text := n.token(now)
	if err := s.put(ctx, t, objectstore.IfAbsent); err != nil {
		return nil, "", fmt.Errorf("keep token %s: %w", t.ID, err)
	}
	return t, text, nil
}

// Get returns a token by its ID. The error wraps ErrNotFound when there is none.
func (s *Store) Get(ctx context.Context, id string) (*Token, error) {
	t, _, err := s.get(ctx, id)
	return t, err
}

// Revoke makes a token invalid for good; it stays in the list. Stores in other
// processes honour it within CacheTTL. Revoking twice is no error.
func (s *Store) Revoke(ctx context.Context, id, by string) (*Token, error) {
	for {
		t, etag, err := s.get(ctx, id)
		if err != nil {
			return nil, err
		}
		if t.RevokedAt.IsZero() {
			t.RevokedAt, t.RevokedBy = s.clock().UTC(), by
			err = s.put(ctx, t, objectstore.IfMatch(etag))
			if errors.Is(err, objectstore.ErrPrecondition) {
				continue // somebody else did, or this write whose answer was lost: look again
			}
			if err != nil {
				return nil, fmt.Errorf("revoke token %s: %w", id, err)
			}
		}
		s.cache.forget(id)
		return t, nil
	}
}

// Verify returns the token whose text it is. The error wraps ErrRejected where it is
// not valid; any other says that this is not known. What it read is remembered for
// CacheTTL.
func (s *Store) Verify(ctx context.Context, text string) (*Token, error) {
	id, secret, err := split(text)
	if err != nil {
		return nil, err
	}
	now := s.clock()
	t, known := s.cache.get(id, now)
	if !known {
		t, err = s.Get(ctx, id)
		if errors.Is(err, ErrNotFound) {
			t, err = nil, nil
		}
		if err != nil {
			return nil, err
		}
		s.cache.put(id, t, now)
	}
	if t == nil || !t.fits(secret) || t.State(now) != Valid {
		return nil, ErrRejected
	}
	return t, nil
}

// Known reports whether Verify remembers the token whose text it is, and so need not look
// for it.
func (s *Store) Known(text string) bool {
	id, secret, err := split(text)
	if err != nil {
		return false
	}
	t, known := s.cache.get(id, s.clock())
	return known && t != nil && t.fits(secret)
}

// Any reports whether there is any token, valid or not.
func (s *Store) Any(ctx context.Context) (bool, error) {
	for _, err := range s.objects.List(ctx, dir, objectstore.ListOptions{}) {
		if err != nil {
			return false, fmt.Errorf("look for tokens: %w", err)
		}
		return true, nil
	}
	return false, nil
}

// List gives the tokens after the one with that ID, oldest first.
func (s *Store) List(ctx context.Context, after string) iter.Seq2[*Token, error] {
	return func(yield func(*Token, error) bool) {
		ids, err := s.ids(ctx, after)
		if err != nil {
			yield(nil, err)
			return
		}
		for _, id := range ids {
			t, err := s.Get(ctx, id)
			if !yield(t, err) || err != nil {
				return
			}
		}
	}
}

func (s *Store) ids(ctx context.Context, after string) ([]string, error) {
	opts := objectstore.ListOptions{}
	if after != "" {
		opts.After = key(after)
	}
	var ids []string
	for info, err := range s.objects.List(ctx, dir, opts) {
		if err != nil {
			return nil, fmt.Errorf("list tokens: %w", err)
		}
		id, ok := strings.CutSuffix(strings.TrimPrefix(info.Key, dir), ".json")
		if !ok || CheckID(id) != nil {
			continue // not ours
		}
		if ids = append(ids, id); len(ids) > maxTokens {
			return nil, fmt.Errorf("list tokens: more than %d", maxTokens)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

func key(id string) string { return dir + id + ".json" }

func (s *Store) get(ctx context.Context, id string) (_ *Token, etag string, err error) {
	if err := CheckID(id); err != nil {
		return nil, "", err
	}
	body, info, err := s.objects.Get(ctx, key(id), objectstore.ByteRange{})
	if errors.Is(err, objectstore.ErrNotFound) {
		return nil, "", fmt.Errorf("token %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return nil, "", fmt.Errorf("read token %s: %w", id, err)
	}
	text, err := io.ReadAll(io.LimitReader(body, maxDocument))
	if err = errors.Join(err, body.Close()); err != nil {
		return nil, "", fmt.Errorf("read token %s: %w", id, err)
	}
	t := &Token{}
	if err := json.Unmarshal(text, t); err != nil {
		return nil, "", fmt.Errorf("read token %s: %w", id, err)
	}
	if t.Version < 1 || t.Version > FormatVersion || t.ID != id {
		return nil, "", fmt.Errorf("read token %s: document of version %d for %q: a newer Reservoir wrote it, or it was moved", id, t.Version, t.ID)
	}
	return t, info.ETag, nil
}

// put writes a document. A write whose answer was lost and that was sent again finds
// itself there.
func (s *Store) put(ctx context.Context, t *Token, cond objectstore.Condition) error {
	text, err := json.Marshal(t)
	if err != nil {
		return err
	}
	_, err = s.objects.Put(ctx, key(t.ID), bytes.NewReader(text), cond)
	if !errors.Is(err, objectstore.ErrPrecondition) || !cond.Absent() {
		return err
	}
	there, _, getErr := s.get(ctx, t.ID)
	if getErr != nil {
		return errors.Join(err, getErr)
	}
	if there.Hash != t.Hash {
		return err
	}
	return nil
}
