package redisstream_test

import (
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/redisstream"
)

// subject is a stream, real or not, that entries are added to and lost from
// while it is read.
type subject interface {
	add(t *rapid.T) event.ID
	trim(t *rapid.T, keep int)
	del(t *rapid.T, id event.ID)
	length(t *rapid.T) int
	read(t *rapid.T, after event.ID, count int, b *event.Batch) redisstream.Snapshot
}

// model is a stream that behaves as XINFO STREAM of Redis 7 says.
type model struct {
	added      uint64
	last       event.ID
	maxDeleted event.ID
	entries    []event.ID
	causes     map[event.ID]redisstream.Cause // of what is gone
}

func (m *model) add(*rapid.T) event.ID {
	m.added++
	m.last = event.ID{Ms: 1 + m.added/3, Seq: m.added % 3}
	m.entries = append(m.entries, m.last)
	return m.last
}

func (m *model) trim(_ *rapid.T, keep int) {
	for len(m.entries) > keep {
		m.causes[m.entries[0]] = redisstream.CauseTrimmed
		m.entries = m.entries[1:]
	}
}

func (m *model) del(_ *rapid.T, id event.ID) {
	for i, have := range m.entries {
		if have == id {
			m.causes[id] = redisstream.CauseDeleted
			m.entries = append(m.entries[:i:i], m.entries[i+1:]...)
			if m.maxDeleted.Less(id) {
				m.maxDeleted = id
			}
			return
		}
	}
}

func (m *model) length(*rapid.T) int { return len(m.entries) }

func (m *model) info() redisstream.Info {
	info := redisstream.Info{Length: uint64(len(m.entries)), EntriesAdded: m.added, LastGeneratedID: m.last, MaxDeletedID: m.maxDeleted}
	if len(m.entries) > 0 {
		info.FirstID, info.LastID = m.entries[0], m.entries[len(m.entries)-1]
	}
	return info
}

func (m *model) read(_ *rapid.T, after event.ID, count int, b *event.Batch) redisstream.Snapshot {
	b.Reset()
	for _, id := range m.entries {
		if after.Less(id) && b.Len() < count {
			b.Begin(id)
		}
	}
	return redisstream.Snapshot{Info: m.info(), HasInfo: true, AtEnd: b.Len() < count}
}

// run adds to, takes from and reads a stream in random order, and returns what
// its losses must be and what they are by the ledger's account.
type run struct {
	stream subject
	ledger redisstream.Ledger
	ids    []event.ID // all that were added
	read   map[event.ID]bool
	lost   uint64 // by the ledger
	// onLoss checks one loss.
	onLoss func(t *rapid.T, l *redisstream.Loss)
}

func (r *run) step(t *rapid.T) {
	switch rapid.SampledFrom([]string{"add", "add", "trim", "del", "read", "read"}).Draw(t, "step") {
	case "add":
		for range rapid.IntRange(1, 12).Draw(t, "entries") {
			r.ids = append(r.ids, r.stream.add(t))
		}
	case "trim":
		r.stream.trim(t, rapid.IntRange(0, r.stream.length(t)).Draw(t, "keep"))
	case "del":
		if len(r.ids) > 0 {
			r.stream.del(t, rapid.SampledFrom(r.ids).Draw(t, "id"))
		}
	case "read":
		r.observe(t, rapid.IntRange(1, 6).Draw(t, "count"), rapid.Float64Range(0, 1).Draw(t, "info") < 0.9)
	}
}

// observe reads one batch and takes its account.
func (r *run) observe(t *rapid.T, count int, withInfo bool) (atEnd bool) {
	var b event.Batch
	position := r.ledger.Position
	s := r.stream.read(t, position, count, &b)
	s.HasInfo = s.HasInfo && withInfo
	for i := range b.Len() {
		if r.read[b.ID(i)] {
			t.Fatalf("%s was read twice", b.ID(i))
		}
		r.read[b.ID(i)] = true
	}
	before, after, err := r.ledger.Observe(s, &b)
	if err != nil {
		t.Fatal(err)
	}
	if before != nil {
		if b.Len() > 0 && !before.UpTo.Less(b.ID(0)) {
			t.Fatalf("a loss up to %s cannot come before %s", before.UpTo, b.ID(0))
		}
		if want := r.ledger.AddedAt(b.Len()); before.Added != want {
			t.Fatalf("account %d after the loss before the batch, want %d", before.Added, want)
		}
	}
	if after != nil {
		if !s.AtEnd && b.Len() > 0 && b.ID(b.Len()-1).Less(s.Info.LastID) && b.ID(b.Len()-1).Less(after.UpTo) {
			t.Fatalf("a loss up to %s goes over entries that were not read yet", after.UpTo)
		}
		if want := r.ledger.AddedAt(0) + after.Lost; after.Added != want || r.ledger.Added != want {
			t.Fatalf("account %d after the loss after the batch, want %d", after.Added, want)
		}
	}
	for _, l := range []*redisstream.Loss{before, after} {
		if l == nil {
			continue
		}
		r.lost += l.Lost
		if r.onLoss != nil {
			r.onLoss(t, l)
		}
	}
	return s.AtEnd
}

