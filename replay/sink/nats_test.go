package sink_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/replay"
	"github.com/reservoirhq/reservoir/replay/sink"
	"github.com/reservoirhq/reservoir/replay/sinktest"
)

// natsServer starts a NATS server with JetStream, in this process.
func natsServer(t testing.TB, port int, dir string) *server.Server {
	t.Helper()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: dir, MaxPayload: 1 << 16, NoLog: true, NoSigs: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the NATS server does not start")
	}
	return s
}

func jetStream(t testing.TB, s *server.Server) nats.JetStreamContext {
	t.Helper()
	conn, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return must[nats.JetStreamContext](t)(conn.JetStream())
}

// natsMessages reads a stream from its beginning.
func natsMessages(t testing.TB, js nats.JetStreamContext, stream string) (all []*nats.RawStreamMsg) {
	t.Helper()
	info, err := js.StreamInfo(stream)
	if err != nil {
		t.Fatal(err)
	}
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq && info.State.Msgs > 0; seq++ {
		all = append(all, must[*nats.RawStreamMsg](t)(js.GetMsg(stream, seq)))
	}
	return all
}

func newNATSKind() replay.SinkKind {
	return sink.NewNATS(sink.Config{AllowHosts: sink.Hosts{"127.0.0.1"}})
}

func TestNATSConformance(t *testing.T) {
	s := natsServer(t, server.RANDOM_PORT, t.TempDir())
	js, kind, n := jetStream(t, s), newNATSKind(), 0
	sinktest.Run(t, sinktest.Harness{Kind: kind, Target: func(t testing.TB) sinktest.Target {
		n++
		name := fmt.Sprintf("target%d", n)
		must[*nats.StreamInfo](t)(js.AddStream(&nats.StreamConfig{Name: name, Subjects: []string{name + ".>"}}))
		return sinktest.Target{
			Options: options(t, kind, s.ClientURL()+"/"+name+".{stream}"),
			Read: func(t testing.TB) (ids []string) {
				for _, m := range natsMessages(t, js, name) {
					ids = append(ids, m.Header.Get("event_id"))
				}
				return ids
			},
		}
	}})
}

func TestNATSMessage(t *testing.T) {
	s := natsServer(t, server.RANDOM_PORT, t.TempDir())
	js, kind, all := jetStream(t, s), newNATSKind(), sinktest.Events()
	must[*nats.StreamInfo](t)(js.AddStream(&nats.StreamConfig{Name: "target", Subjects: []string{"in.>"}}))
	open := func() replay.Sink {
		o := sinktest.Opening(options(t, kind, s.ClientURL()+"/in.{stream}", "format", "payload"), "job-1", 1)
		out := must[replay.Sink](t)(kind.Open(t.Context(), o))
		t.Cleanup(func() { out.Close() })
		return out
	}
	out := open()
	part := slices.Clone(all[:20])
	part[7].Payload = `"` + strings.Repeat("x", 1<<16) + `"` // more than the server takes
	if got := rejections(t, out.Write(t.Context(), sinktest.BatchOf(part))); !slices.Equal(got, []int{7}) {
		t.Errorf("rejected %v, want the one that is too large", got)
	}
	// A repeat after a crash is dropped by JetStream.
	if err := open().Write(t.Context(), sinktest.BatchOf(slices.Delete(slices.Clone(part), 7, 8))); err != nil {
		t.Fatal(err)
	}
	got := natsMessages(t, js, "target")
	if len(got) != 19 {
		t.Errorf("the stream has %d messages", len(got))
	}
	i := slices.IndexFunc(got, func(m *nats.RawStreamMsg) bool { return m.Header.Get("event_id") == "e0-3" })
	m := got[i]
	if m.Subject != "in.{sinktest}:0" || string(m.Data) != `{"n":3}` {
		t.Errorf("%s: %s", m.Subject, m.Data)
	}
	for name, want := range map[string]string{
		"Nats-Msg-Id": "e0-3", "idempotency-key": "e0-3", "event_type": "Tested", "aggregate_id": "a0-3", "reservoir_replay": "job-1",
		"reservoir_stream": "{sinktest}:0", "reservoir_id": "1700000000001-0", "reservoir_incarnation": "1",
	} {
		if v := m.Header.Get(name); v != want {
			t.Errorf("%s: %q, want %q", name, v, want)
		}
	}
}

// A server that goes away makes the target unavailable; nothing is rejected, and
// the same batch arrives once it is back.
func TestNATSServerRestarts(t *testing.T) {
	dir := t.TempDir()
	s := natsServer(t, server.RANDOM_PORT, dir)
	js, kind, all := jetStream(t, s), newNATSKind(), sinktest.Events()
	must[*nats.StreamInfo](t)(js.AddStream(&nats.StreamConfig{Name: "target", Subjects: []string{"in"}}))
	o := sinktest.Opening(options(t, kind, s.ClientURL()+"/in", "timeout", "300ms"), "job-1", 1)
	out := must[replay.Sink](t)(kind.Open(t.Context(), o))
	defer out.Close()
	if err := out.Write(t.Context(), sinktest.BatchOf(all[:10])); err != nil {
		t.Fatal(err)
	}
	_, port, _ := strings.Cut(strings.TrimPrefix(s.ClientURL(), "nats://"), ":")
	var number int
	must[int](t)(fmt.Sscan(port, &number))
	s.Shutdown()
	s.WaitForShutdown()
	if err := out.Write(t.Context(), sinktest.BatchOf(all[10:20])); !errors.Is(err, replay.ErrUnavailable) {
		t.Errorf("write to a server that is gone: %v", err)
	}
	if _, err := kind.Open(t.Context(), o); !errors.Is(err, replay.ErrUnavailable) {
		t.Errorf("open without a server: %v", err)
	}
	back := natsServer(t, number, dir)
	again := must[replay.Sink](t)(kind.Open(t.Context(), o))
	defer again.Close()
	if err := again.Write(t.Context(), sinktest.BatchOf(all[10:20])); err != nil {
		t.Fatal(err)
	}
	if got := len(natsMessages(t, jetStream(t, back), "target")); got != 20 {
		t.Errorf("the stream has %d messages", got)
	}
}

func TestNATSWithoutStream(t *testing.T) {
	s := natsServer(t, server.RANDOM_PORT, t.TempDir())
	kind := newNATSKind()
	o := sinktest.Opening(options(t, kind, s.ClientURL()+"/nowhere"), "", 1)
	if _, err := kind.Check(t.Context(), o); err == nil || !strings.Contains(remedy.Of(err), "nats stream add") {
		t.Errorf("check: %v", err)
	}
	out := must[replay.Sink](t)(kind.Open(t.Context(), o))
	defer out.Close()
	err := out.Write(t.Context(), sinktest.BatchOf(sinktest.Events()[:30]))
	if !errors.Is(err, replay.ErrUnavailable) || remedy.Of(err) == "" {
		t.Errorf("write: %v", err)
	}
	far := sinktest.Opening(options(t, kind, "nats://broker.example/x"), "", 1)
	if _, err := kind.Check(t.Context(), far); !errors.Is(err, sink.ErrHostNotAllowed) {
		t.Errorf("check of another host: %v", err)
	}
}
