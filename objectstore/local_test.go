package objectstore_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/objectstore"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, store objectstore.Store, key string) []byte {
	t.Helper()
	body, _, err := store.Get(t.Context(), key, objectstore.ByteRange{})
	check(t, err)
	data, err := io.ReadAll(body)
	check(t, err)
	check(t, body.Close())
	return data
}

func write(t testing.TB, store objectstore.Store, key, text string) objectstore.Info {
	t.Helper()
	info, err := store.Put(t.Context(), key, strings.NewReader(text), objectstore.Always)
	check(t, err)
	return info
}

// files lists the files below dir, but for lock files.
func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	check(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && filepath.Base(filepath.Dir(path)) != "locks" {
			names = append(names, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	}))
	return names
}

func TestLocalDirectory(t *testing.T) {
	dir := t.TempDir()
	store := openLocal(t, filepath.Join(dir, "new"))
	if _, err := store.Head(t.Context(), "k"); !errors.Is(err, objectstore.ErrNotFound) {
		t.Errorf("head in a directory that is not there yet: %v", err)
	}
	for info, err := range store.List(t.Context(), "", objectstore.ListOptions{}) {
		t.Errorf("a directory that is not there lists %+v, %v", info, err)
	}
	check(t, store.Delete(t.Context(), "k"))
	if got := files(t, dir); len(got) != 0 {
		t.Errorf("reading made %q", got)
	}
	write(t, store, "k", "x")
	if _, err := objectstore.NewLocal(filepath.Join(dir, "no", "where"), objectstore.LocalOptions{}); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(remedy.Of(err), filepath.Join(dir, "no")) {
		t.Errorf("a directory without parent: %v, remedy %q", err, remedy.Of(err))
	}
	if _, err := objectstore.NewLocal(filepath.Join(dir, "new", "k"), objectstore.LocalOptions{}); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("a file: %v", err)
	}
}

func TestLocalKeysThatCollide(t *testing.T) {
	store := openLocal(t, t.TempDir())
	write(t, store, "a/b", "x")
	for _, cond := range []objectstore.Condition{objectstore.Always, objectstore.IfAbsent} {
		for key, want := range map[string]error{"a": syscall.EISDIR, "a/b/c": syscall.ENOTDIR, "a/b/c/d": syscall.ENOTDIR} {
			_, err := store.Put(t.Context(), key, strings.NewReader("y"), cond)
			if !errors.Is(err, want) || errors.Is(err, objectstore.ErrPrecondition) {
				t.Errorf("put %s: %v, want %v", key, err, want)
			}
		}
	}
	if _, err := store.Put(t.Context(), ".reservoir/tmp/x", strings.NewReader("y"), objectstore.Always); err == nil {
		t.Error("the hidden directory can be written to")
	}
	check(t, store.Delete(t.Context(), "a"))
	if got := string(read(t, store, "a/b")); got != "x" {
		t.Errorf("a/b holds %q", got)
	}
}

// TestLocalLeftovers: no Put leaves a temporary file; those of a crash are not
// listed, and go when they are old.
func TestLocalLeftovers(t *testing.T) {
	dir := t.TempDir()
	store := openLocal(t, dir)
	write(t, store, "k", "x")
	for _, cond := range []objectstore.Condition{objectstore.IfAbsent, objectstore.IfMatch("stale")} {
		if _, err := store.Put(t.Context(), "k", strings.NewReader("y"), cond); !errors.Is(err, objectstore.ErrPrecondition) {
			t.Error(err)
		}
	}
	if got := files(t, dir); len(got) != 1 {
		t.Errorf("left: %q", got)
	}
	for name, age := range map[string]time.Duration{"old": 25 * time.Hour, "young": 23 * time.Hour} {
		path := filepath.Join(dir, ".reservoir", "tmp", name)
		check(t, os.WriteFile(path, []byte("x"), 0o600))
		check(t, os.Chtimes(path, time.Time{}, time.Now().Add(-age)))
	}
	for info, err := range store.List(t.Context(), ".res", objectstore.ListOptions{}) {
		t.Errorf("listed %+v, %v", info, err)
	}
	write(t, openLocal(t, dir), "k", "x")
	if got := files(t, dir); len(got) != 2 || got[0] != ".reservoir/tmp/young" {
		t.Errorf("left: %q", got)
	}
}

