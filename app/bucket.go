package app

import (
	"context"
	"errors"
	"iter"

	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/rebuild"
	"github.com/reservoirhq/reservoir/replay"
)

// bucket is the backend that needs no server.
type bucket struct {
	*services
	user string
}

// openBucket opens what spec says; its caller closes it.
func (a *app) openBucket(ctx context.Context, spec servicesSpec) (*bucket, error) {
	s, err := a.openServices(ctx, spec)
	if err != nil {
		return nil, err
	}
	return &bucket{s, a.user()}, nil
}

func (b *bucket) get(ctx context.Context, id string) (*jobs.Job, error) { return b.jobs.Get(ctx, id) }

func (b *bucket) list(ctx context.Context, q jobs.Query) iter.Seq2[*jobs.Job, error] {
	return b.jobs.List(ctx, q)
}

func (b *bucket) watch(ctx context.Context, id string) iter.Seq2[*jobs.Job, error] {
	return b.jobs.Watch(ctx, id, watchEvery)
}

func (b *bucket) change(ctx context.Context, how verb, id, reason string) (*jobs.Job, error) {
	c := jobs.Change{By: b.user, Reason: reason}
	switch how {
	case pauseJob:
		return b.jobs.Pause(ctx, id, c)
	case resumeJob:
		return b.jobs.Resume(ctx, id, c)
	case cancelJob:
		return b.jobs.Cancel(ctx, id, c)
	case retryJob:
		return b.jobs.Retry(ctx, id, c)
	default:
		return rebuild.Approve(ctx, b.jobs, id, b.user)
	}
}

func (b *bucket) parseTarget(target string, options map[string]string) (replay.SinkSpec, error) {
	return b.replays.ParseTarget(target, options)
}

func (b *bucket) createReplay(ctx context.Context, spec replay.Spec, opts replay.CreateOptions) (*jobs.Job, error) {
	opts.By = b.user
	return b.replays.Create(ctx, spec, opts)
}

func (b *bucket) estimateReplay(ctx context.Context, spec replay.Spec, opts replay.EstimateOptions) (*replay.Estimate, error) {
	return b.replays.Estimate(ctx, spec, opts)
}

func (b *bucket) plan(ctx context.Context, id string) (*replay.Frozen, error) {
	return b.replays.Plan(ctx, id)
}

func (b *bucket) letters(ctx context.Context, id, after string) iter.Seq2[*replay.DeadLetter, error] {
	return b.replays.DeadLetters(ctx, id, after)
}

func (b *bucket) letter(ctx context.Context, id, key string) (*replay.DeadLetter, error) {
	return b.replays.DeadLetter(ctx, id, key)
}

func (b *bucket) retryLetters(ctx context.Context, id string, keys []string, opts replay.CreateOptions) (*jobs.Job, error) {
	opts.By = b.user
	return b.replays.RetryDeadLetters(ctx, id, keys, opts)
}

func (b *bucket) purgeLetters(ctx context.Context, id string, keys []string) (int, error) {
	return b.replays.PurgeDeadLetters(ctx, id, keys)
}

func (b *bucket) createRebuild(ctx context.Context, spec rebuild.Spec, opts rebuild.CreateOptions) (*jobs.Job, error) {
	opts.By = b.user
	return b.rebuilds.Create(ctx, spec, opts)
}

func (b *bucket) verification(ctx context.Context, id string) (*rebuild.Verification, error) {
	v, err := rebuild.ReadVerification(ctx, b.jobs.Files(id))
	if errors.Is(err, objectstore.ErrNotFound) {
		return nil, nil
	}
	return v, err
}

func (b *bucket) rollBack(ctx context.Context, name string, opts rebuild.RollbackOptions) (*rolledBack, error) {
	opts.By = b.user
	doc, err := b.rebuilds.RollbackTo(ctx, name, opts)
	if err != nil {
		return nil, err
	}
	r := &rolledBack{Name: doc.Name}
	r.Live.Generation, r.Live.LiveAt = doc.Live.Generation, doc.Live.LiveAt
	return r, nil
}
