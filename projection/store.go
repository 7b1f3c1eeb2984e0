package projection

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/objectstore"
)

var (
	// ErrNotBuilt is wrapped for a projection that has no document: nobody has
	// begun to build it.
	ErrNotBuilt = errors.New("projection was never built")
	// ErrHeld is wrapped by Acquire while another worker may write.
	ErrHeld = errors.New("another worker has the projection")
	// ErrFenced is wrapped when a Hold has ended: another worker has taken its
	// place, or whether a write of its own arrived cannot be known. Whoever still
	// wants to write acquires again.
	ErrFenced = errors.New("the projection is not this worker's any more")
	// errChanged is wrapped when a document is not the one that was read.
	errChanged = errors.New("somebody else changed the document")
)

// DocumentError says that a document is there and cannot be used: it is damaged,
// or a newer Reservoir wrote it.
type DocumentError struct {
	Key string // on the object store
	Err error
}

func (e *DocumentError) Error() string { return fmt.Sprintf("document %s: %v", e.Key, e.Err) }
func (e *DocumentError) Unwrap() error { return e.Err }

// Where documents are, below the root of the object store. docs/projections.md
// specifies it.
const (
	documentDir    = "projections/"
	documentSuffix = ".json"
	maxDocument    = 4 << 20 // bytes
)

func documentKey(name string) string { return documentDir + name + documentSuffix }

// Store keeps the documents of projections on the object store. It is safe for
// concurrent use, and so are any number of Stores on the same bucket.
type Store struct {
	objects objectstore.Store

	mu   sync.Mutex
	seen map[string]sighting
}

// sighting is since when a holder was seen without a write of its own, by the
// clock of this process: no two clocks are ever compared.
type sighting struct {
	epoch, beat uint64
	since       time.Time
}

// NewStore returns the Store of the documents below the root of objects.
func NewStore(objects objectstore.Store) *Store {
	return &Store{objects: objects, seen: make(map[string]sighting)}
}

// Get returns the document of a projection. The error wraps ErrNotBuilt when there
// is none, and a *DocumentError when it cannot be used.
func (s *Store) Get(ctx context.Context, name string) (*Document, error) {
	d, err := s.get(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("projection %s: %w", name, err)
	}
	return d, nil
}

// List gives the documents of all projections, in no promised order. One that
// cannot be used comes as a *DocumentError, and the rest goes on after it.
func (s *Store) List(ctx context.Context) iter.Seq2[*Document, error] {
	return func(yield func(*Document, error) bool) {
		for info, err := range s.objects.List(ctx, documentDir, objectstore.ListOptions{}) {
			if err != nil {
				yield(nil, fmt.Errorf("list projections: %w", err))
				return
			}
			name, ok := strings.CutSuffix(strings.TrimPrefix(info.Key, documentDir), documentSuffix)
			if !ok || !goodName(name) {
				continue
			}
			d, err := s.get(ctx, name)
			if errors.Is(err, ErrNotBuilt) {
				continue
			}
			var damaged *DocumentError
			if !yield(d, err) || err != nil && !errors.As(err, &damaged) {
				return
			}
		}
	}
}

func (s *Store) get(ctx context.Context, name string) (_ *Document, err error) {
	if !goodName(name) {
		return nil, fmt.Errorf("%.80q cannot be a name: %s", name, wantName)
	}
	key := documentKey(name)
	body, info, err := s.objects.Get(ctx, key, objectstore.ByteRange{})
	if errors.Is(err, objectstore.ErrNotFound) {
		return nil, ErrNotBuilt
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	text, err := io.ReadAll(io.LimitReader(body, maxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	d, err := decode(name, text)
	if err != nil {
		return nil, &DocumentError{key, err}
	}
	d.ETag = info.ETag
	return d, nil
}

func decode(name string, text []byte) (*Document, error) {
	if len(text) > maxDocument {
		return nil, fmt.Errorf("it has more than %d bytes", maxDocument)
	}
	var d Document
	var version struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(text, &version); err != nil {
		return nil, err
	}
	if version.Version != FormatVersion {
		return nil, remedy.Wrapf(
			fmt.Errorf("it is of version %d, and this program knows version %d", version.Version, FormatVersion), "update reservoir")
	}
	if err := json.Unmarshal(text, &d); err != nil {
		return nil, err
	}
	return &d, d.validate(name)
}

// put writes a document where the revision is that it was read from, or where
// there is none. When that fails in whatever way, it looks whether this document
// is there all the same. The error wraps errChanged when another one is.
func (s *Store) put(ctx context.Context, d *Document) error {
	text, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("encode the document of projection %s: %w", d.Name, err)
	}
	text = append(text, '\n')
	if len(text) > maxDocument {
		return fmt.Errorf("the document of projection %s has %d bytes, more than the %d allowed", d.Name, len(text), maxDocument)
	}
	cond := objectstore.IfAbsent
	if d.ETag != "" {
		cond = objectstore.IfMatch(d.ETag)
	}
	info, putErr := s.objects.Put(ctx, documentKey(d.Name), bytes.NewReader(text), cond)
	if putErr == nil {
		d.ETag = info.ETag
		return nil
	}
	there, err := s.get(ctx, d.Name)
	switch {
	case err == nil && there.Nonce == d.Nonce:
		d.ETag = there.ETag
		return nil
	case errors.Is(putErr, objectstore.ErrPrecondition) || errors.Is(putErr, objectstore.ErrNotFound):
		return fmt.Errorf("write %s: %w", documentKey(d.Name), errors.Join(errChanged, putErr))
	default:
		return fmt.Errorf("write %s: %w", documentKey(d.Name), putErr)
	}
}

// revise writes the next revision of a document with a change, whoever writes it
// besides, and returns it. A document that is not there is made.
func (s *Store) revise(ctx context.Context, name string, change func(*Document) error) (*Document, error) {
	nonce := rand.Text()
	for {
		d, err := s.get(ctx, name)
		if errors.Is(err, ErrNotBuilt) {
			d, err = &Document{Version: FormatVersion, Name: name}, nil
		}
		if err != nil {
			return nil, fmt.Errorf("projection %s: %w", name, err)
		}
		if d.Nonce == nonce { // an earlier try arrived late
			return d, nil
		}
		d = d.clone()
		if err := change(d); err != nil {
			return nil, err
		}
		d.Nonce, d.UpdatedAt = nonce, now()
		switch err := s.put(ctx, d); {
		case err == nil:
			return d, nil
		case !errors.Is(err, errChanged):
			return nil, err
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		}
	}
}

// NextGeneration gives out the number of a new generation, which no other build
// of the projection has. The holder is not disturbed.
func (s *Store) NextGeneration(ctx context.Context, name string) (uint64, error) {
	d, err := s.revise(ctx, name, func(d *Document) error {
		d.LastGeneration++
		return nil
	})
	if err != nil {
		return 0, err
	}
	return d.LastGeneration, nil
}

// Dropped notes that the table of a previous generation is gone. The holder is
// not disturbed.
func (s *Store) Dropped(ctx context.Context, name string, generation uint64, by string) error {
	_, err := s.revise(ctx, name, func(d *Document) error {
		before := len(d.Previous)
		d.Previous = slices.DeleteFunc(d.Previous, func(p Previous) bool { return p.Generation.Generation == generation })
		if len(d.Previous) < before {
			d.log(HistoryEntry{Time: now(), What: "dropped", Generation: generation, By: by})
		}
		return nil
	})
	return err
}

// now is the time as documents hold it.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
