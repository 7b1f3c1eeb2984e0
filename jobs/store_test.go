package jobs_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore"
)

// TestStores runs on every kind of object store what depends on it.
func TestStores(t *testing.T) {
	tests := map[string]func(*testing.T, objectstore.Store){
		"life": testLife, "idempotency": testIdempotencyKey, "list": testList, "prune": testPrune, "workers": testWorkers,
	}
	run := func(t *testing.T, open func(*testing.T) objectstore.Store) {
		for name, test := range tests {
			t.Run(name, func(t *testing.T) { test(t, open(t)) })
		}
	}
	t.Run("memory", func(t *testing.T) { run(t, func(*testing.T) objectstore.Store { return newMemory() }) })
	t.Run("local", func(t *testing.T) {
		run(t, func(t *testing.T) objectstore.Store {
			local, err := objectstore.NewLocal(t.TempDir(), objectstore.LocalOptions{NoSync: true})
			return must[*objectstore.Local](t)(local, err)
		})
	})
	t.Run("s3", func(t *testing.T) {
		server := stacktest.S3(t, stack.S3Options{})
		s3, err := objectstore.NewS3(t.Context(), objectstore.S3Options{
			Bucket: server.Bucket(), Endpoint: server.Endpoint(), AccessKey: stack.S3AccessKey, SecretKey: stack.S3SecretKey,
		})
		must[*objectstore.S3](t)(s3, err)
		t.Cleanup(func() { s3.Close() })
		run(t, func(t *testing.T) objectstore.Store { return objectstore.WithPrefix(s3, rand.Text()) })
	})
}

