package foldstore_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/projection/foldstore"
)

// TestDamaged: what is damaged on disk is made again, and said.
func TestDamaged(t *testing.T) {
	for name, damage := range map[string]func(dir string) error{
		"nothing": func(string) error { return nil },
		"manifest": func(dir string) error {
			list, err := filepath.Glob(filepath.Join(dir, "MANIFEST-*"))
			for _, file := range list {
				err = os.WriteFile(file, []byte("not a manifest, and long enough to be read as one"), 0o600)
			}
			return err
		},
		"files gone": func(dir string) error {
			list, err := filepath.Glob(filepath.Join(dir, "MANIFEST-*"))
			for _, file := range list {
				err = os.Remove(file)
			}
			return err
		},
	} {
		dir := filepath.Join(t.TempDir(), "states")
		open := func() *foldstore.Store {
			s, err := foldstore.Open(folder(t), foldstore.Options{Dir: dir, Identity: "a"})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			return s
		}
		s := open()
		if s.Lost() != "" {
			t.Errorf("%s: a new directory is lost: %s", name, s.Lost())
		}
		if _, err := apply(s, aggregateEvent("s", 1, "1")); err != nil {
			t.Fatal(err)
		}
		if err := s.Checkpoint(map[string]projection.Position{"s": {ID: event.ID{Ms: 2}}}); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := damage(dir); err != nil {
			t.Fatal(err)
		}
		s = open()
		if whole := name == "nothing"; (s.Lost() == "") != whole || (len(s.Positions()) == 1) != whole {
			t.Errorf("%s: lost for %q, positions %v", name, s.Lost(), s.Positions())
		}
		if applied, err := apply(s, aggregateEvent("s", 1, "1")); err != nil || applied == (name == "nothing") {
			t.Errorf("%s: applied %v, %v", name, applied, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRefused: an event that could not be used is known as long as a state is that is
// ahead of it.
func TestRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "states")
	open := func(identity string) *foldstore.Store {
		s, err := foldstore.Open(folder(t), foldstore.Options{Dir: dir, Identity: identity, Parts: 2})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	at := func(ms uint64) projection.Position { return projection.Position{Incarnation: 1, ID: event.ID{Ms: ms}} }
	s := open("a")
	if note, err := s.Refusal("s", at(1)); note != nil || err != nil {
		t.Errorf("%s, %v", note, err)
	}
	for range 2 {
		for ms, note := range map[uint64]string{1: "one", 300: "two"} {
			if err := s.Refuse("s", at(ms), []byte(note)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Checkpoint(nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open("a")
	var all []string
	for note, err := range s.Refused(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(note))
	}
	slices.Sort(all)
	one, err := s.Refusal("s", at(1))
	none, noneErr := s.Refusal("s", at(2))
	if s.Refusals() != 2 || strings.Join(all, " ") != "one two" || string(one) != "one" || err != nil || none != nil || noneErr != nil {
		t.Errorf("%d: %v, %s %v, %s %v", s.Refusals(), all, one, err, none, noneErr)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open("b")
	if s.Refusals() != 0 || !strings.Contains(s.Lost(), "another build: a") {
		t.Errorf("%d refused, lost for %q", s.Refusals(), s.Lost())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
