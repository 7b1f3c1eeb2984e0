package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"regexp"
	"sync"
	"syscall"
	"time"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/rebuild"
	"github.com/reservoirhq/reservoir/redisstream"
)

// handVariable holds what a process is told that is this test's own program again.
const handVariable = "RESERVOIR_E2E_HAND"

// hand says what such a process does: it runs rebuilds, keeps projections live, or
// both, until it is killed.
type hand struct {
	Redis       string
	Store       objectstore.Config
	ClickHouse  string
	Pushdown    *chstore.S3
	Definitions string // a directory
	Worker      string
	Rebuilds    bool
	Projector   bool
	Batch       time.Duration
	TTL         time.Duration
	// Die, if Phase is set, ends the process as kill -9 does.
	Die death
	// Freeze stops it (SIGSTOP) instead.
	Freeze bool
}

// death is at a write to the object store while a rebuild is in a phase.
type death struct {
	Phase string
	Write int  // counts from 1
	After bool // when it has had its effect
	// Key, if set, is what the key of the write begins with.
	Key string
}

// wrote is logged at every write of a rebuild that is about to swap.
const (
	wrote   = "writes at hand-over"
	frozen  = "freezes"
	inHand  = "the projection is fed"
	feeding = "feeding"
)

// parts makes what rebuilds and projectors work with.
func (h *hand) parts(ctx context.Context, logger *slog.Logger) (*rebuild.Service, *jobs.Store, error) {
	store, err := objectstore.Open(ctx, h.Store)
	if err != nil {
		return nil, nil, err
	}
	store = &mortalStore{Store: store, die: h.Die, freeze: h.Freeze, logger: logger}
	arch, err := archive.Open(ctx, store, archive.Options{})
	if err != nil {
		return nil, nil, err
	}
	client, err := redisstream.Connect(ctx, redisstream.Config{URL: h.Redis})
	if err != nil {
		return nil, nil, err
	}
	db, err := connectPatiently(ctx, chstore.Config{URL: h.ClickHouse})
	if err != nil {
		return nil, nil, err
	}
	js := jobs.NewStore(store, jobs.StoreOptions{})
	svc, err := rebuild.New(rebuild.Options{
		Archive: arch, Objects: store, Jobs: js, ClickHouse: db, Redis: client, TTL: h.TTL, Logger: logger,
		Pushdown:    rebuild.Pushdown{S3: h.Pushdown, Prefix: archivePrefix},
		Definitions: func() (*projection.Set, error) { return projection.Load(h.Definitions, nil) },
	})
	return svc, js, err
}

// connectPatiently connects to a ClickHouse that may be down just now.
func connectPatiently(ctx context.Context, config chstore.Config) (*chstore.Store, error) {
	for {
		db, err := chstore.Connect(ctx, config)
		if err == nil || !chstore.Retryable(err) {
			return db, err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return nil, fmt.Errorf("%w (%w)", ctx.Err(), err)
		}
	}
}

// kitchenHand is the main function of such a process.
func kitchenHand(text string) error {
	var h hand
	if err := json.Unmarshal([]byte(text), &h); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	logger := slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	svc, js, err := h.parts(ctx, logger)
	if err != nil {
		return err
	}
	runner, err := jobs.NewRunner(js, jobs.RunnerOptions{
		Engines: map[string]jobs.Engine{rebuild.Kind: svc.Engine()}, Worker: h.Worker, LeaseTTL: h.TTL, Poll: 50 * time.Millisecond, Logger: logger,
		MaxAttempts: 1000,
	})
	if err != nil {
		return err
	}
	projector, err := svc.Projector(rebuild.ProjectorOptions{
		Worker: h.Worker, Batch: h.Batch, Poll: 100 * time.Millisecond, Discover: time.Second,
	})
	if err != nil {
		return err
	}
	logger.Info(working)
	var group sync.WaitGroup
	errs := make([]error, 2)
	if h.Rebuilds {
		group.Go(func() { errs[0] = runner.Run(ctx) })
	}
	if h.Projector {
		group.Go(func() { errs[1] = projector.Run(ctx) })
	}
	group.Wait()
	if errs[0] != nil {
		return errs[0]
	}
	return errs[1]
}

// mortalStore dies at one of its writes.
type mortalStore struct {
	objectstore.Store
	die    death
	freeze bool
	logger *slog.Logger

	mu    sync.Mutex
	phase string // of the last rebuild that was written
	n     int
}

var phasePattern = regexp.MustCompile(`"checkpoint":\s*\{\s*"version":\s*1,\s*"phase":\s*"([a-z-]+)"`)

// Put implements objectstore.Store.
func (s *mortalStore) Put(ctx context.Context, key string, body io.Reader, cond objectstore.Condition) (objectstore.Info, error) {
	text, err := io.ReadAll(body)
	if err != nil {
		return objectstore.Info{}, err
	}
	now := s.writes(key, text)
	if now && !s.die.After {
		s.end()
	}
	info, err := s.Store.Put(ctx, key, bytes.NewReader(text), cond)
	if now && s.die.After {
		s.end()
	}
	return info, err
}

// writes looks at what is written, and says whether that is the end.
func (s *mortalStore) writes(key string, text []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := phasePattern.FindSubmatch(text); m != nil {
		s.phase = string(m[1])
	}
	if s.phase == rebuild.PhaseHandOver {
		s.logger.Debug(wrote, "key", key)
	}
	if s.die.Phase == "" || s.die.Phase != s.phase && s.die.Phase != feeding || s.die.Key != "" && !bytes.HasPrefix([]byte(key), []byte(s.die.Key)) {
		return false
	}
	s.n++
	return s.n == s.die.Write
}

// end ends this process, or stops it.
func (s *mortalStore) end() {
	sig := syscall.SIGKILL
	if s.freeze {
		sig = syscall.SIGSTOP
	}
	s.logger.Info(frozen, "phase", s.die.Phase, "write", s.die.Write)
	if err := syscall.Kill(os.Getpid(), sig); err != nil {
		panic(err)
	}
	if sig == syscall.SIGKILL {
		select {} // it comes
	}
}
