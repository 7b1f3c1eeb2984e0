package redisstream_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/redisstream"
)

// leastRights is what the package comment says that a user needs.
const leastRights = "+select +multi +exec +xrange +xinfo|stream +scan " +
	"+xgroup|setid +xgroup|create +eval +evalsha +time +xinfo|groups +xpending +xtrim"

func TestUsersAndDatabases(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{ACL: []string{
		"user default on >root ~* &* +@all",
		"user archiver on >s3cret%/@: resetchannels ~orders* -@all " + leastRights,
		"user reader on >secret ~* -@all +xrange",
	}})
	admin := connect(t, redisstream.Config{URL: server.URL(), Password: "root", DB: 3})
	store(t, admin, "orders", newEvent(event.ID{Ms: 1}, "a", "b"))
	store(t, admin, "secret", newEvent(event.ID{Ms: 1}, "a", "b"))

	u := url.URL{Scheme: "redis", Host: server.Addr(), User: url.UserPassword("archiver", "s3cret%/@:"), Path: "/3"}
	client := connect(t, redisstream.Config{URL: u.String()})
	if got := collect(t, client, "orders", redisstream.ReaderOptions{}); len(got) != 1 {
		t.Fatalf("%d events", len(got))
	}
	for name, err := range client.Discover(t.Context(), []string{"*"}, nil) {
		if err != nil {
			t.Fatal(name, err)
		}
	}
	if err := client.MirrorHead(t.Context(), "orders", "reservoir", event.ID{Ms: 1}, 1); err != nil {
		t.Error(err)
	}
	if _, err := client.Trim(t.Context(), "orders", redisstream.TrimSpec{CommittedHead: event.ID{Ms: 1}, RetainFor: time.Hour}); err != nil {
		t.Error(err)
	}
	denied := func(err error, command string) {
		t.Helper()
		permission, ok := errors.AsType[*redisstream.PermissionError](err)
		if !ok || permission.Command != command || !errors.Is(err, redisstream.ErrPermission) {
			t.Errorf("got %v, want that %q is denied", err, command)
		}
	}
	_, err := client.Info(t.Context(), "secret")
	denied(err, "")
	_, _, err = client.Get(t.Context(), "secret", event.ID{Ms: 1})
	denied(err, "")

	reader, err := redisstream.Connect(t.Context(), redisstream.Config{URL: server.URL(), Username: "reader", Password: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	r, err := reader.Reader(t.Context(), "orders", redisstream.ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	_, err = r.Read(t.Context(), event.ID{}, &event.Batch{})
	denied(err, "multi")
}

func TestConnectSaysWhatIsWrong(t *testing.T) {
	open := stacktest.Redis(t, stack.RedisOptions{})
	closed := stacktest.Redis(t, stack.RedisOptions{Password: "root"})
	unused, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := unused.Close(); err != nil {
		t.Fatal(err)
	}
	info := "# Server\r\nredis_version:6.2.7\r\nrole:master\r\n"
	old := fmt.Sprintf("$%d\r\n%s\r\n", len(info), info)
	for name, test := range map[string]struct {
		cfg  redisstream.Config
		want error
	}{
		"nobody listens":       {redisstream.Config{Addrs: []string{unused.Addr().String()}}, redisstream.ErrUnreachable},
		"no such host":         {redisstream.Config{URL: "redis://no-such-host.invalid"}, redisstream.ErrUnreachable},
		"silent":               {redisstream.Config{Addrs: []string{fakeServer(t, "")}, ReadTimeout: 100 * time.Millisecond}, redisstream.ErrUnreachable},
		"not Redis":            {redisstream.Config{Addrs: []string{fakeServer(t, "HTTP/1.1 400 Bad Request\r\n\r\n")}}, redisstream.ErrProtocol},
		"too old":              {redisstream.Config{Addrs: []string{fakeServer(t, "+OK\r\n"+old)}}, redisstream.ErrTooOld},
		"loading":              {redisstream.Config{Addrs: []string{fakeServer(t, "+OK\r\n-LOADING Redis is loading the dataset in memory\r\n")}}, redisstream.ErrLoading},
		"password wanted":      {redisstream.Config{Addrs: []string{closed.Addr()}}, redisstream.ErrAuth},
		"password wrong":       {redisstream.Config{Addrs: []string{closed.Addr()}, Password: "wrong"}, redisstream.ErrAuth},
		"user unknown":         {redisstream.Config{Addrs: []string{closed.Addr()}, Username: "nobody", Password: "root"}, redisstream.ErrAuth},
		"password not wanted":  {redisstream.Config{Addrs: []string{open.Addr()}, Password: "root"}, redisstream.ErrAuth},
		"TLS to a plain port":  {redisstream.Config{URL: "rediss://" + open.Addr(), DialTimeout: time.Second}, redisstream.ErrUnreachable},
		"no Sentinel":          {redisstream.Config{Mode: redisstream.Sentinel, MasterName: "m", Addrs: []string{unused.Addr().String()}}, redisstream.ErrUnreachable},
		"no cluster node":      {redisstream.Config{Mode: redisstream.Cluster, Addrs: []string{unused.Addr().String()}}, redisstream.ErrUnreachable},
		"a server, no cluster": {redisstream.Config{Mode: redisstream.Cluster, Addrs: []string{open.Addr()}}, redisstream.ErrNotCluster},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := redisstream.Connect(t.Context(), test.cfg)
			if !errors.Is(err, test.want) {
				t.Fatalf("got %v, want %v", err, test.want)
			}
		})
	}
}

