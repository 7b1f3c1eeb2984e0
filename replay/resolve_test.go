package replay_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/replay"
)

// shop fills a shelf: orders 5 to 3 hours ago, payments in two incarnations.
func shop(t testing.TB) *shelf {
	s := newShelf(t, t.TempDir())
	s.put("shop:orders", made(at(5*time.Hour), "OrderPlaced", "a", 1), made(at(4*time.Hour+50*time.Minute), "OrderPaid", "b", 2))
	s.put("shop:orders", made(at(3*time.Hour), "OrderPaid", "a", 3))
	s.put("shop:payments", made(at(4*time.Hour), "Paid", "a", 1))
	s.seal("shop:payments")
	s.put("shop:payments", made(at(6*time.Hour), "Paid", "b", 2), made(at(6*time.Hour-time.Minute), "Paid", "b", 3))
	return s
}

func TestResolve(t *testing.T) {
	s := shop(t)
	spec := paper("shop:*")
	spec.From = "5h ago"
	f, err := s.svc.Resolve(t.Context(), &spec)
	if err != nil {
		t.Fatal(err)
	}
	want := []replay.StreamRange{
		{Stream: "shop:orders", Range: event.Range{From: at(5 * time.Hour)}, Incarnation: 1, Head: at(3 * time.Hour), EntriesAdded: 3},
		{Stream: "shop:payments", Range: event.Range{From: at(5 * time.Hour)}, Incarnation: 2, Head: at(6*time.Hour - time.Minute), EntriesAdded: 2},
	}
	if !slices.Equal(f.Streams, want) || f.Events != 4 || f.Bytes == 0 || !f.ResolvedAt.Equal(noon) || len(f.Warnings) > 0 {
		t.Errorf("resolved %+v", f)
	}
	// What is archived afterwards does not belong to it.
	s.put("shop:orders", made(at(time.Hour), "OrderPaid", "a", 3))
	again, err := s.svc.Resolve(t.Context(), &spec)
	if err != nil || again.Streams[0].Head != at(time.Hour) || again.Events != 5 {
		t.Errorf("resolved again %+v, %v", again, err)
	}
}

func TestResolveRefuses(t *testing.T) {
	s := shop(t)
	for _, c := range []struct {
		name   string
		change func(*replay.Spec)
		is     error
		want   string
	}{
		{"a swapped letter", func(s *replay.Spec) { s.Streams = []string{"shop:oredrs"} }, replay.ErrNoStream, `Did you mean "shop:orders"?`},
		{"another stream", func(s *replay.Spec) { s.Streams = []string{"completely-different"} }, replay.ErrNoStream, "shop:orders, shop:payments."},
		{"one of two", func(s *replay.Spec) { s.Streams = []string{"*", "stock:*"} }, replay.ErrNoStream, `"stock:*"`},
		{"beyond the heads", func(s *replay.Spec) { s.From = "1h ago" }, replay.ErrNothing, "the archive holds"},
		{"before the first", func(s *replay.Spec) { s.To = "2020-01-01" }, replay.ErrNothing, "2026-11-21T07:00:00Z"},
		{"dead letters of no replay", func(s *replay.Spec) { s.Streams, s.DeadLettersOf = nil, "01KAZ3Q4J5M6N7P8Q9R0S1T2V3" }, jobs.ErrNotFound, "replay list"},
	} {
		t.Run(c.name, func(t *testing.T) {
			spec := paper()
			c.change(&spec)
			_, err := s.svc.Create(t.Context(), spec, replay.CreateOptions{})
			if !errors.Is(err, c.is) || !strings.Contains(err.Error()+" "+remedy.Of(err), c.want) || remedy.Of(err) == "" {
				t.Errorf("error %v, remedy %q", err, remedy.Of(err))
			}
			s.wantNoJobs(t)
		})
	}
	if len(s.sink.checked) > 0 {
		t.Error("the target was looked at")
	}
}

