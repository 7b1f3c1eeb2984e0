package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
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
	Readers     string // a cluster of it
	Pushdown    *chstore.S3
	Definitions string // a directory
	States      string // one of its own, for folds
	Worker      string
	Rebuilds    bool
	Projector   bool
	Batch       time.Duration
	TTL         time.Duration
	Deaths      []death // one after the other
}

// parts makes what rebuilds and projectors work with.
func (h *hand) parts(ctx context.Context, logger *slog.Logger) (*rebuild.Service, *jobs.Store, error) {
	store, err := objectstore.Open(ctx, h.Store)
	if err != nil {
		return nil, nil, err
	}
	if len(h.Deaths) > 0 {
		m := &mortal{logger: logger, deaths: h.Deaths}
		store = mortalStore{store, m}
		if h.ClickHouse, err = m.wired(h.ClickHouse); err != nil {
			return nil, nil, err
		}
	}
	arch, err := archive.Open(ctx, store, archive.Options{})
	if err != nil {
		return nil, nil, err
	}
	client, err := redisstream.Connect(ctx, redisstream.Config{URL: h.Redis})
	if err != nil {
		return nil, nil, err
	}
	db, err := connectPatiently(ctx, chstore.Config{URL: h.ClickHouse, Readers: h.Readers})
	if err != nil {
		return nil, nil, err
	}
	registry, err := kitchenFunctions()
	if err != nil {
		return nil, nil, err
	}
	js := jobs.NewStore(store, jobs.StoreOptions{})
	svc, err := rebuild.New(rebuild.Options{
		Archive: arch, Objects: store, Jobs: js, ClickHouse: db, Redis: client, TTL: h.TTL, Logger: logger,
		Pushdown:    rebuild.Pushdown{S3: h.Pushdown, Prefix: archivePrefix},
		Definitions: func() (*projection.Set, error) { return projection.Load(h.Definitions, registry) },
		StateDir:    h.States,
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
