package replay

import (
	"context"
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
	switch {
	case r.spec.DeadLettersOf != "":
		s.source, err = newLetterSource(ctx, r.svc.opts.Jobs.Files(r.spec.DeadLettersOf), r.spec.DeadLetters, r.cp.From)
	default:
		s.source, err = newMergeSource(ctx, r.svc.opts.Archive, r.frozen.Streams, filter, r.spec.Order, r.cp.From)
	}
	return s, err
}
