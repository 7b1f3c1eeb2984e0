package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/config"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/rebuild"
	"github.com/reservoirhq/reservoir/redisstream"
	"github.com/reservoirhq/reservoir/replay"
	"github.com/reservoirhq/reservoir/upcast"
)

// services is what those who make, run and show jobs work with: one connection of each
// kind, and what is made of them.
type services struct {
	objects    objectstore.Store
	archive    *archive.Archive
	jobs       *jobs.Store
	redis      *redisstream.Client // nil: none was asked for
	clickhouse *chstore.Store      // nil: no rebuilds were asked for
	upcasters  *upcast.Set
	replays    *replay.Service
	rebuilds   *rebuild.Service // nil: none were asked for
}

// close ends the connections.
func (s *services) close() error {
	var errs []error
	if s.clickhouse != nil {
		errs = append(errs, s.clickhouse.Close())
	}
	if s.redis != nil {
		errs = append(errs, s.redis.Close())
	}
	return errors.Join(errs...)
}

// servicesSpec says how services are used.
type servicesSpec struct {
	jobsOnly bool // nothing but the jobs
	redis    bool // connect to the configured Redis
	askRedis bool // do so if it answers: a sink of another URL may be the same one
	probe    bool // refuse a store whose conditional writes do not hold
	here     bool // replays run in this process: files may be anywhere, and standard output is a sink
	rebuilds bool // connect to ClickHouse, and want definitions
}

// openServices opens what spec says; its caller closes it.
func (a *app) openServices(ctx context.Context, spec servicesSpec) (_ *services, err error) {
	s := &services{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if spec.rebuilds {
		if _, err := a.loadProjections(); err != nil {
			return nil, err
		}
	}
	if s.jobs, s.objects, err = a.openJobs(ctx); err != nil {
		return nil, err
	}
	if spec.jobsOnly {
		return s, nil
	}
	if s.archive, err = archive.Open(ctx, s.objects, a.archiveOptions()); err != nil {
		return nil, err
	}
	if spec.probe {
		if err := objectstore.Probe(ctx, s.objects); err != nil {
			return nil, fmt.Errorf("probe the object store: %w", err)
		}
	}
	if s.upcasters, err = a.upcasters(a.cfg.Replay.Upcasters); err != nil {
		return nil, err
	}
	if spec.rebuilds {
		if s.clickhouse, err = a.connectClickHouse(ctx); err != nil {
			return nil, err
		}
	}
	if err := a.openRedis(ctx, s, spec); err != nil {
		return nil, err
	}
	s.replays, err = replay.New(replay.Options{
		Archive: s.archive, Jobs: s.jobs, Sinks: a.sinks(s.redis, spec.here), Redis: s.redis,
		Upcasters: s.upcasters, Mapping: a.cfg.Envelope, Logger: a.logger,
	})
	if err == nil && spec.rebuilds {
		s.rebuilds, err = a.newRebuilds(s)
	}
	return s, err
}

// openRedis connects to the configured Redis, if spec says so.
func (a *app) openRedis(ctx context.Context, s *services, spec servicesSpec) error {
	if !spec.redis && !spec.askRedis {
		return nil
	}
	client, err := a.connectRedis(ctx)
	switch {
	case err == nil:
		s.redis = client
	case spec.redis:
		return err
	default:
		a.logger.Debug("the configured Redis does not answer: whether the target is the same one is not known", "error", err)
	}
	return nil
}

// newRebuilds makes the service of rebuilds.
func (a *app) newRebuilds(s *services) (*rebuild.Service, error) {
	pushdown, err := a.pushdown()
	if err != nil {
		return nil, err
	}
	return rebuild.New(rebuild.Options{
		Archive: s.archive, Objects: s.objects, Jobs: s.jobs, ClickHouse: s.clickhouse, Redis: s.redis, Upcasters: s.upcasters,
		Definitions: func() (*projection.Set, error) { return a.loadProjections() },
		Pushdown:    pushdown, Mapping: a.cfg.Envelope, StateDir: a.stateDir(), Logger: a.logger,
	})
}

// hasRebuilds says whether the configuration has what rebuilds need.
func (a *app) hasRebuilds() bool {
	return !a.cfg.ClickHouse.URL.IsZero() && a.cfg.Projections.Dir != ""
}

// newRunner makes what runs the jobs of the services as a daemon.
func (a *app) newRunner(s *services, registry prometheus.Registerer) (*jobs.Runner, error) {
	engines := map[string]jobs.Engine{replay.Kind: s.replays.Engine()}
	if s.rebuilds != nil {
		engines[rebuild.Kind] = s.rebuilds.Engine()
	}
	c := a.cfg.Jobs
	return jobs.NewRunner(s.jobs, jobs.RunnerOptions{
		Engines:     engines,
		Concurrency: c.Concurrency, PerTarget: c.PerTarget, LeaseTTL: c.LeaseTTL.D(), Poll: c.Poll.D(),
		Logger: a.logger, Registerer: registry,
	})
}

// openJobs opens the configured store's jobs.
func (a *app) openJobs(ctx context.Context) (*jobs.Store, objectstore.Store, error) {
	store, err := a.openStore(ctx)
	if err != nil {
		return nil, nil, err
	}
	return jobs.NewStore(store, jobs.StoreOptions{KeepFailed: keepFailed(a.cfg.Jobs.KeepFailed), KeepEnded: a.cfg.Jobs.KeepEnded.D(), Logger: a.logger}), store, nil
}

// keepFailed gives jobs.StoreOptions.KeepFailed, of which 0 is the default and not
// at once.
func keepFailed(configured config.Duration) time.Duration {
	if configured == 0 {
		return -1
	}
	return configured.D()
}

// stateDir is where the states of folds are.
func (a *app) stateDir() string {
	if dir := a.cfg.Projections.State; dir != "" {
		return dir
	}
	return filepath.Join(os.TempDir(), "reservoir-folds")
}
