package objectstore_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/objectstore"
)

// unsafeStore changes what a store does on Put.
type unsafeStore struct {
	objectstore.Store
	put func(ctx context.Context, s objectstore.Store, key string, body io.Reader, cond objectstore.Condition) (objectstore.Info, error)
}

func (u unsafeStore) Put(ctx context.Context, key string, body io.Reader, cond objectstore.Condition) (objectstore.Info, error) {
	return u.put(ctx, u.Store, key, body, cond)
}

func TestProbeRefuses(t *testing.T) {
	always := func(ctx context.Context, s objectstore.Store, key string, body io.Reader) (objectstore.Info, error) {
		return s.Put(ctx, key, body, objectstore.Always)
	}
	var creators sync.WaitGroup
	creators.Add(8)
	for name, put := range map[string]func(context.Context, objectstore.Store, string, io.Reader, objectstore.Condition) (objectstore.Info, error){
		"ignores all conditions": func(ctx context.Context, s objectstore.Store, key string, body io.Reader, _ objectstore.Condition) (objectstore.Info, error) {
			return always(ctx, s, key, body)
		},
		"ignores if absent": func(ctx context.Context, s objectstore.Store, key string, body io.Reader, cond objectstore.Condition) (objectstore.Info, error) {
			if cond.Absent() {
				return always(ctx, s, key, body)
			}
			return s.Put(ctx, key, body, cond)
		},
		"ignores if match": func(ctx context.Context, s objectstore.Store, key string, body io.Reader, cond objectstore.Condition) (objectstore.Info, error) {
			if !cond.Absent() {
				return always(ctx, s, key, body)
			}
			return s.Put(ctx, key, body, cond)
		},
		"creates on if match": func(ctx context.Context, s objectstore.Store, key string, body io.Reader, cond objectstore.Condition) (objectstore.Info, error) {
			if _, err := s.Head(ctx, key); errors.Is(err, objectstore.ErrNotFound) {
				return always(ctx, s, key, body)
			}
			return s.Put(ctx, key, body, cond)
		},
		"refuses and writes": func(ctx context.Context, s objectstore.Store, key string, body io.Reader, cond objectstore.Condition) (objectstore.Info, error) {
			text, err := io.ReadAll(body)
			if err != nil {
				return objectstore.Info{}, err
			}
			info, err := s.Put(ctx, key, strings.NewReader(string(text)), cond)
			if errors.Is(err, objectstore.ErrPrecondition) {
				if _, err := always(ctx, s, key, strings.NewReader(string(text))); err != nil {
					return info, err
				}
			}
			return info, err
		},
		"refuses every if match": func(ctx context.Context, s objectstore.Store, key string, body io.Reader, cond objectstore.Condition) (objectstore.Info, error) {
			if _, ok := cond.ETag(); ok {
				return objectstore.Info{}, objectstore.ErrPrecondition
			}
			return s.Put(ctx, key, body, cond)
		},
		"looks, then writes": func(ctx context.Context, s objectstore.Store, key string, body io.Reader, cond objectstore.Condition) (objectstore.Info, error) {
			if !strings.HasSuffix(key, "/race") {
				return s.Put(ctx, key, body, cond)
			}
			_, err := s.Head(ctx, key)
			creators.Done()
			creators.Wait() // all look before one writes
			if err == nil {
				return objectstore.Info{}, objectstore.ErrPrecondition
			}
			return always(ctx, s, key, body)
		},
	} {
		inner := openLocal(t, t.TempDir())
		err := objectstore.Probe(t.Context(), unsafeStore{inner, put})
		var refused *objectstore.UnsafeStoreError
		if !errors.As(err, &refused) || remedy.Of(err) == "" {
			t.Errorf("a store that %s: %v", name, err)
		}
		for info, err := range inner.List(t.Context(), "", objectstore.ListOptions{}) {
			t.Errorf("a store that %s: %s is left, %v", name, info.Key, err)
		}
	}
}

func TestProbePassesOtherErrorsOn(t *testing.T) {
	boom := errors.New("boom")
	err := objectstore.Probe(t.Context(), unsafeStore{openLocal(t, t.TempDir()),
		func(context.Context, objectstore.Store, string, io.Reader, objectstore.Condition) (objectstore.Info, error) {
			return objectstore.Info{}, boom
		}})
	var refused *objectstore.UnsafeStoreError
	if !errors.Is(err, boom) || errors.As(err, &refused) {
		t.Error(err)
	}
}

// Some services do not ignore the headers, they do not know them.
func TestProbeRefusesAServiceWithoutConditions(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") != "" {
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(http.StatusNotImplemented)
			io.WriteString(w, "<Error><Code>NotImplemented</Code><Message>A header you provided implies functionality that is not implemented.</Message></Error>") //nolint:errcheck // the client notices
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	defer server.Close()
	store, err := objectstore.NewS3(t.Context(), objectstore.S3Options{
		Bucket: "b", Endpoint: server.URL, AccessKey: "a", SecretKey: "s", MaxAttempts: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	err = objectstore.Probe(t.Context(), store)
	var unsafe *objectstore.UnsafeStoreError
	if !errors.As(err, &unsafe) || remedy.Of(err) == "" {
		t.Errorf("%v, want an UnsafeStoreError with a remedy", err)
	}
}
