// Package storetest is the conformance suite of objectstore.Store: what every
// implementation and decorator must do.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/reservoirhq/reservoir/objectstore"
)

// Run runs the suite. open gives an empty store each time it is called; it may
// use t.Cleanup to end it.
func Run(t *testing.T, open func(t *testing.T) objectstore.Store) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, objectstore.Store)
	}{
		{"Put", testPut},
		{"IfAbsent", testIfAbsent},
		{"IfMatch", testIfMatch},
		{"IfAbsentRace", testIfAbsentRace},
		{"IfMatchRace", testIfMatchRace},
		{"ConditionalLarge", testConditionalLarge},
		{"Missing", testMissing},
		{"Ranges", testRanges},
		{"Sizes", testSizes},
		{"Large", testLarge},
		{"FailingBody", testFailingBody},
		{"CancelledPut", testCancelledPut},
		{"Replaced", testReplaced},
		{"Keys", testKeys},
		{"BadKeys", testBadKeys},
		{"List", testList},
		{"ListEarlyBreak", testListEarlyBreak},
		{"ListMany", testListMany},
		{"Probe", testProbe},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

func testPut(t *testing.T, s objectstore.Store) {
	info := put(t, s, "a/b", "one", objectstore.Always)
	if info.Key != "a/b" || info.Size != 3 || info.ETag == "" {
		t.Errorf("Put gives %+v", info)
	}
	head, err := s.Head(t.Context(), "a/b")
	check(t, err)
	if head.Key != "a/b" || head.Size != 3 || head.ETag != info.ETag || head.ModTime.IsZero() {
		t.Errorf("Head gives %+v after Put gave %+v", head, info)
	}
	text, got := get(t, s, "a/b", objectstore.ByteRange{})
	if text != "one" || got.Key != "a/b" || got.Size != 3 || got.ETag != info.ETag {
		t.Errorf("Get gives %q and %+v", text, got)
	}
	again := put(t, s, "a/b", "two", objectstore.Always)
	if text, _ := get(t, s, "a/b", objectstore.ByteRange{}); text != "two" || again.ETag == info.ETag {
		t.Errorf("after the second Put, Get gives %q, and the ETag went from %s to %s", text, info.ETag, again.ETag)
	}
	check(t, s.Delete(t.Context(), "a/b"))
	wantAbsent(t, s, "a/b")
	check(t, s.Delete(t.Context(), "a/b"))
	put(t, s, "a/b", "three", objectstore.IfAbsent)
	if text, _ := get(t, s, "a/b", objectstore.ByteRange{}); text != "three" {
		t.Errorf("after Delete and Put, Get gives %q", text)
	}
}

func testIfAbsent(t *testing.T, s objectstore.Store) {
	put(t, s, "k", "first", objectstore.IfAbsent)
	_, err := s.Put(t.Context(), "k", strings.NewReader("second"), objectstore.IfAbsent)
	wantError(t, err, objectstore.ErrPrecondition)
	if text, _ := get(t, s, "k", objectstore.ByteRange{}); text != "first" {
		t.Errorf("the object is %q", text)
	}
}

func testIfMatch(t *testing.T, s objectstore.Store) {
	first := put(t, s, "k", "first", objectstore.IfAbsent)
	second := put(t, s, "k", "second", objectstore.IfMatch(first.ETag))
	_, err := s.Put(t.Context(), "k", strings.NewReader("stale"), objectstore.IfMatch(first.ETag))
	wantError(t, err, objectstore.ErrPrecondition)
	text, info := get(t, s, "k", objectstore.ByteRange{})
	if text != "second" || info.ETag != second.ETag {
		t.Errorf("the object is %q, %+v", text, info)
	}
	put(t, s, "k", "third", objectstore.IfMatch(info.ETag))
	_, err = s.Put(t.Context(), "absent", strings.NewReader("x"), objectstore.IfMatch(first.ETag))
	wantError(t, err, objectstore.ErrNotFound)
	wantAbsent(t, s, "absent")
}

func testIfAbsentRace(t *testing.T, s objectstore.Store) {
	const rounds, writers = 10, 8
	for round := range rounds {
		key := fmt.Sprintf("race/%d", round)
		won := race(t, writers, func(writer int) (bool, error) {
			_, err := s.Put(t.Context(), key, strings.NewReader(fmt.Sprint(writer)), objectstore.IfAbsent)
			return err == nil, ignore(err, objectstore.ErrPrecondition)
		})
		if len(won) != 1 {
			t.Fatalf("writers %v all created %s", won, key)
		}
		if text, _ := get(t, s, key, objectstore.ByteRange{}); text != fmt.Sprint(won[0]) {
			t.Fatalf("writer %d created %s, but it holds %q", won[0], key, text)
		}
	}
}

func testIfMatchRace(t *testing.T, s objectstore.Store) {
	const writers, each = 8, 5
	put(t, s, "counter", "0", objectstore.IfAbsent)
	race(t, writers, func(int) (bool, error) { return true, Increment(t.Context(), s, "counter", each) })
	if text, _ := get(t, s, "counter", objectstore.ByteRange{}); text != fmt.Sprint(writers*each) {
		t.Errorf("%d increments counted to %s", writers*each, text)
	}
}

// Increment adds one to the decimal number in an object, times times, by
// compare and swap.
func Increment(ctx context.Context, s objectstore.Store, key string, times int) error {
	for done := 0; done < times; {
		body, info, err := s.Get(ctx, key, objectstore.ByteRange{})
		if err != nil {
			return err
		}
		text, err := io.ReadAll(body)
		if err = errors.Join(err, body.Close()); err != nil {
			return err
		}
		var n int
		if _, err := fmt.Sscan(string(text), &n); err != nil {
			return fmt.Errorf("counter %q: %w", text, err)
		}
		_, err = s.Put(ctx, key, strings.NewReader(fmt.Sprint(n+1)), objectstore.IfMatch(info.ETag))
		if err == nil {
			done++
		} else if !errors.Is(err, objectstore.ErrPrecondition) {
			return err
		}
	}
	return nil
}

// testConditionalLarge holds uploads in parts to the same conditions.
func testConditionalLarge(t *testing.T, s objectstore.Store) {
	const size = 11 << 20
	old := random(size)
	first, err := s.Put(t.Context(), "large", bytes.NewReader(old), objectstore.IfAbsent)
	check(t, err)
	for name, cond := range map[string]objectstore.Condition{"IfAbsent": objectstore.IfAbsent, "IfMatch": objectstore.IfMatch(`"stale"`)} {
		_, err := s.Put(t.Context(), "large", bytes.NewReader(random(size)), cond)
		if !errors.Is(err, objectstore.ErrPrecondition) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if text, _ := get(t, s, "large", objectstore.ByteRange{}); text != string(old) {
		t.Error("a Put whose condition failed has changed the object")
	}
	fresh := random(size)
	_, err = s.Put(t.Context(), "large", bytes.NewReader(fresh), objectstore.IfMatch(first.ETag))
	check(t, err)
	if text, _ := get(t, s, "large", objectstore.ByteRange{}); text != string(fresh) {
		t.Error("a Put whose condition held has not changed the object")
	}
	_, err = s.Put(t.Context(), "absent", bytes.NewReader(old), objectstore.IfMatch(first.ETag))
	wantError(t, err, objectstore.ErrNotFound)
	wantKeys(t, s, "", objectstore.ListOptions{}, "large")
}

func testMissing(t *testing.T, s objectstore.Store) {
	put(t, s, "a/b", "x", objectstore.Always)
	for _, key := range []string{"absent", "a", "a/bc", "a/b/c"} {
		wantAbsent(t, s, key)
	}
}

func testRanges(t *testing.T, s objectstore.Store) {
	const text = "0123456789"
	put(t, s, "k", text, objectstore.Always)
	put(t, s, "empty", "", objectstore.Always)
	for _, test := range []struct {
		offset, length int64
		want           string
	}{
		{0, 0, text}, {0, 1, "0"}, {3, 4, "3456"}, {9, 1, "9"}, {8, 0, "89"}, {8, 100, "89"}, {0, 10, text}, {0, 11, text},
		{-3, 0, "789"}, {-3, 2, "78"}, {-3, 3, "789"}, {-3, 9, "789"}, {-10, 0, text}, {-11, 0, text}, {-11, 2, "01"},
		{10, 0, ""}, {10, 5, ""}, {11, 0, ""}, {1 << 40, 1, ""},
	} {
		r := objectstore.ByteRange{Offset: test.offset, Length: test.length}
		if got, info := get(t, s, "k", r); got != test.want || info.Size != 10 || info.Key != "k" {
			t.Errorf("%+v gives %q and %+v, want %q", r, got, info, test.want)
		}
		if got, info := get(t, s, "empty", r); got != "" || info.Size != 0 {
			t.Errorf("%+v of the empty object gives %q and %+v", r, got, info)
		}
	}
	_, _, err := s.Get(t.Context(), "absent", objectstore.ByteRange{Offset: 1, Length: 1})
	wantError(t, err, objectstore.ErrNotFound)
}

// testSizes writes sizes around the buffers' of the implementations.
func testSizes(t *testing.T, s objectstore.Store) {
	for _, size := range []int{0, 1, 64<<10 - 1, 64 << 10, 64<<10 + 1, 4 << 20, 4<<20 + 1, 5<<20 - 1, 5 << 20, 5<<20 + 1, 10 << 20} {
		want := random(size)
		info, err := s.Put(t.Context(), "k", bytes.NewReader(want), objectstore.Always)
		check(t, err)
		got, read := get(t, s, "k", objectstore.ByteRange{})
		if got != string(want) || info.Size != int64(size) || read.Size != int64(size) {
			t.Errorf("%d bytes: Put gives %+v, Get %+v and %d bytes", size, info, read, len(got))
		}
		if read.ETag != info.ETag {
			t.Errorf("%d bytes: ETag %s from Put, %s from Get", size, info.ETag, read.ETag)
		}
		if tail, _ := get(t, s, "k", objectstore.ByteRange{Offset: -1000}); tail != string(want[max(0, size-1000):]) {
			t.Errorf("%d bytes: the tail differs", size)
		}
	}
}

// testLarge streams 25 MiB, in reads of odd sizes.
func testLarge(t *testing.T, s objectstore.Store) {
	want := random(25 << 20)
	info, err := s.Put(t.Context(), "k", iotest.HalfReader(bytes.NewReader(want)), objectstore.IfAbsent)
	check(t, err)
	got, read := get(t, s, "k", objectstore.ByteRange{})
	if got != string(want) || info.Size != int64(len(want)) || read.ETag != info.ETag {
		t.Errorf("Put gives %+v, Get %+v and %d bytes", info, read, len(got))
	}
	middle, _ := get(t, s, "k", objectstore.ByteRange{Offset: 12 << 20, Length: 1 << 20})
	if middle != string(want[12<<20:13<<20]) {
		t.Error("the middle differs")
	}
}

var errBody = errors.New("body fails")

func testFailingBody(t *testing.T, s objectstore.Store) {
	put(t, s, "kept", "kept", objectstore.Always)
	for _, failure := range []error{errBody, io.ErrUnexpectedEOF} {
		for _, size := range []int{0, 10, 100 << 10, 5 << 20, 12 << 20} {
			for _, key := range []string{"k", "kept"} {
				body := io.MultiReader(bytes.NewReader(random(size)), iotest.ErrReader(failure))
				_, err := s.Put(t.Context(), key, body, objectstore.Always)
				wantError(t, err, failure)
			}
		}
	}
	wantAbsent(t, s, "k")
	wantKeys(t, s, "", objectstore.ListOptions{}, "kept")
	if text, _ := get(t, s, "kept", objectstore.ByteRange{}); text != "kept" {
		t.Errorf("the object is now %d bytes", len(text))
	}
}

// testCancelledPut cancels in the middle of bodies of several sizes.
func testCancelledPut(t *testing.T, s objectstore.Store) {
	for _, size := range []int{0, 10, 100 << 10, 12 << 20} {
		ctx, cancel := context.WithCancel(t.Context())
		body := io.MultiReader(bytes.NewReader(random(size)), readerFunc(func([]byte) (int, error) {
			cancel()
			return 0, io.EOF
		}))
		_, err := s.Put(ctx, "k", body, objectstore.Always)
		wantError(t, err, context.Canceled)
		cancel()
	}
	wantAbsent(t, s, "k")
	wantKeys(t, s, "", objectstore.ListOptions{})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// testReplaced reads an object that is replaced and deleted meanwhile: the old
// contents or an error, never a mixture.
func testReplaced(t *testing.T, s objectstore.Store) {
	old, fresh := random(12<<20), random(12<<20)
	_, err := s.Put(t.Context(), "k", bytes.NewReader(old), objectstore.Always)
	check(t, err)
	body, _, err := s.Get(t.Context(), "k", objectstore.ByteRange{})
	check(t, err)
	head := make([]byte, 1000)
	_, err = io.ReadFull(body, head)
	check(t, err)
	_, err = s.Put(t.Context(), "k", bytes.NewReader(fresh), objectstore.Always)
	check(t, err)
	check(t, s.Delete(t.Context(), "k"))
	tail, err := io.ReadAll(body)
	if err == nil && string(head)+string(tail) != string(old) {
		t.Error("the reader got something else than what it opened")
	}
	check(t, body.Close())
}

func testKeys(t *testing.T, s objectstore.Store) {
	keys := []string{
		"a b", "a+b", "a%20b", "a%2Fb", "percent%", "date=2026-11-21/hour=07/x.parquet", "größe/日本語/🙂", "q?a=b&c#d", "~!@$^*()_-'\",;:[]{}|<>`",
		".hidden", "..two", "back\\slash", strings.Repeat("l", 255), strings.Repeat("deep/", 20) + "x", "UPPER", "upper", "e\u0301", "\u00e9",
	}
	for _, key := range keys {
		put(t, s, key, key, objectstore.IfAbsent)
		if text, info := get(t, s, key, objectstore.ByteRange{}); text != key || info.Key != key {
			t.Errorf("%q holds %q, %+v", key, text, info)
		}
	}
	wantKeys(t, s, "", objectstore.ListOptions{}, keys...)
	for _, key := range keys {
		wantKeys(t, s, key, objectstore.ListOptions{}, key)
		check(t, s.Delete(t.Context(), key))
		wantAbsent(t, s, key)
	}
	wantKeys(t, s, "", objectstore.ListOptions{})
}

func testBadKeys(t *testing.T, s objectstore.Store) {
	for _, key := range []string{"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", "a\nb", "a\x00b", "\xff", strings.Repeat("x", 256), strings.Repeat("x/", 600) + "x"} {
		_, errPut := s.Put(t.Context(), key, strings.NewReader("x"), objectstore.Always)
		_, _, errGet := s.Get(t.Context(), key, objectstore.ByteRange{})
		_, errHead := s.Head(t.Context(), key)
		errDelete := s.Delete(t.Context(), key)
		if errPut == nil || errGet == nil || errHead == nil || errDelete == nil {
			t.Errorf("%q: Put %v, Get %v, Head %v, Delete %v", key, errPut, errGet, errHead, errDelete)
		}
		if errors.Is(errGet, objectstore.ErrNotFound) || errors.Is(errPut, objectstore.ErrPrecondition) {
			t.Errorf("%q: Put %v, Get %v", key, errPut, errGet)
		}
	}
	wantKeys(t, s, "", objectstore.ListOptions{})
}

func testList(t *testing.T, s objectstore.Store) {
	keys := []string{"a", "a.b", "b/1", "b/2", "b/c/3", "b/c/4", "b-", "c/d/e/f", "d"}
	for _, key := range keys {
		put(t, s, key, key, objectstore.Always)
	}
	put(t, s, "gone/below/x", "x", objectstore.Always)
	check(t, s.Delete(t.Context(), "gone/below/x"))
	folded := objectstore.ListOptions{Delimited: true}
	wantKeys(t, s, "", objectstore.ListOptions{}, keys...)
	wantKeys(t, s, "b", objectstore.ListOptions{}, "b/1", "b/2", "b/c/3", "b/c/4", "b-")
	wantKeys(t, s, "b/", objectstore.ListOptions{}, "b/1", "b/2", "b/c/3", "b/c/4")
	wantKeys(t, s, "b/c", objectstore.ListOptions{}, "b/c/3", "b/c/4")
	wantKeys(t, s, "nothing", objectstore.ListOptions{})
	wantKeys(t, s, "a/", objectstore.ListOptions{})
	wantKeys(t, s, "../", objectstore.ListOptions{})
	wantKeys(t, s, "", folded, "a", "a.b", "b-", "b/", "c/", "d")
	wantKeys(t, s, "b", folded, "b-", "b/")
	wantKeys(t, s, "b/", folded, "b/1", "b/2", "b/c/")
	wantKeys(t, s, "c/d", folded, "c/d/")
	wantKeys(t, s, "c/d/", folded, "c/d/e/")
	wantKeys(t, s, "", objectstore.ListOptions{After: "b/2"}, "b/c/3", "b/c/4", "c/d/e/f", "d")
	wantKeys(t, s, "", objectstore.ListOptions{After: "b"}, "b-", "b/1", "b/2", "b/c/3", "b/c/4", "c/d/e/f", "d")
	wantKeys(t, s, "b/", objectstore.ListOptions{After: "b/2"}, "b/c/3", "b/c/4")
	wantKeys(t, s, "b/", objectstore.ListOptions{After: "a"}, "b/1", "b/2", "b/c/3", "b/c/4")
	wantKeys(t, s, "b/", objectstore.ListOptions{After: "b/c/4"})
	wantKeys(t, s, "", objectstore.ListOptions{Delimited: true, After: "b-"}, "b/", "c/", "d")
	wantKeys(t, s, "", objectstore.ListOptions{Delimited: true, After: "b/"}, "c/", "d")
	wantKeys(t, s, "", objectstore.ListOptions{Delimited: true, After: "b/2"}, "c/", "d")
	for info, err := range s.List(t.Context(), "", folded) {
		check(t, err)
		if info.Prefix != strings.HasSuffix(info.Key, "/") || info.Prefix && (info.Size != 0 || info.ETag != "" || !info.ModTime.IsZero()) {
			t.Errorf("listed %+v", info)
		}
		if !info.Prefix && (info.Size != int64(len(info.Key)) || info.ModTime.IsZero()) {
			t.Errorf("listed %+v", info)
		}
	}
}

func testListEarlyBreak(t *testing.T, s objectstore.Store) {
	for i := range 5 {
		put(t, s, fmt.Sprintf("d%d/x", i), "x", objectstore.Always)
	}
	for _, delimited := range []bool{false, true} {
		n := 0
		for _, err := range s.List(t.Context(), "", objectstore.ListOptions{Delimited: delimited}) {
			check(t, err)
			if n++; n == 2 {
				break
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var last error
	for _, err := range s.List(ctx, "", objectstore.ListOptions{}) {
		if last != nil {
			t.Error("the listing goes on after its error")
		}
		last = err
	}
	wantError(t, last, context.Canceled)
}

// testListMany lists more than a page.
func testListMany(t *testing.T, s objectstore.Store) {
	const n, workers = 1100, 8
	want := make([]string, n)
	for i := range want {
		want[i] = fmt.Sprintf("m/%02d/%04d", i%30, i)
	}
	race(t, workers, func(worker int) (bool, error) {
		for i := worker; i < n; i += workers {
			if _, err := s.Put(t.Context(), want[i], strings.NewReader("x"), objectstore.IfAbsent); err != nil {
				return false, err
			}
		}
		return true, nil
	})
	wantKeys(t, s, "m/", objectstore.ListOptions{}, want...)
	slices.Sort(want)
	wantKeys(t, s, "", objectstore.ListOptions{After: want[n/2]}, want[n/2+1:]...)
	var prefixes []string
	for i := range 30 {
		prefixes = append(prefixes, fmt.Sprintf("m/%02d/", i))
	}
	wantKeys(t, s, "m/", objectstore.ListOptions{Delimited: true}, prefixes...)
}

func testProbe(t *testing.T, s objectstore.Store) {
	put(t, s, "mine", "x", objectstore.Always)
	race(t, 3, func(int) (bool, error) { return true, objectstore.Probe(t.Context(), s) })
	wantKeys(t, s, "", objectstore.ListOptions{}, "mine")
}
