package replay

import (
	"context"
	"errors"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/jobs"
)

// open opens what the replay reads, after its checkpoint.
func (r *run) open(ctx context.Context) (*selector, error) {
	s := &selector{spec: &r.spec, job: r.job.ID, svc: r.svc, selected: r.cp.Selected, extractor: r.svc.opts.Mapping.Extractor()}
	filter, where, err := splitFilter(r.spec.Filter)
	if err != nil {
		return nil, err
	}
	s.where = where
	if r.spec.Upcast && r.svc.opts.Upcasters.Len() > 0 {
		s.upcaster = r.svc.opts.Upcasters.Upcaster(r.svc.opts.Mapping)
	}
	if k, ok := r.sink.(Keyer); ok {
		s.keys = k.WantsKeys()
	}
	if r.spec.DeadLettersOf != "" {
		s.source, err = newLetterSource(ctx, r.svc.opts.Jobs.Files(r.spec.DeadLettersOf), r.spec.DeadLetters, r.frozen.Streams, r.cp.From)
		return s, readError(err)
	}
	s.source, err = r.streams(ctx, filter)
	return s, err
}

// streams opens the archive, and behind it the live streams.
func (r *run) streams(ctx context.Context, filter *event.Matcher) (source, error) {
	opts := &r.svc.opts
	if r.spec.Follow && opts.Redis == nil {
		return nil, remedy.Wrap(errors.New("this worker has no redis, and cannot follow a stream"), "Set redis.url where workers run, then retry the replay.")
	}
	lap := r.cp.Lap
	follow := func(last Position) source {
		f := newFollowSource(r.frozen.Streams, last, lap)
		f.arch, f.redis, f.mapping, f.filter, f.order = opts.Archive, opts.Redis, opts.Mapping, filter, r.spec.Order
		f.waiting = func(reason string) {
			r.h.Report(func(p *jobs.Progress) { p.Holding = reason })
		}
		return f
	}
	if lap != nil {
		return follow(r.cp.From), nil
	}
	archived, err := newMergeSource(ctx, opts.Archive, r.frozen.Streams, filter, r.spec.Order, r.cp.From)
	if err != nil {
		return nil, readError(err)
	}
	if !r.spec.Follow {
		return archived, nil
	}
	return &thenSource{first: archived, then: follow, last: r.cp.From}, nil
}
