package sink_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/redisstream"
	"github.com/reservoirhq/reservoir/replay"
	"github.com/reservoirhq/reservoir/replay/sink"
	"github.com/reservoirhq/reservoir/replay/sinktest"
)

// TestRedisStaleAfterClean: a worker that slept through the whole rest of the
// replay, cleaning up and all, finds nothing to go on with.
func TestRedisStaleAfterClean(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{})
	client := connectRedis(t, redisstream.Config{URL: server.URL()})
	kind := sink.NewRedis(sink.RedisOptions{Default: client})
	for _, opened := range []bool{true, false} {
		command(t, server.Addr(), "FLUSHALL")
		s := newStory(100, "a")
		o := openingOf(t, 2, map[string]any{"stream": "{stream}:copy"}, s.streams...)
		if opened {
			if err := s.play(t, openRedis(t, kind, o), 10); err != nil {
				t.Fatal(err)
			}
		}
		if err := kind.Clean(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		stale := o
		stale.Epoch = 1
		if _, err := kind.Open(t.Context(), stale); !errors.Is(err, replay.ErrFenced) {
			t.Errorf("opened %v: the stale worker can write again: %v", opened, err)
		}
	}
}

// TestFileRejectsUnwritten: the mark is not beyond an event that was rejected.
func TestFileRejectsUnwritten(t *testing.T) {
	kind, path := sink.NewFile(sink.FileConfig{Anywhere: true}), filepath.Join(t.TempDir(), "out.jsonl")
	for _, format := range []string{"cloudevents", "view"} {
		raw := options(t, kind, path+format, "format", format)
		s := must[replay.Sink](t)(kind.Open(t.Context(), sinktest.Opening(raw, "job", 1)))
		id := event.ID{Ms: 300_000_000_000_000, Seq: 1}
		b := &replay.Batch{}
		b.Append(&event.Event{ID: id, Fields: []event.Field{{Name: []byte("a"), Value: []byte("b")}}})
		b.Origins = append(b.Origins, replay.Origin{Position: replay.Position{Ms: id.Ms, Incarnation: 1, ID: id}, Stream: "s"})
		err := s.Write(t.Context(), b)
		s.Close()
		t.Logf("%s: %v", format, err)
		var rejected *replay.RejectedError
		if !errors.As(err, &rejected) {
			continue
		}
		s = must[replay.Sink](t)(kind.Open(t.Context(), sinktest.Opening(raw, "job", 2)))
		if p := must[replay.Position](t)(s.Position(t.Context())); !p.IsZero() || !rejected.Unwritten {
			t.Errorf("%s: after a crash the replay goes on after %s, and the rejected event is lost", format, p)
		}
		s.Close()
	}
}

// TestHTTPHidesSecretsOfURL: the target's key is kept with the job.
func TestHTTPHidesSecretsOfURL(t *testing.T) {
	server := newReceiver(t, "raw", "event")
	kind := sink.NewHTTP(sink.Config{AllowHosts: sink.Hosts{"*"}, Environ: func(string) (string, bool) { return "hunter2", true }})
	raw := options(t, kind, server.URL+"/hooks/${RESERVOIR_SINK_TOKEN}")
	target, err := kind.Check(t.Context(), sinktest.Opening(raw, "", 0))
	if err != nil {
		t.Fatal(err)
	}
	if text := must[[]byte](t)(json.Marshal(target)); strings.Contains(string(text), "hunter2") {
		t.Errorf("the target shows the secret: %s", text)
	}
}