func create(t *testing.T, s *jobs.Store, n jobs.New) *jobs.Job {
	t.Helper()
	if n.Kind == "" {
		n.Kind = "test"
	}
	if n.Spec == nil {
		n.Spec = map[string]any{"n": 1}
	}
	j, err := s.Create(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func get(t *testing.T, s *jobs.Store, id string) *jobs.Job {
	t.Helper()
	j, err := s.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func list(t *testing.T, s *jobs.Store, q jobs.Query) []string {
	t.Helper()
	var ids []string
	for j, err := range s.List(t.Context(), q) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, j.ID)
	}
	return ids
}

func must[T any](t *testing.T) func(v T, err error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func wantState(t *testing.T, j *jobs.Job, want jobs.State) {
	t.Helper()
	if j.State != want {
		t.Fatalf("job is %s (%s), want %s", j.State, j.StateReason, want)
	}
}

func testLife(t *testing.T, objects objectstore.Store) {
	s := jobs.NewStore(objects, jobs.StoreOptions{})
	ctx := t.Context()
	made := create(t, s, jobs.New{Target: "redis:x", Name: "Friday's payments", Reason: "a bug", CreatedBy: "ann",
		Files: func(ctx context.Context, id string, files objectstore.Store) error {
			_, err := files.Put(ctx, "plan.json", strings.NewReader(id), objectstore.Always)
			return err
		}})
	got := get(t, s, made.ID)
	if a, b := asJSON(t, made), asJSON(t, got); a != b || made.ETag != got.ETag || got.ETag == "" {
		t.Fatalf("created %s (%s), read %s (%s)", a, made.ETag, b, got.ETag)
	}
	wantState(t, got, jobs.Pending)
	if _, err := s.Files(made.ID).Head(ctx, "plan.json"); err != nil {
		t.Error(err)
	}

	paused := must[*jobs.Job](t)(s.Pause(ctx, made.ID, jobs.Change{By: "bob", Reason: "lunch", IfMatch: got.ETag}))
	wantState(t, paused, jobs.Paused)
	if e := paused.Log[len(paused.Log)-1]; e.By != "bob" || e.Message != "paused: lunch" || paused.StateReason != "lunch" {
		t.Errorf("log says %+v, reason %q", e, paused.StateReason)
	}
	if _, err := s.Resume(ctx, made.ID, jobs.Change{IfMatch: got.ETag}); !errors.Is(err, jobs.ErrChanged) || remedy.Of(err) == "" {
		t.Errorf("a change of an old revision: %v", err)
	}
	if _, err := s.Retry(ctx, made.ID, jobs.Change{}); !errors.Is(err, jobs.ErrState) || remedy.Of(err) != "resume it, or cancel it" {
		t.Errorf("retry of a paused job: %v (%s)", err, remedy.Of(err))
	}
	wantState(t, must[*jobs.Job](t)(s.Resume(ctx, made.ID, jobs.Change{IfMatch: paused.ETag})), jobs.Pending)
	wantState(t, must[*jobs.Job](t)(s.Cancel(ctx, made.ID, jobs.Change{})), jobs.Cancelling)
	for _, id := range []string{"", "x", strings.ToLower(made.ID), jobs.NewID(), "../" + made.ID} {
		if _, err := s.Get(ctx, id); !errors.Is(err, jobs.ErrNotFound) {
			t.Errorf("get %q: %v", id, err)
		}
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestCreateRefuses(t *testing.T) {
	objects := newMemory()
	s := jobs.NewStore(objects, jobs.StoreOptions{})
	for name, n := range map[string]jobs.New{
		"no kind":      {Spec: 1},
		"bad kind":     {Kind: "a.b", Spec: 1},
		"no spec":      {Kind: "a"},
		"no JSON":      {Kind: "a", Spec: func() {}},
		"bad JSON":     {Kind: "a", Spec: json.RawMessage("{")},
		"large spec":   {Kind: "a", Spec: strings.Repeat("x", jobs.MaxSpec)},
		"long name":    {Kind: "a", Spec: 1, Name: strings.Repeat("x", 5000)},
		"not UTF-8":    {Kind: "a", Spec: 1, Reason: "\xff"},
		"bad ID":       {Kind: "a", Spec: 1, ID: "x"},
		"failed files": {Kind: "a", Spec: 1, Files: func(context.Context, string, objectstore.Store) error { return errors.New("disk full") }},
	} {
		if j, err := s.Create(t.Context(), n); err == nil {
			t.Errorf("%s: created %+v", name, j)
		}
	}
	if keys := objects.keys(""); len(keys) != 0 {
		t.Errorf("left behind: %v", keys)
	}
}

func testIdempotencyKey(t *testing.T, objects objectstore.Store) {
	s := jobs.NewStore(objects, jobs.StoreOptions{})
	first := create(t, s, jobs.New{Spec: "resolved at 7:00", Request: "yesterday", IdempotencyKey: "k"})
	again := create(t, s, jobs.New{Spec: "resolved at 7:01", Request: "yesterday", IdempotencyKey: "k"})
	if again.ID != first.ID || string(again.Spec) != string(first.Spec) {
		t.Errorf("the repeat made %s with spec %s", again.ID, again.Spec)
	}
	today := jobs.New{Kind: "test", Spec: 1, Request: "today", IdempotencyKey: "k"}
	_, err := s.Create(t.Context(), today)
	_, repeatErr := s.Repeated(t.Context(), today)
	for _, err := range []error{err, repeatErr} {
		if !errors.Is(err, jobs.ErrKeyReused) || remedy.Of(err) == "" {
			t.Errorf("the key with another request: %v", err)
		}
	}
	today.Request, today.IdempotencyKey = "yesterday", "l"
	if _, err := s.Repeated(t.Context(), today); !errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("no such key: %v", err)
	}
	today.IdempotencyKey = "k"
	if j, err := s.Repeated(t.Context(), today); err != nil || j.ID != first.ID {
		t.Errorf("the repeat is %v, %v", j, err)
	}
	id := jobs.NewID()
	if a, b := create(t, s, jobs.New{ID: id}), create(t, s, jobs.New{ID: id}); a.ID != id || b.Nonce != a.Nonce {
		t.Error("the same ID made two jobs")
	}
	if got := list(t, s, jobs.Query{}); len(got) != 2 {
		t.Errorf("there are %d jobs, want 2", len(got))
	}
}

// put writes a document of a job as it is given.
func put(t *testing.T, objects objectstore.Store, key string, j *jobs.Job) {
	t.Helper()
	if _, err := objects.Put(t.Context(), key, strings.NewReader(asJSON(t, j)), objectstore.Always); err != nil {
		t.Fatal(err)
	}
}

// idAt is an ID made at a time.
func idAt(t time.Time, n int) string {
	const digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	ms := t.UnixMilli()
	var id [26]byte
	for i := 9; i >= 0; i-- {
		id[i] = digits[ms%32]
		ms /= 32
	}
	for i := 25; i >= 10; i-- {
		id[i] = digits[n%32]
		n /= 32
	}
	return string(id[:])
}

// testList compares List with a filter over all that is there.
func testList(t *testing.T, objects objectstore.Store) {
	s := jobs.NewStore(objects, jobs.StoreOptions{})
	var all []*jobs.Job // newest first
	start := time.Date(2026, 9, 10, 0, 0, 0, 0, time.UTC)
	for i := range 60 {
		at := start.Add(time.Duration(i) * 30 * time.Hour)
		j := &jobs.Job{Version: 1, ID: idAt(at, i), Kind: []string{"replay", "rebuild"}[i%2], State: jobs.States()[i%7],
			Target: fmt.Sprint("t", i%3), Name: fmt.Sprint("n", i%5), CreatedBy: fmt.Sprint("p", i%4), CreatedAt: at, Nonce: fmt.Sprint(i)}
		all = append([]*jobs.Job{j}, all...)
		active := "jobs/active/" + j.ID + ".json"
		ended := fmt.Sprintf("jobs/ended/%s/%s.%s.%s.json", at.Format("2006-01"), j.ID, j.Kind, j.State)
		switch {
		case !j.State.Ended() || j.State == jobs.Failed && i%2 == 0:
			put(t, objects, active, j)
		case i%10 == 4: // died between the two steps of moving it
			put(t, objects, active, j)
			fallthrough
		default:
			put(t, objects, ended, j)
		}
	}
	queries := []jobs.Query{
		{}, {Limit: 7}, {Kinds: []string{"replay"}}, {States: []jobs.State{jobs.Failed, jobs.Succeeded}}, {States: []jobs.State{jobs.Running}},
		{Target: "t1"}, {Name: "n3", CreatedBy: "p2"}, {Since: all[40].CreatedAt, Until: all[10].CreatedAt}, {After: all[20].ID},
		{After: all[33].ID, Limit: 5, Kinds: []string{"rebuild"}, Target: "t2"}, {Until: start}, {Target: "t0", Limit: 3},
	}
	for _, q := range queries {
		var want []string
		for _, j := range all {
			if (len(q.Kinds) == 0 || slices.Contains(q.Kinds, j.Kind)) && (len(q.States) == 0 || slices.Contains(q.States, j.State)) &&
				(q.Target == "" || q.Target == j.Target) && (q.Name == "" || q.Name == j.Name) && (q.CreatedBy == "" || q.CreatedBy == j.CreatedBy) &&
				(q.Since.IsZero() || !j.CreatedAt.Before(q.Since)) && (q.Until.IsZero() || j.CreatedAt.Before(q.Until)) &&
				(q.After == "" || j.ID < q.After) && (q.Limit == 0 || len(want) < q.Limit) {
				want = append(want, j.ID)
			}
		}
		if got := list(t, s, q); !slices.Equal(got, want) {
			t.Errorf("%+v:\ngot  %v\nwant %v", q, got, want)
		}
	}
}

// TestListPages: a month with more jobs than are held at once is complete, and
// only what is given is read.
func TestListPages(t *testing.T) {
	objects := newMemory()
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	const n = 5500
	for i := range n {
		j := &jobs.Job{Version: 1, ID: idAt(at.Add(time.Duration(i)*time.Second), i), Kind: "replay", State: jobs.Succeeded}
		put(t, objects, fmt.Sprintf("jobs/ended/2026-11/%s.replay.succeeded.json", j.ID), j)
	}
	var gets atomic.Int32
	s := jobs.NewStore(objectstore.WithObserver(objects, func(op string, _ time.Duration, _ int64, _ error) {
		if op == "get" {
			gets.Add(1)
		}
	}), jobs.StoreOptions{})
	got := list(t, s, jobs.Query{})
	if len(got) != n || !slices.IsSortedFunc(got, func(a, b string) int { return strings.Compare(b, a) }) {
		t.Errorf("%d jobs, want %d in order", len(got), n)
	}
	if len(slices.Compact(got)) != n {
		t.Error("a job came twice")
	}
	gets.Store(0)
	if got := list(t, s, jobs.Query{Limit: 5}); len(got) != 5 || gets.Load() != 5 {
		t.Errorf("a page of %d read %d documents", len(got), gets.Load())
	}
	gets.Store(0)
	if got := list(t, s, jobs.Query{States: []jobs.State{jobs.Failed}}); len(got) != 0 || gets.Load() != 0 {
		t.Errorf("a page of %d read %d documents", len(got), gets.Load())
	}
}

func TestDamagedDocuments(t *testing.T) {
	objects := newMemory()
	s := jobs.NewStore(objects, jobs.StoreOptions{})
	good := create(t, s, jobs.New{})
	bad := map[string]string{jobs.NewID(): "{", jobs.NewID(): `{"version":2}`, jobs.NewID(): `{"version":1,"id":"x"}`, jobs.NewID(): strings.Repeat(" ", 5<<20)}
	for id, text := range bad {
		if _, err := objects.Put(t.Context(), "jobs/active/"+id+".json", bytes.NewReader([]byte(text)), objectstore.Always); err != nil {
			t.Fatal(err)
		}
		_, err := s.Get(t.Context(), id)
		if damaged := (*jobs.DocumentError)(nil); !errors.As(err, &damaged) {
			t.Errorf("get of %.20s: %v", text, err)
		}
	}
	seen := map[string]bool{}
	for j, err := range s.List(t.Context(), jobs.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		seen[j.ID] = j.Damaged != nil
	}
	if len(seen) != 5 || seen[good.ID] {
		t.Errorf("the list has %v", seen)
	}
	for id := range bad {
		if !seen[id] {
			t.Errorf("%s is not said to be damaged", id)
		}
	}
	if got := list(t, s, jobs.Query{States: []jobs.State{jobs.Pending}}); !slices.Equal(got, []string{good.ID}) {
		t.Errorf("pending are %v", got)
	}
	if err := s.Sweep(t.Context()); err != nil {
		t.Error(err)
	}
}

func testPrune(t *testing.T, objects objectstore.Store) {
	s := jobs.NewStore(objects, jobs.StoreOptions{})
	at := time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC)
	var ids []string
	for i := range 5 {
		j := &jobs.Job{Version: 1, ID: idAt(at.AddDate(0, 0, i), i), Kind: "test", State: jobs.Succeeded, ClosedAt: at}
		ids = append(ids, j.ID)
		if i == 2 { // it took long
			j.ClosedAt = at.AddDate(0, 0, 3)
		}
		key := fmt.Sprintf("jobs/ended/%s/%s.test.succeeded.json", at.AddDate(0, 0, i).Format("2006-01"), j.ID)
		if i == 0 { // an active one is left, however old
			j.State, j.ClosedAt = jobs.Failed, time.Time{}
			key = "jobs/active/" + j.ID + ".json"
		}
		put(t, objects, key, j)
		if _, err := s.Files(j.ID).Put(t.Context(), "a/b", strings.NewReader("x"), objectstore.Always); err != nil {
			t.Fatal(err)
		}
	}
	create(t, s, jobs.New{IdempotencyKey: "new"})
	n, err := s.Prune(t.Context(), at.AddDate(0, 0, 3))
	if err != nil || n != 1 {
		t.Errorf("pruned %d: %v", n, err)
	}
	for i, id := range ids {
		_, err := s.Get(t.Context(), id)
		_, files := s.Files(id).Head(t.Context(), "a/b")
		if kept := i != 1; kept != (err == nil) || kept != (files == nil) {
			t.Errorf("job %d: %v; its files: %v", i, err, files)
		}
	}
	keys := 0
	for _, err := range objects.List(t.Context(), "jobs/keys/", objectstore.ListOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		keys++
	}
	if keys != 1 {
		t.Errorf("%d keys are left", keys)
	}
}
