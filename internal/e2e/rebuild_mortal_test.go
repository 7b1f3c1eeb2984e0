package e2e_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/rebuild"
)

// death is a moment at which a process ends as by kill -9, or stops: at a write to the
// object store, or at a statement that it sends to ClickHouse, while its rebuild is in
// a phase.
type death struct {
	Phase string
	// Key is what the key of the write begins with: any, where it is empty. Statement, if
	// set, is a pattern of the statement, and then it is at no write.
	Key, Statement string
	Nth            int // of those in the phase; counts from 1
	When           when
	How            how
}

// how is what becomes of the process.
type how int

const (
	gone   how = iota // it is gone
	asleep            // it is stopped as a whole until a SIGCONT, as if its machine slept
	held              // only what was about to happen waits for a SIGCONT
)

// when is a moment of a write or a statement.
type when int

const (
	sooner when = iota // it never leaves the process
	amid               // it is sent, and nobody has waited for an answer
	later              // it has had its effect: it was answered
)

func (w when) String() string { return [...]string{"before", "amid", "after"}[w] }

// feeding is the phase of who feeds a live table: any.
const feeding = "feeding"

// frozen is logged at a death.
const frozen = "freezes"

// mortal is a process that dies at some moments, one after the other.
type mortal struct {
	logger *slog.Logger

	mu     sync.Mutex
	deaths []death
	seen   int    // what the next one counts
	phase  string // of the last rebuild that was written
}

// order of the phases.
var phaseOrder = []string{
	rebuild.PhasePlan, rebuild.PhaseShadow, rebuild.PhaseCarry, rebuild.PhaseLoad, rebuild.PhasePour, rebuild.PhaseCatchUp,
	rebuild.PhaseVerify, rebuild.PhaseApproval, rebuild.PhaseHandOver, rebuild.PhaseDone,
}

var phasePattern = regexp.MustCompile(`"checkpoint":\s*\{\s*"version":\s*1,\s*"phase":\s*"([a-z-]+)"`)

// enter notes the phase that a job's document says.
func (m *mortal) enter(key string, text []byte) {
	if !strings.HasPrefix(key, "jobs/active/") {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.phase = rebuild.PhasePlan
	if found := phasePattern.FindSubmatch(text); found != nil {
		m.phase = string(found[1])
	}
	// What can only happen in an earlier phase will not happen any more.
	for len(m.deaths) > 0 && m.deaths[0].Phase != feeding && slices.Index(phaseOrder, m.deaths[0].Phase) < slices.Index(phaseOrder, m.phase) {
		m.logger.Info(missed, "phase", m.deaths[0].Phase)
		m.deaths, m.seen = m.deaths[1:], 0
	}
}

// missed is logged when a death cannot come any more.
const missed = "has outlived"

// due says whether this is the moment of the next death, of which there is a when.
func (m *mortal) due(matches func(d *death) bool) (when, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.deaths) == 0 {
		return 0, false
	}
	d := &m.deaths[0]
	if d.Phase != feeding && d.Phase != m.phase || !matches(d) {
		return 0, false
	}
	m.seen++
	return d.When, m.seen == d.Nth
}

// die ends this process, or returns when it may go on.
func (m *mortal) die() {
	m.mu.Lock()
	d := m.deaths[0]
	m.deaths, m.seen = m.deaths[1:], 0
	m.mu.Unlock()
	goOn := make(chan os.Signal, 1)
	signal.Notify(goOn, syscall.SIGCONT)
	defer signal.Stop(goOn)
	m.logger.Info(frozen, "phase", d.Phase, "at", d.Key+d.Statement, "when", d.When.String())
	switch d.How {
	case gone:
		m.raise(syscall.SIGKILL)
		select {} // it comes
	case asleep:
		m.raise(syscall.SIGSTOP)
	case held:
		<-goOn
	}
}

func (m *mortal) raise(sig syscall.Signal) {
	if err := syscall.Kill(os.Getpid(), sig); err != nil {
		panic(err)
	}
}

// mortalStore is the object store of such a process.
type mortalStore struct {
	objectstore.Store
	*mortal
}

// Put implements objectstore.Store.
func (s mortalStore) Put(ctx context.Context, key string, body io.Reader, cond objectstore.Condition) (objectstore.Info, error) {
	text, err := io.ReadAll(body)
	if err != nil {
		return objectstore.Info{}, err
	}
	s.enter(key, text)
	at, now := s.due(func(d *death) bool { return d.Statement == "" && strings.HasPrefix(key, d.Key) })
	if now && at == sooner {
		s.die()
	}
	info, err := s.Store.Put(ctx, key, bytes.NewReader(text), cond)
	if now && at != sooner {
		s.die()
	}
	return info, err
}
