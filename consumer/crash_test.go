package consumer_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/consumer"
)

// childVariable holds the order for a process that is the test's own program again.
const childVariable = "RESERVOIR_CONSUMER_CHILD"

// order is what a child does: it books deposits until it is told to end.
type order struct {
	Kind, Address, RedisURL string
	Name                    string
	Streams                 []string
	// Freeze stops the whole process (SIGSTOP) within the handler of the event with
	// this ID, when its money has been booked.
	Freeze string
}

const (
	childLease = 500 * time.Millisecond
	freezing   = "freezing"
	taken      = "taken over"
)

// child is the main function of such a process.
func child() error {
	var o order
	if err := json.Unmarshal([]byte(os.Getenv(childVariable)), &o); err != nil {
		return err
	}
	go func() { // it does not outlive the test
		if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	b, err := openBank(ctx, o.Kind, o.Address, o.RedisURL)
	if err != nil {
		return err
	}
	c, err := b.consumer(settings{
		name: o.Name, streams: o.Streams, batch: 20, dedup: time.Hour, lease: childLease,
		logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		after: func(_ context.Context, r *consumer.Record) error {
			if r.ID.String() == o.Freeze {
				fmt.Fprintln(os.Stderr, freezing)
				return syscall.Kill(os.Getpid(), syscall.SIGSTOP)
			}
			return nil
		},
	})
	if err != nil {
		return err
	}
	if err := c.Run(ctx); err != nil {
		return err
	}
	return b.close()
}

// process is a running child.
type process struct {
	cmd *exec.Cmd
	log string
	err error
	end chan struct{}
}

func spawn(t *testing.T, o order) *process {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.Command(program), log: filepath.Join(t.TempDir(), "log"), end: make(chan struct{})}
	log, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p.cmd.Env = append(os.Environ(), childVariable+"="+string(text))
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if _, err := p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.end)
	}()
	t.Cleanup(func() { p.kill(t) })
	return p
}

func (p *process) kill(t *testing.T) {
	t.Helper()
	select {
	case <-p.end:
		return
	default:
	}
	if err := p.cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	<-p.end
}

func (p *process) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

func (p *process) output(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(p.log)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestKill9 kills processes of a consumer again and again at random moments, while
// deposits come in and a replay sends copies of them, into their own stream and into
// another one. Every deposit is booked once, and those of an account that has no copy
// elsewhere in order.
func TestKill9(t *testing.T) {
	t.Parallel()
	for kind, kills := range map[string]int{"postgresql": 24, "mysql": 16, "redis": 16} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b := newBank(t, kind)
			o := order{Kind: kind, Address: b.address, RedisURL: b.redisURL, Name: "bank", Streams: []string{"bank:*"}}
			l := newLoad(t, b)
			stop := make(chan struct{})
			produced := make(chan struct{})
			go func() {
				defer close(produced)
				l.run(stop)
			}()
			pair := [2]*process{spawn(t, o), spawn(t, o)}
			for n := range kills {
				pause(t, time.Duration(50+rand.IntN(450))*time.Millisecond)
				p := pair[n%2]
				select {
				case <-p.end:
					t.Fatalf("a process ended by itself: %v\n%s", p.err, p.output(t))
				default:
				}
				p.kill(t)
				pair[n%2] = spawn(t, o)
			}
			close(stop)
			<-produced
			for stream, id := range l.last {
				b.reaches(t, "bank", stream, id)
			}
			l.check(t)
			if workers := b.workers(t, "bank"); workers < int64(kills)/2 {
				t.Errorf("%d workers are too few to prove anything", workers)
			}
			t.Logf("%d kills, %d deposits, %d copies, %d workers", kills, l.deposits, l.copies, b.workers(t, "bank"))
			for _, p := range pair {
				p.signal(t, syscall.SIGTERM)
				if <-p.end; p.err != nil {
					t.Errorf("a process did not end well: %v\n%s", p.err, p.output(t))
				}
			}
		})
	}
}

// workers counts the leases that there have been.
func (b *bank) workers(t *testing.T, name string) (n int64) {
	t.Helper()
	for _, stream := range loadStreams {
		var epoch int64
		var err error
		if b.db == nil {
			epoch, err = b.admin.HGet(t.Context(), "{reservoir}:consumer:"+name+":at:"+stream, "epoch").Int64()
		} else {
			err = b.db.QueryRowContext(t.Context(),
				"SELECT epoch FROM reservoir_consumer_checkpoints WHERE consumer = '"+name+"' AND stream = '"+stream+"'").Scan(&epoch)
		}
		if err != nil {
			t.Fatal(err)
		}
		n += epoch
	}
	return n
}

var loadStreams = []string{"bank:a", "bank:b", "bank:copies"}

