package redisstream_test

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/redisstream"
)

// badNetwork forwards connections to a server, in pieces of random size, and
// cuts each after a random number of bytes that came back.
func badNetwork(t *testing.T, target string, cutAfter int) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", target)
			if err != nil {
				t.Error(err)
				return
			}
			hangUp := sync.OnceFunc(func() {
				if err := errors.Join(near.Close(), far.Close()); err != nil {
					t.Error(err)
				}
			})
			all.Go(func() {
				defer hangUp()
				for request := make([]byte, 4096); ; {
					n, err := near.Read(request)
					if err != nil {
						return
					}
					if _, err := far.Write(request[:n]); err != nil {
						return
					}
				}
			})
			all.Go(func() {
				defer hangUp()
				rng := rand.New(rand.NewPCG(1, uint64(near.RemoteAddr().(*net.TCPAddr).Port)))
				for left := 1 + rng.IntN(cutAfter); left > 0; {
					n, err := io.CopyN(near, far, int64(1+rng.IntN(min(left, 5000))))
					if err != nil {
						return
					}
					left -= int(n)
				}
			})
		}
	})
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		all.Wait()
	})
	return l.Addr().String()
}

// connectAtLast connects over a bad network, which may cut the first attempts.
func connectAtLast(t *testing.T, addr string) (client *redisstream.Client) {
	t.Helper()
	eventually(t, func() (err error) {
		client, err = redisstream.Connect(t.Context(), redisstream.Config{Addrs: []string{addr}})
		return err
	})
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	return client
}

// Connections that break at any byte cost time, but no entry, and none twice.
func TestConnectionsThatBreak(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{})
	fill(t, connect(t, redisstream.Config{URL: server.URL()}), "s", 5000)
	addr := badNetwork(t, server.Addr(), 400_000)
	client := connectAtLast(t, addr)
	var r *redisstream.Reader
	eventually(t, func() (err error) {
		r, err = client.Reader(t.Context(), "s", redisstream.ReaderOptions{})
		return err
	})
	defer r.Close()
	var ledger redisstream.Ledger
	var b event.Batch
	broken := 0
	for {
		snap, err := r.Read(t.Context(), ledger.Position, &b)
		if errors.Is(err, redisstream.ErrUnreachable) {
			if broken++; broken > 1000 {
				t.Fatal("no progress")
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		before, after, err := ledger.Observe(snap, &b)
		if err != nil || before != nil || after != nil {
			t.Fatal(before, after, err)
		}
		if snap.AtEnd {
			break
		}
	}
	if ledger.Added != 5000 {
		t.Fatalf("%d entries", ledger.Added)
	}
	if broken == 0 {
		t.Fatal("no connection broke: the test shows nothing")
	}
	t.Logf("%d connections broke", broken)
}

// Adding again, after each break, from before where the stream ends by now ends
// with each entry there once.
func TestWritesThatBreak(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{})
	direct := connect(t, redisstream.Config{URL: server.URL()})
	addr := badNetwork(t, server.Addr(), 30_000)
	var b event.Batch
	var want []*event.Event
	for i := range 5000 {
		e := newEvent(event.ID{Ms: uint64(i) + 1}, "v", filler(300))
		want = append(want, e)
		b.Append(e)
	}
	client := connectAtLast(t, addr)
	broken := 0
	for {
		info, err := direct.Info(t.Context(), "s")
		if err != nil && !errors.Is(err, redisstream.ErrNoStream) {
			t.Fatal(err)
		}
		w, err := client.Writer(t.Context(), "s")
		if err == nil {
			_, err = w.Add(t.Context(), &b, max(0, int(info.Length)-100), b.Len(), true)
			w.Close()
		}
		if err == nil || errors.Is(err, redisstream.ErrIDTooLow) {
			break
		}
		if !errors.Is(err, redisstream.ErrUnreachable) {
			t.Fatal(err)
		}
		if broken++; broken > 1000 {
			t.Fatal("no progress")
		}
	}
	if broken == 0 {
		t.Fatal("no connection broke: the test shows nothing")
	}
	sameEvents(t, collect(t, direct, "s", redisstream.ReaderOptions{}), want)
}
