package app

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"time"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/httpapi/api"
	"github.com/reservoirhq/reservoir/httpapi/token"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/rebuild"
	"github.com/reservoirhq/reservoir/replay"
)

// keyOf is the idempotency key of a request: that of the person, or one by which this
// command can send it again.
func keyOf(given string) string {
	if given == "" {
		return "cli-" + rand.Text()
	}
	return given
}

func (r *remote) parseTarget(target string, options map[string]string) (replay.SinkSpec, error) {
	return replay.ParseTarget(r.sinks, target, options)
}

func (r *remote) createReplay(ctx context.Context, spec replay.Spec, opts replay.CreateOptions) (*jobs.Job, error) {
	if err := spec.Validate(time.Now()); err != nil {
		return nil, err // in the words of the command line
	}
	request := api.NewReplay{Name: opts.Name, Reason: opts.Reason, Paused: opts.Paused, Spec: spec}
	p := api.CreateReplayParams{IdempotencyKey: keyOf(opts.IdempotencyKey)}
	return r.askJob(ctx, call{role: token.Operator, send: func() (*http.Response, error) { return r.api.CreateReplay(ctx, &p, request) }})
}

func (r *remote) estimateReplay(ctx context.Context, spec replay.Spec, opts replay.EstimateOptions) (*replay.Estimate, error) {
	check := spec
	check.Sink.Type = cmp.Or(check.Sink.Type, "none") // it is optional here
	if err := check.Validate(time.Now()); err != nil {
		return nil, err
	}
	events := opts.Events
	switch {
	case events == 0:
		events = 3 // as the bucket has it
	case events < 0:
		events = 0
	}
	p := api.EstimateReplayParams{Sample: opts.Sample, Events: events}
	return ask[replay.Estimate](ctx, r, call{role: token.Viewer, send: func() (*http.Response, error) { return r.api.EstimateReplay(ctx, &p, spec) }})
}

func (r *remote) createRebuild(ctx context.Context, spec rebuild.Spec, opts rebuild.CreateOptions) (*jobs.Job, error) {
	request := api.NewRebuild{Name: opts.Name, Reason: opts.Reason, Paused: opts.Paused, Spec: spec}
	p := api.CreateRebuildParams{IdempotencyKey: keyOf(opts.IdempotencyKey)}
	return r.askJob(ctx, call{role: token.Operator, missing: projection.ErrUnknown, send: func() (*http.Response, error) {
		return r.api.CreateRebuild(ctx, &p, request)
	}})
}

func (r *remote) rollBack(ctx context.Context, name string, opts rebuild.RollbackOptions) (*rolledBack, error) {
	p := api.RollbackProjectionParams{To: int64(opts.To), Damaged: opts.Damaged} //nolint:gosec // a number of a table
	once := opts.To == 0                                                         // else a repeat finds it live, which is no error
	v, err := ask[api.ProjectionSummary](ctx, r, call{role: token.Operator, missing: projection.ErrUnknown, once: once, send: func() (*http.Response, error) {
		return r.api.RollbackProjection(ctx, name, &p)
	}})
	if err != nil {
		return nil, err
	}
	back := &rolledBack{Name: v.Name}
	back.Live.Generation, back.Live.LiveAt = uint64(v.Generation), v.LiveAt //nolint:gosec // a count
	return back, nil
}

// errNotVerified is "not found" where a rebuild has not come to its verification.
var errNotVerified = errors.New("rebuild has not come to its verification")

func (r *remote) verification(ctx context.Context, id string) (*rebuild.Verification, error) {
	v, err := ask[api.Verification](ctx, r, call{role: token.Viewer, missing: errNotVerified, send: func() (*http.Response, error) { return r.api.GetVerification(ctx, id) }})
	if errors.Is(err, errNotVerified) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := &rebuild.Verification{
		Time: v.Time, Chunks: v.Chunks, Events: uint64(v.Events), Rows: uint64(v.Rows), Carried: uint64(v.Carried), Letters: uint64(v.DeadLetters), //nolint:gosec // counts
		Checks: v.Checks, Difference: asDifference(&v.Difference), Warnings: v.Warnings,
	}
	for _, d := range v.Dependents {
		out.Dependents = append(out.Dependents, rebuild.DependentVerification{Table: d.Table, Rows: uint64(d.Rows), Difference: asDifference(&d.Difference)}) //nolint:gosec // a count
	}
	return out, nil
}

// asDifference gives a difference, nil where there is none: one always has samples,
// none at least.
func asDifference(v *api.TableDifference) *chstore.Diff {
	if v.Samples == nil {
		return nil
	}
	d := &chstore.Diff{
		OldRows: uint64(v.OldRows), NewRows: uint64(v.NewRows), Same: uint64(v.Same), Added: uint64(v.Added), Removed: uint64(v.Removed), Changed: uint64(v.Changed), //nolint:gosec // counts
		OldColumns: v.OldColumns, NewColumns: v.NewColumns,
	}
	for _, s := range v.Samples {
		d.Samples = append(d.Samples, chstore.Difference{Kind: string(s.Kind), Old: s.Old, New: s.New})
	}
	return d
}