// wantNoJobs fails the test when anything of a job is on the store.
func (s *shelf) wantNoJobs(t *testing.T) {
	t.Helper()
	for info, err := range s.store.List(t.Context(), "jobs/", objectstore.ListOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		t.Errorf("there is %s", info.Key)
	}
}

func TestResolveWarns(t *testing.T) {
	s := shop(t)
	spec := paper()
	spec.From = "210m ago"
	f, err := s.svc.Resolve(t.Context(), &spec)
	if err != nil || len(f.Warnings) != 1 || !strings.Contains(f.Warnings[0], `"shop:payments" has nothing between`) {
		t.Errorf("%+v, %v", f, err)
	}
	spec = paper()
	spec.Filter.Types = []string{"OrderPaid"}
	f, err = s.svc.Resolve(t.Context(), &spec)
	if err != nil || len(f.Warnings) != 1 || !strings.Contains(f.Warnings[0], "none of them passes the filter") {
		t.Errorf("%+v, %v", f, err)
	}
}

func TestCreate(t *testing.T) {
	s := shop(t)
	spec := paper("shop:orders")
	s.sink.refuse = errors.New("it rains")
	if _, err := s.svc.Create(t.Context(), spec, replay.CreateOptions{}); !errors.Is(err, s.sink.refuse) {
		t.Fatalf("error %v", err)
	}
	s.wantNoJobs(t)
	s.sink.refuse = nil
	opts := replay.CreateOptions{Name: "again", Reason: "bug 7", By: "ann", IdempotencyKey: "k", Paused: true}
	job, err := s.svc.Create(t.Context(), spec, opts)
	if err != nil {
		t.Fatal(err)
	}
	if job.Kind != replay.Kind || job.Target != "paper:a" || job.Name != "again" || job.Reason != "bug 7" || job.CreatedBy != "ann" || job.State != jobs.Paused {
		t.Errorf("job %+v", job)
	}
	var kept replay.Spec
	if err := json.Unmarshal(job.Spec, &kept); err != nil || !slices.Equal(kept.Streams, spec.Streams) {
		t.Errorf("spec %s, %v", job.Spec, err)
	}
	if o := s.sink.checked[1]; !o.Whole || len(o.Streams) != 1 || o.Replay != "" {
		t.Errorf("opening %+v", o)
	}
	frozen, err := s.svc.Plan(t.Context(), job.ID)
	if err != nil || frozen.Events != 3 {
		t.Errorf("plan %+v, %v", frozen, err)
	}
	s.put("shop:orders", made(at(time.Hour), "OrderPaid", "a", 3))
	s.sink.refuse = errors.New("the target is not as it was")
	same, err := s.svc.Create(t.Context(), spec, opts)
	if err != nil || same.ID != job.ID {
		t.Errorf("again: %v, %v", same, err)
	}
	s.sink.refuse = nil
	if again, err := s.svc.Plan(t.Context(), job.ID); err != nil || again.Events != frozen.Events {
		t.Errorf("the plan changed: %+v, %v", again, err)
	}
	spec.Limit = 1
	if _, err := s.svc.Create(t.Context(), spec, opts); !errors.Is(err, jobs.ErrKeyReused) {
		t.Errorf("another request: %v", err)
	}
	if _, err := s.svc.Create(t.Context(), spec, replay.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if o := s.sink.checked[len(s.sink.checked)-1]; o.Whole {
		t.Error("a limit leaves it whole")
	}
}

// TestFollowRefusesStreamOrder: the second stream would never come.
func TestFollowRefusesStreamOrder(t *testing.T) {
	s := shop(t)
	_, err := s.svc.Resolve(context.Background(), &replay.Spec{Streams: []string{"*"}, Order: replay.OrderStream, Follow: true, Sink: replay.SinkSpec{Type: "paper"}})
	if !errors.Is(err, replay.ErrInvalid) {
		t.Errorf("error %v", err)
	}
}