func TestTLS(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{TLS: true, Password: "root"})
	client := connect(t, redisstream.Config{URL: server.URL(), TLS: redisstream.TLS{CAFile: server.CAFile()}})
	store(t, client, "s", newEvent(event.ID{Ms: 1}, "a", filler(3<<20)))
	if got := collect(t, client, "s", redisstream.ReaderOptions{}); len(got) != 1 {
		t.Fatalf("%d events", len(got))
	}
	if err := client.MirrorHead(t.Context(), "s", "g", event.ID{Ms: 1}, 1); err != nil {
		t.Fatal(err)
	}
	connect(t, redisstream.Config{URL: server.URL(), TLS: redisstream.TLS{SkipVerify: true}})
	_, err := redisstream.Connect(t.Context(), redisstream.Config{URL: server.URL()})
	if !errors.Is(err, redisstream.ErrUnreachable) {
		t.Fatalf("an unknown authority: %v", err)
	}
	_, err = redisstream.Connect(t.Context(), redisstream.Config{URL: server.URL(), TLS: redisstream.TLS{CAFile: "/no/such/file"}})
	if err == nil || errors.Is(err, redisstream.ErrUnreachable) {
		t.Fatalf("no such file: %v", err)
	}
}

func TestServer(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{AOF: true, Args: []string{"--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru"}})
	client := connect(t, redisstream.Config{URL: server.URL()})
	s, err := client.Server(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.Role != "master" || s.Mode != "standalone" || !s.AOF || s.RDB != "" || s.MaxMemory != 50<<20 || s.Policy != "allkeys-lru" ||
		s.RunID == "" || s.ReplicationID == "" || s.Version == "" {
		t.Errorf("got %+v", s)
	}
	if skew := time.Since(s.Time).Abs(); skew > time.Minute {
		t.Errorf("clock skew of %s on one machine", skew)
	}
}

func TestCancelInterruptsARead(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{})
	client := connect(t, redisstream.Config{URL: server.URL()})
	store(t, client, "s", newEvent(event.ID{Ms: 1}, "a", "b"))
	r, err := client.Reader(t.Context(), "s", redisstream.ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	var b event.Batch
	began := time.Now()
	if _, err := r.Read(ctx, event.ID{}, &b); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %s", took)
	}
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(t.Context(), event.ID{}, &b); err != nil || b.Len() != 1 {
		t.Errorf("afterwards: %d events, %v", b.Len(), err)
	}
}

func TestSilentServer(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{})
	client := connect(t, redisstream.Config{URL: server.URL(), ReadTimeout: 200 * time.Millisecond})
	store(t, client, "s", newEvent(event.ID{Ms: 1}, "a", "b"))
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	_, err := client.Info(t.Context(), "s")
	if resumeErr := server.Resume(); resumeErr != nil {
		t.Fatal(resumeErr)
	}
	if !errors.Is(err, redisstream.ErrUnreachable) {
		t.Errorf("got %v", err)
	}
}

// After a restart idle connections are dead, which nobody notices; a Reader in
// the middle of a stream goes on, with another Epoch.
func TestRestart(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{AOF: true})
	client := connect(t, redisstream.Config{URL: server.URL()})
	fill(t, client, "s", 500)
	r, err := client.Reader(t.Context(), "s", redisstream.ReaderOptions{MaxCount: 100})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var b event.Batch
	first, err := r.Read(t.Context(), event.ID{}, &b)
	if err != nil {
		t.Fatal(err)
	}
	second, err := r.Read(t.Context(), b.ID(b.Len()-1), &b)
	if err != nil || second.Epoch != first.Epoch {
		t.Fatalf("epochs %d and %d, %v", first.Epoch, second.Epoch, err)
	}
	after := b.ID(b.Len() - 1)
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if info, err := client.Info(t.Context(), "s"); err != nil || info.Length != 500 {
		t.Fatalf("%+v, %v", info, err)
	}
	third := second
	eventually(t, func() (err error) {
		third, err = r.Read(t.Context(), after, &b)
		if err == nil && third.Epoch == second.Epoch { // it was on its way before the restart
			after = b.ID(b.Len() - 1)
			third, err = r.Read(t.Context(), after, &b)
		}
		return err
	})
	if third.Epoch == second.Epoch || !after.Less(b.ID(0)) || third.Info.EntriesAdded != 500 {
		t.Fatalf("%+v after %+v", third, second)
	}
}
