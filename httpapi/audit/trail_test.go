package audit_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/httpapi/audit"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/objectstore/faulty"
)

func TestTrail(t *testing.T) {
	ctx := t.Context()
	objects, err := objectstore.NewLocal(t.TempDir(), objectstore.LocalOptions{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 12, 31, 22, 0, 0, 0, time.UTC)
	trail := audit.New(objects, func() time.Time { return now })
	var all []*audit.Entry
	for i := range 6 { // over the end of a year
		e, err := trail.Begin(ctx, audit.Entry{Who: fmt.Sprintf("token:%d", i%2), Operation: "pauseJob", Path: "/v1\xff" + strings.Repeat("x", 9000)})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
		now = now.Add(time.Hour)
	}
	if err := trail.End(ctx, all[1], audit.Refused, 409, "wrong state"); err != nil {
		t.Fatal(err)
	}
	slices.Reverse(all)
	read := func(q audit.Query) (got []*audit.Entry) {
		for e, err := range trail.List(ctx, q) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, e)
		}
		return got
	}
	same := func(name string, got, want []*audit.Entry) {
		t.Helper()
		if !slices.EqualFunc(got, want, func(a, b *audit.Entry) bool { return a.ID == b.ID }) {
			t.Errorf("%s: %d entries, want %d", name, len(got), len(want))
		}
	}
	whole := read(audit.Query{})
	same("all", whole, all)
	if e := whole[4]; e.Result != audit.Refused || e.Status != 409 || e.Problem != "wrong state" || e.EndedAt.IsZero() {
		t.Errorf("ended: %+v", e)
	}
	if e := whole[0]; e.Result != audit.Begun || len(e.Path) > 2100 {
		t.Errorf("begun: %v, a path of %d bytes", e.Result, len(e.Path))
	}
	for i, e := range all {
		same("after", read(audit.Query{After: e.ID}), all[i+1:])
		same("until", read(audit.Query{Until: e.Time}), all[i+1:])
		same("since", read(audit.Query{Since: e.Time}), all[:i+1])
	}
	same("who", read(audit.Query{Who: "token:1"}), []*audit.Entry{all[0], all[2], all[4]})
	same("operation", read(audit.Query{Operation: "resumeJob"}), nil)
}

// What cannot be written down is not begun.
func TestTrailOverAFaultyStore(t *testing.T) {
	objects, err := objectstore.NewLocal(t.TempDir(), objectstore.LocalOptions{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	for _, after := range []bool{false, true} {
		trail := audit.New(faulty.New(objects, faulty.FailAt(1, after, broken)), nil)
		if _, err := trail.Begin(t.Context(), audit.Entry{}); !errors.Is(err, broken) {
			t.Errorf("begin: %v", err)
		}
	}
	// A write that was sent again finds itself there.
	trail := audit.New(faulty.New(objects, faulty.FailAt(1, true, objectstore.ErrPrecondition)), nil)
	if _, err := trail.Begin(t.Context(), audit.Entry{}); err != nil {
		t.Errorf("begin: %v", err)
	}
}