// TestHTTPWarnsOfSecretsInTheQuery: what is written straight into the URL is warned
// about, and shown nowhere.
func TestHTTPWarnsOfSecretsInTheQuery(t *testing.T) {
	server := newReceiver(t, "raw", "event")
	kind := sink.NewHTTP(sink.Config{AllowHosts: sink.Hosts{"*"}, Environ: func(string) (string, bool) { return "other", true }})
	for query, warned := range map[string]string{
		"?token=hunter2":                           "token",
		"?a=b&X-Api-Key=hunter2":                   "X-Api-Key",
		"?id=hunter2hunter2hunter2":                "id",
		"?source=replay":                           "",
		"?token=${RESERVOIR_SINK_TOKEN}&code=#abc": "",
	} {
		target, err := kind.Check(t.Context(), sinktest.Opening(options(t, kind, server.URL+"/hooks"+query), "", 0))
		if err != nil {
			t.Fatal(err)
		}
		text := string(must[[]byte](t)(json.Marshal(target)))
		if strings.Contains(text, "hunter2") {
			t.Errorf("%s: it is shown: %s", query, text)
		}
		if got := strings.Contains(text, warned+" in the query of url is kept"); got != (warned != "") {
			t.Errorf("%s: the target is %s", query, text)
		}
	}
	for _, url := range []string{"http://bob:hunter2@127.0.0.1/", "ftp://bob:hunter2@127.0.0.1/?token=hunter2", "http:///?token=hunter2", "http://[::1?token=hunter2"} {
		_, err := kind.Check(t.Context(), sinktest.Opening(options(t, kind, url), "", 0))
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// TestRedisRefusesPasswords: a password in a URL would be kept with the job; one in a
// variable is shown nowhere.
func TestRedisRefusesPasswords(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{})
	command(t, server.Addr(), "ACL", "SETUSER", "bob", "on", ">hunter2", "~*", "+@all")
	kind := sink.NewRedis(sink.RedisOptions{
		AllowHosts: sink.Hosts{"*"},
		Environ:    func(name string) (string, bool) { return "hunter2", name == "RESERVOIR_SINK_PASSWORD" },
	})
	check := func(password string) (string, error) {
		url := strings.Replace(server.URL(), "redis://", "redis://bob:"+password+"@", 1)
		target, err := kind.Check(t.Context(), openingOf(t, 0, map[string]any{"url": url, "stream": "x"}, "a"))
		return string(must[[]byte](t)(json.Marshal(target))), err
	}
	if _, err := check("hunter2"); err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(remedy.Of(err), "${RESERVOIR_SINK_") {
		t.Errorf("in the clear: %v (%s)", err, remedy.Of(err))
	}
	if text, err := check("${RESERVOIR_SINK_PASSWORD}"); err != nil || strings.Contains(text, "hunter2") {
		t.Errorf("in a variable: %s, %v", text, err)
	}
}

// TestHTTPTargetGone: a target that has taken events and then has no such address
// any more is down; its events are not.
func TestHTTPTargetGone(t *testing.T) {
	server := newReceiver(t, "raw", "event")
	var gone atomic.Bool
	server.misbehave = func(w http.ResponseWriter, _ *http.Request, _ string) (answered, took bool) {
		if gone.Load() {
			w.WriteHeader(http.StatusNotFound)
			return true, false
		}
		return false, true
	}
	kind, all := sink.NewHTTP(sink.Config{AllowHosts: sink.Hosts{"*"}}), sinktest.Events()
	o := sinktest.Opening(options(t, kind, server.URL, "format", "raw", "key", "none"), "job", 1)
	o.Retry = replay.RetryPolicy{Attempts: 2, Initial: time.Millisecond, Max: 10 * time.Millisecond}
	s := must[replay.Sink](t)(kind.Open(t.Context(), o))
	defer s.Close()
	if err := s.Write(t.Context(), sinktest.BatchOf(all[:5])); err != nil {
		t.Fatal(err)
	}
	gone.Store(true)
	err := s.Write(t.Context(), sinktest.BatchOf(all[5:]))
	if !errors.Is(err, replay.ErrUnavailable) {
		t.Errorf("want the target to be unavailable, got %v", err)
	}
}

// TestBackPressureNeedsAStream: bounds that a sink cannot look at are refused.
func TestBackPressureNeedsAStream(t *testing.T) {
	server := newReceiver(t, "raw", "event")
	h, f := sink.NewHTTP(sink.Config{AllowHosts: sink.Hosts{"*"}}), sink.NewFile(sink.FileConfig{Anywhere: true})
	for kind, raw := range map[replay.SinkKind]json.RawMessage{
		h: options(t, h, server.URL),
		f: options(t, f, filepath.Join(t.TempDir(), "out")),
	} {
		o := sinktest.Opening(raw, "", 0)
		o.BackPressure = replay.BackPressure{MaxLength: 5}
		if _, err := kind.Check(t.Context(), o); err == nil {
			t.Errorf("%s: the bound is ignored", kind.Type())
		}
	}
}
