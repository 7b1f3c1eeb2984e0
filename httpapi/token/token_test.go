package token_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/httpapi/token"
	"github.com/reservoirhq/reservoir/objectstore"
)

// clock is a time that a test moves.
type clock struct{ now time.Time }

func (c *clock) time() time.Time { return c.now }

func newStore(t *testing.T) (objectstore.Store, *token.Store, *clock) {
	t.Helper()
	objects, err := objectstore.NewLocal(t.TempDir(), objectstore.LocalOptions{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	c := &clock{time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)}
	return objects, token.NewStore(objects, c.time), c
}

func TestLifeOfAToken(t *testing.T) {
	ctx := t.Context()
	objects, store, c := newStore(t)
	if found, err := store.Any(ctx); err != nil || found {
		t.Fatalf("any: %v, %v", found, err)
	}
	made, text, err := store.Create(ctx, token.New{Name: " ci ", Role: token.Operator, Streams: []string{"a*"}, ExpiresAt: c.now.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	if made.Name != "ci" || !strings.HasPrefix(text, token.Prefix+made.ID+"_") {
		t.Fatalf("made %+v, %q", made, text)
	}
	secret := text[len(token.Prefix+made.ID+"_"):]
	if strings.Contains(document(t, objects, made.ID), secret) {
		t.Fatal("the document holds the secret")
	}
	other := token.NewStore(objects, c.time)
	for _, s := range []*token.Store{store, other} {
		got, err := s.Verify(ctx, text)
		if err != nil || got.Role != token.Operator || got.Streams[0] != "a*" {
			t.Fatalf("verified: %+v, %v", got, err)
		}
	}
	for _, wrong := range []string{"", "rsv_", text[:len(text)-1], text + "A", text[:len(text)-1] + "0", strings.Replace(text, made.ID, "01KAJ4M5N6P7Q8R9S0T1V2W3X4", 1), strings.ToLower(text), "Bearer " + text} {
		if _, err := store.Verify(ctx, wrong); !errors.Is(err, token.ErrRejected) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	if _, err := store.Revoke(ctx, made.ID, "ann"); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Verify(ctx, text); !errors.Is(err, token.ErrRejected) {
		t.Errorf("revoked here: %v", err)
	}
	if _, err := other.Verify(ctx, text); err != nil {
		t.Errorf("revoked elsewhere, and still remembered: %v", err)
	}
	c.now = c.now.Add(token.CacheTTL)
	if _, err := other.Verify(ctx, text); !errors.Is(err, token.ErrRejected) {
		t.Errorf("revoked elsewhere: %v", err)
	}
	again, err := store.Revoke(ctx, made.ID, "bob")
	if err != nil || again.RevokedBy != "ann" || again.State(c.now) != token.Revoked {
		t.Errorf("revoked twice: %+v, %v", again, err)
	}
}

func TestTokensExpire(t *testing.T) {
	_, store, c := newStore(t)
	_, text, err := store.Create(t.Context(), token.New{Name: "x", Role: token.Viewer, ExpiresAt: c.now.Add(time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Verify(t.Context(), text); err != nil {
		t.Fatal(err)
	}
	c.now = c.now.Add(time.Second) // what is remembered expires too
	if _, err := store.Verify(t.Context(), text); !errors.Is(err, token.ErrRejected) {
		t.Errorf("expired: %v", err)
	}
}

func TestTokensThatAreRefused(t *testing.T) {
	_, store, c := newStore(t)
	for name, n := range map[string]token.New{
		"no name":      {Role: token.Viewer},
		"no role":      {Name: "x"},
		"unknown role": {Name: "x", Role: "king"},
		"in the past":  {Name: "x", Role: token.Viewer, ExpiresAt: c.now},
		"empty entry":  {Name: "x", Role: token.Viewer, Tenants: []string{""}},
		"long name":    {Name: strings.Repeat("x", 129), Role: token.Viewer},
	} {
		if _, _, err := store.Create(t.Context(), n); !errors.Is(err, token.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := store.Revoke(t.Context(), "01KAJ4M5N6P7Q8R9S0T1V2W3X4", "ann"); !errors.Is(err, token.ErrNotFound) {
		t.Errorf("revoke: %v", err)
	}
}

func TestList(t *testing.T) {
	ctx := t.Context()
	_, store, c := newStore(t)
	var want []string
	for range 5 {
		made, _, err := store.Create(ctx, token.New{Name: "x", Role: token.Viewer})
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, made.ID)
		c.now = c.now.Add(time.Minute)
	}
	for from, after := range append([]string{""}, want...) {
		var got []string
		for one, err := range store.List(ctx, after) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, one.ID)
		}
		if strings.Join(got, " ") != strings.Join(want[from:], " ") {
			t.Errorf("after %q: %v, want %v", after, got, want[from:])
		}
	}
}

func TestRoles(t *testing.T) {
	order := []token.Role{token.Viewer, token.Operator, token.Admin}
	for i, has := range order {
		for j, needs := range order {
			if got := has.Includes(needs); got != (i >= j) {
				t.Errorf("%s includes %s: %v", has, needs, got)
			}
		}
		if token.Role("").Includes(has) || token.Role("king").Includes(has) {
			t.Errorf("an unknown role includes %s", has)
		}
	}
}

func document(t *testing.T, objects objectstore.Store, id string) string {
	t.Helper()
	body, _, err := objects.Get(context.Background(), "tokens/"+id+".json", objectstore.ByteRange{})
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	text, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