// load makes deposits and copies of them.
type load struct {
	t        *testing.T
	b        *bank
	deposits int
	copies   int
	balances map[string]int64
	bookings map[string]int64
	last     map[string]string
}

func newLoad(t *testing.T, b *bank) *load {
	return &load{t: t, b: b, balances: map[string]int64{}, bookings: map[string]int64{}, last: map[string]string{}}
}

func (l *load) run(stop <-chan struct{}) {
	tick := time.NewTicker(4 * time.Millisecond)
	defer tick.Stop()
	type sent struct {
		stream, id string
		chain      bool
		fields     []any
	}
	var history []sent
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		stream := loadStreams[rand.IntN(2)]
		chain := rand.IntN(2) == 0
		d := deposit{Account: fmt.Sprintf("%s/%d/%v", stream, rand.IntN(3), chain), Amount: rand.Int64N(1000), Chain: chain}
		payload, err := json.Marshal(d)
		if err != nil {
			l.t.Error(err)
			return
		}
		fields := []any{"type", "Deposit", "payload", string(payload)}
		if rand.IntN(2) == 0 {
			fields = append(fields, "event_id", fmt.Sprint("e", l.deposits))
		}
		if rand.IntN(10) == 0 {
			l.add(stream, []any{"type", "Unknown"})
		}
		id := l.add(stream, fields)
		l.deposits++
		l.balances[d.Account] = d.book(l.balances[d.Account])
		l.bookings[d.Account]++
		history = append(history, sent{stream, id, chain, fields})
		if rand.IntN(2) == 0 {
			s := history[rand.IntN(len(history))]
			to := s.stream
			if !s.chain && rand.IntN(2) == 0 {
				to = loadStreams[2]
			}
			n := len(s.fields)
			l.add(to, append(s.fields[:n:n], "reservoir_replay", "r1", "reservoir_stream", s.stream, "reservoir_id", s.id))
			l.copies++
		}
	}
}

func (l *load) add(stream string, fields []any) string {
	id, err := l.b.admin.Do(context.Background(), append([]any{"XADD", stream, "*"}, fields...)...).Text()
	if err != nil {
		l.t.Error(err)
	}
	l.last[stream] = id
	return id
}

func (l *load) check(t *testing.T) {
	t.Helper()
	for name, want := range l.balances {
		if balance, bookings := l.b.account(t, name); balance != want || bookings != l.bookings[name] {
			t.Errorf("%s: balance %d of %d bookings, want %d of %d", name, balance, bookings, want, l.bookings[name])
		}
	}
	if letters := l.b.dead(t, "bank"); len(letters) > 0 {
		t.Errorf("dead letters %q", letters)
	}
}

// TestStaleWorker freezes a process within a handler, past its lease. Another one
// takes over. When the first goes on, it commits nothing.
func TestStaleWorker(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"postgresql", "mysql", "redis"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b := newBank(t, kind)
			var ids []string
			want := int64(0)
			add := func(n int) {
				for range n {
					d := deposit{Account: "a", Amount: int64(len(ids)), Chain: true}
					payload, err := json.Marshal(d)
					if err != nil {
						t.Fatal(err)
					}
					ids = append(ids, b.add(t, "bank:a", "type", "Deposit", "payload", string(payload)))
					want = d.book(want)
				}
			}
			add(50)
			o := order{Kind: kind, Address: b.address, RedisURL: b.redisURL, Name: "bank", Streams: []string{"bank:a"}, Freeze: ids[30]}
			stale := spawn(t, o)
			waitFor(t, "the first one to freeze", func() (string, bool) {
				text := stale.output(t)
				return text, strings.Contains(text, freezing)
			})
			o.Freeze = ""
			fresh := spawn(t, o)
			b.reaches(t, "bank", "bank:a", ids[49])
			check := func() {
				t.Helper()
				if balance, bookings := b.account(t, "a"); balance != want || bookings != int64(len(ids)) {
					t.Errorf("balance %d of %d bookings, want %d of %d", balance, bookings, want, len(ids))
				}
			}
			check()
			fresh.signal(t, syscall.SIGSTOP) // only the stale one could write now
			stale.signal(t, syscall.SIGCONT)
			waitFor(t, "the stale worker to notice", func() (string, bool) {
				text := stale.output(t)
				return text, strings.Contains(text, taken) || strings.Contains(text, "worker failed")
			})
			if at := b.position(t, "bank", "bank:a"); at != ids[49] {
				t.Errorf("position %s after the stale worker went on, want %s", at, ids[49])
			}
			check()
			fresh.signal(t, syscall.SIGCONT)
			add(20)
			b.reaches(t, "bank", "bank:a", ids[len(ids)-1])
			check()
		})
	}
}

func pause(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
}
