package storetest

import (
	"crypto/rand"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/reservoirhq/reservoir/objectstore"
)

func put(t *testing.T, s objectstore.Store, key, text string, cond objectstore.Condition) objectstore.Info {
	t.Helper()
	info, err := s.Put(t.Context(), key, strings.NewReader(text), cond)
	check(t, err)
	return info
}

func get(t *testing.T, s objectstore.Store, key string, r objectstore.ByteRange) (string, objectstore.Info) {
	t.Helper()
	body, info, err := s.Get(t.Context(), key, r)
	check(t, err)
	data, err := io.ReadAll(body)
	check(t, err)
	check(t, body.Close())
	return string(data), info
}

func wantAbsent(t *testing.T, s objectstore.Store, key string) {
	t.Helper()
	_, err := s.Head(t.Context(), key)
	wantError(t, err, objectstore.ErrNotFound)
	_, _, err = s.Get(t.Context(), key, objectstore.ByteRange{})
	wantError(t, err, objectstore.ErrNotFound)
	check(t, s.Delete(t.Context(), key))
}

// wantKeys compares a listing, in any order.
func wantKeys(t *testing.T, s objectstore.Store, prefix string, opts objectstore.ListOptions, want ...string) {
	t.Helper()
	var got []string
	for info, err := range s.List(t.Context(), prefix, opts) {
		check(t, err)
		got = append(got, info.Key)
	}
	want = slices.Clone(want)
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("List(%q, %+v) gives %d keys, want %d:\n%.2000q\nwant\n%.2000q", prefix, opts, len(got), len(want), got, want)
	}
}

func wantError(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got the error %v, want %v", err, want)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func ignore(err, expected error) error {
	if errors.Is(err, expected) {
		return nil
	}
	return err
}

// race runs n goroutines from one start and returns those that gave true.
func race(t *testing.T, n int, run func(i int) (bool, error)) []int {
	t.Helper()
	start := make(chan struct{})
	won, errs := make([]bool, n), make([]error, n)
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() {
			<-start
			won[i], errs[i] = run(i)
		})
	}
	close(start)
	group.Wait()
	check(t, errors.Join(errs...))
	var winners []int
	for i, ok := range won {
		if ok {
			winners = append(winners, i)
		}
	}
	return winners
}

func random(n int) []byte {
	data := make([]byte, n)
	rand.Read(data) // never fails
	return data
}