func TestLocalPrunesEmptyDirectories(t *testing.T) {
	dir := t.TempDir()
	store := openLocal(t, dir)
	write(t, store, "a/b/c/d", "x")
	write(t, store, "a/e", "x")
	check(t, store.Delete(t.Context(), "a/b/c/d"))
	if _, err := os.Stat(filepath.Join(dir, "a", "b")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a/b: %v", err)
	}
	check(t, store.Delete(t.Context(), "a/e"))
	if _, err := os.Stat(filepath.Join(dir, "a")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a: %v", err)
	}
}

// TestLocalPutAgainstPruning creates objects in directories that vanish all the time.
func TestLocalPutAgainstPruning(t *testing.T) {
	dir := t.TempDir()
	stores := []*objectstore.Local{openLocal(t, dir), openLocal(t, dir)}
	errs := make(chan error)
	for i, store := range stores {
		go func() {
			var err error
			for n := 0; n < 150 && err == nil; n++ {
				key := "a/b/c/" + string(rune('x'+i))
				_, err = store.Put(t.Context(), key, strings.NewReader("x"), objectstore.IfAbsent)
				err = errors.Join(err, store.Delete(t.Context(), key))
			}
			errs <- err
		}()
	}
	check(t, errors.Join(<-errs, <-errs))
}

func TestLocalBodyOfCutFile(t *testing.T) {
	dir := t.TempDir()
	store := openLocal(t, dir)
	write(t, store, "k", "0123456789")
	body, _, err := store.Get(t.Context(), "k", objectstore.ByteRange{})
	check(t, err)
	check(t, os.Truncate(filepath.Join(dir, "k"), 4))
	if data, err := io.ReadAll(body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("read %q, %v", data, err)
	}
	check(t, body.Close())
}

// TestLocalLockWaitsWithContext holds a lock as another process would.
func TestLocalLockWaitsWithContext(t *testing.T) {
	dir := t.TempDir()
	store := openLocal(t, dir)
	info := write(t, store, "k", "x")
	locks, err := filepath.Glob(filepath.Join(dir, ".reservoir", "locks", "*"))
	if err != nil || len(locks) != 1 {
		t.Fatalf("locks %q, %v", locks, err)
	}
	lock, err := os.Open(locks[0])
	check(t, err)
	check(t, syscall.Flock(int(lock.Fd()), syscall.LOCK_EX))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := store.Put(ctx, "k", strings.NewReader("y"), objectstore.IfMatch(info.ETag)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("put: %v", err)
	}
	check(t, lock.Close())
	if _, err := store.Put(t.Context(), "k", strings.NewReader("y"), objectstore.IfMatch(info.ETag)); err != nil {
		t.Errorf("put: %v", err)
	}
}

func TestLocalETagOfSameSize(t *testing.T) {
	store := openLocal(t, t.TempDir())
	seen := map[string]bool{}
	for i := range 200 { // fast enough for times and inodes to repeat
		info := write(t, store, "k", string(rune('a'+i%26))+strings.Repeat("x", i/26))
		if seen[info.ETag] {
			t.Fatalf("the ETag %s comes twice", info.ETag)
		}
		seen[info.ETag] = true
	}
	large := bytes.Repeat([]byte("x"), 4<<20+1)
	first, err := store.Put(t.Context(), "k", bytes.NewReader(large), objectstore.Always)
	check(t, err)
	second, err := store.Put(t.Context(), "k", bytes.NewReader(large), objectstore.Always)
	check(t, err)
	if first.ETag == second.ETag {
		t.Errorf("both large objects have the ETag %s", first.ETag)
	}
}