// finish reads to the end and compares.
func (r *run) finish(t *rapid.T) {
	for range 2 { // the first end may have been on its way for long
		for !r.observe(t, 5, true) {
		}
	}
	want := uint64(len(r.ids) - len(r.read))
	if r.lost != want {
		t.Fatalf("%d entries lost by the account, %d in truth", r.lost, want)
	}
	if r.ledger.Added != uint64(len(r.ids)) {
		t.Fatalf("%d entries accounted for of %d", r.ledger.Added, len(r.ids))
	}
}

func TestLedgerAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{causes: map[event.ID]redisstream.Cause{}}
		r := &run{stream: m, read: map[event.ID]bool{}}
		reported := map[event.ID]bool{}
		r.onLoss = func(t *rapid.T, l *redisstream.Loss) {
			n := uint64(0)
			for _, id := range r.ids {
				if r.read[id] || reported[id] || m.causes[id] == "" {
					continue
				}
				reported[id] = true
				n++
				if !l.After.Less(id) || l.UpTo.Less(id) {
					t.Fatalf("%s was lost, the loss is from %s to %s", id, l.After, l.UpTo)
				}
				if l.Cause != redisstream.CauseUnknown && l.Cause != m.causes[id] {
					t.Fatalf("%s was %s, the loss says %s", id, m.causes[id], l.Cause)
				}
			}
			if n != l.Lost || !l.Exact {
				t.Fatalf("a loss of %d, in truth %d", l.Lost, n)
			}
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			r.step(t)
		}
		r.finish(t)
	})
}

// A ledger that is made again from position and account alone, at any time,
// comes to the same total.
func TestLedgerRestarted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := &run{stream: &model{causes: map[event.ID]redisstream.Cause{}}, read: map[event.ID]bool{}}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			r.step(t)
			if rapid.Bool().Draw(t, "restart") {
				r.ledger = redisstream.Ledger{Position: r.ledger.Position, Added: r.ledger.Added}
			}
		}
		r.finish(t)
	})
}

// redisSubject is a stream in a redis-server, read with a Reader.
type redisSubject struct {
	client *redisstream.Client
	raw    *commands
	name   string
	reader *redisstream.Reader
}

func (r *redisSubject) add(t *rapid.T) event.ID {
	id, err := event.ParseID(r.raw.do(t, "XADD", r.name, "*", "f", "v").(string))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (r *redisSubject) trim(t *rapid.T, keep int)   { r.raw.do(t, "XTRIM", r.name, "MAXLEN", keep) }
func (r *redisSubject) del(t *rapid.T, id event.ID) { r.raw.do(t, "XDEL", r.name, id.String()) }
func (r *redisSubject) length(t *rapid.T) int       { return int(r.raw.do(t, "XLEN", r.name).(int64)) }

func (r *redisSubject) read(t *rapid.T, after event.ID, _ int, b *event.Batch) redisstream.Snapshot {
	s, err := r.reader.Read(t.Context(), after, b)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestLedgerAgainstRedis(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{})
	client := connect(t, redisstream.Config{URL: server.URL()})
	raw := rawClient(t, server.Addr())
	streams := 0
	rapid.Check(t, func(t *rapid.T) {
		streams++
		s := &redisSubject{client: client, raw: raw, name: fmt.Sprintf("stream:%d", streams)}
		raw.do(t, "XGROUP", "CREATE", s.name, "g", "0-0", "MKSTREAM") // it exists, empty
		var err error
		s.reader, err = client.Reader(t.Context(), s.name, redisstream.ReaderOptions{MaxCount: rapid.IntRange(1, 8).Draw(t, "count")})
		if err != nil {
			t.Fatal(err)
		}
		defer s.reader.Close()
		r := &run{stream: s, read: map[event.ID]bool{}}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			r.step(t)
		}
		r.finish(t)
	})
}

func TestLedgerSeesReplacedHistory(t *testing.T) {
	archived := redisstream.Ledger{Position: event.ID{Ms: 100}, Added: 50}
	for name, info := range map[string]redisstream.Info{
		"last ID went back":           {Length: 10, EntriesAdded: 60, LastGeneratedID: event.ID{Ms: 90}, FirstID: event.ID{Ms: 1}, LastID: event.ID{Ms: 90}},
		"count went back":             {Length: 10, EntriesAdded: 10, LastGeneratedID: event.ID{Ms: 210}, FirstID: event.ID{Ms: 201}, LastID: event.ID{Ms: 210}},
		"anew, longer than before":    {Length: 70, EntriesAdded: 70, LastGeneratedID: event.ID{Ms: 270}, FirstID: event.ID{Ms: 201}, LastID: event.ID{Ms: 270}},
		"anew, trimmed, longer":       {Length: 60, EntriesAdded: 100, LastGeneratedID: event.ID{Ms: 270}, FirstID: event.ID{Ms: 211}, LastID: event.ID{Ms: 270}},
		"emptied by an older restore": {EntriesAdded: 40, LastGeneratedID: event.ID{Ms: 100}},
	} {
		t.Run(name, func(t *testing.T) {
			ledger := archived
			var b event.Batch
			if ledger.Position.Less(info.FirstID) {
				b.Begin(info.FirstID)
			}
			_, _, err := ledger.Observe(redisstream.Snapshot{Info: info, HasInfo: true}, &b)
			if !errors.Is(err, redisstream.ErrHistoryReplaced) {
				t.Fatalf("got %v", err)
			}
			if ledger.Position != archived.Position || ledger.Added != archived.Added {
				t.Fatal("the ledger has changed")
			}
		})
	}
}
