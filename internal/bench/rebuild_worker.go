package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/rebuild"
	"github.com/reservoirhq/reservoir/redisstream"
)

// rebuildTask is what a worker process is told, in its environment.
type rebuildTask struct {
	ClickHouse, Redis        string // URLs
	Endpoint, Bucket, Prefix string // of the archive
	StateDir                 string
	Definition               string
	Spec                     rebuild.Spec
	Profile                  string // the file that it writes a profile of its CPU to, if any
}

// taskVariable holds the rebuildTask.
const taskVariable = "RESERVOIR_BENCH_REBUILD"

// rebuildDone is what it prints.
type rebuildDone struct {
	Job          *jobs.Job
	Verification *rebuild.Verification
}

// rebuildWorker is a worker process that does one rebuild: only a process of its own
// shows how much memory it takes.
func rebuildWorker(ctx context.Context, opts options) error {
	var task rebuildTask
	if err := json.Unmarshal([]byte(os.Getenv(taskVariable)), &task); err != nil {
		return fmt.Errorf("read the task in %s: %w", taskVariable, err)
	}
	debug.SetGCPercent(25) // as in cmd/reservoir
	stop, err := profile(task.Profile)
	if err != nil {
		return err
	}
	done, err := task.run(ctx)
	if err = errors.Join(err, stop()); err != nil {
		return err
	}
	return json.NewEncoder(opts.out).Encode(done)
}

// profile writes a profile of the CPU to a file until it is stopped; none for "".
func profile(name string) (stop func() error, err error) {
	if name == "" {
		return func() error { return nil }, nil
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}

func (t *rebuildTask) run(ctx context.Context) (done rebuildDone, err error) {
	store, err := objectstore.Open(ctx, objectstore.Config{URL: "s3://" + t.Bucket + "/" + t.Prefix, S3: objectstore.S3Options{
		Endpoint: t.Endpoint, Region: stack.S3Region, AccessKey: stack.S3AccessKey, SecretKey: stack.S3SecretKey,
	}})
	if err != nil {
		return done, err
	}
	arch, err := archive.Open(ctx, store, archive.Options{})
	if err != nil {
		return done, err
	}
	client, err := redisstream.Connect(ctx, redisstream.Config{URL: t.Redis})
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	db, err := chstore.Connect(ctx, chstore.Config{URL: t.ClickHouse})
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	registry, err := functions()
	if err != nil {
		return done, err
	}
	queue := jobs.NewStore(store, jobs.StoreOptions{})
	svc, err := rebuild.New(rebuild.Options{
		Archive: arch, Objects: store, Jobs: queue, ClickHouse: db, Redis: client, StateDir: t.StateDir,
		Definitions: func() (*projection.Set, error) {
			return projection.Parse("bench.yaml", strings.NewReader(t.Definition), registry)
		},
		Pushdown: rebuild.Pushdown{Prefix: t.Prefix, S3: &chstore.S3{
			Endpoint: t.Endpoint, Region: stack.S3Region, Bucket: t.Bucket, AccessKey: stack.S3AccessKey, SecretKey: stack.S3SecretKey,
		}},
	})
	if err != nil {
		return done, err
	}
	return t.rebuild(ctx, svc, queue)
}

func (t *rebuildTask) rebuild(ctx context.Context, svc *rebuild.Service, queue *jobs.Store) (done rebuildDone, err error) {
	job, err := svc.Create(ctx, t.Spec, rebuild.CreateOptions{By: "bench", Paused: true})
	if err != nil {
		return done, err
	}
	runner, err := jobs.NewRunner(queue, jobs.RunnerOptions{Engines: map[string]jobs.Engine{rebuild.Kind: svc.Engine()}})
	if err != nil {
		return done, err
	}
	if done.Job, err = runner.RunOne(ctx, job.ID); err != nil {
		return done, err
	}
	if done.Job.State != jobs.Succeeded {
		return done, fmt.Errorf("the rebuild of %s is %s: %s, %+v", t.Spec.Projection, done.Job.State, done.Job.StateReason, done.Job.LastError)
	}
	done.Verification, err = svc.Verification(ctx, job.ID)
	return done, err
}

// phases gives how long each phase of a rebuild took, by what its log says.
func phases(job *jobs.Job) map[string]time.Duration {
	took := map[string]time.Duration{}
	last, began := "", time.Time{}
	for _, entry := range job.Log {
		name, ok := strings.CutPrefix(entry.Message, "phase ")
		if !ok {
			continue
		}
		if last != "" {
			took[last] += entry.Time.Sub(began)
		}
		last, began = name, entry.Time
	}
	if last != "" {
		took[last] += job.EndedAt.Sub(began)
	}
	return took
}
