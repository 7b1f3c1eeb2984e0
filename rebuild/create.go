package rebuild

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/projection"
)

// CreateOptions are what people say about a rebuild that they create.
type CreateOptions struct {
	Name, Reason string // for people; may be empty
	By           string // who asks
	// IdempotencyKey makes repeats of the same request give the same rebuild; "" is
	// none. The same key with another spec is jobs.ErrKeyReused.
	IdempotencyKey string
	// Paused creates the rebuild paused: it waits for Resume, or for RunOne.
	Paused bool
}

// frozenSpec is the Spec of a job, with the digest of the definition as it was.
type frozenSpec struct {
	Spec
	Digest string `json:"digest"`
}

// Create validates a spec, freezes what is archived now and the definition, and makes
// the job that rebuilds the projection. Whatever is wrong is refused before anything
// is written. The job runs when a worker finds it.
func (s *Service) Create(ctx context.Context, spec Spec, opts CreateOptions) (*jobs.Job, error) {
	asked := spec
	if opts.IdempotencyKey != "" { // what has changed since the first one must not refuse its repeat
		job, err := s.Repeated(ctx, asked, opts.IdempotencyKey)
		if !errors.Is(err, jobs.ErrNotFound) {
			return job, err
		}
	}
	d, set, digest, err := s.definition(spec.Projection)
	if err != nil {
		return nil, err
	}
	if err := spec.validate(d); err != nil {
		return nil, err
	}
	if err := s.supported(d); err != nil {
		return nil, err
	}
	sub, err := s.subject(ctx, d, set, digest)
	if err != nil {
		return nil, err
	}
	if err := s.opts.ClickHouse.CheckGrants(ctx, chstore.Needs{}); err != nil {
		return nil, err //nolint:wrapcheck // it names what is missing
	}
	if err := projection.CheckEngine(ctx, s.opts.ClickHouse, d); err != nil {
		return nil, err //nolint:wrapcheck // it names the projection
	}
	if err := s.scopable(ctx, &spec, sub); err != nil {
		return nil, err
	}
	streams, err := s.streams(ctx, d)
	if err != nil {
		return nil, err
	}
	if len(streams) == 0 {
		return nil, remedy.Wrapf(fmt.Errorf("%w: there is no stream that %s is made of: %q", ErrInvalid, d.Name, d.Source.Streams),
			"Archive the streams first, or write their names as `reservoir streams` shows them.")
	}
	filter, err := planFilter(d, &spec.Scope)
	if err != nil {
		return nil, err
	}
	plan, err := makePlan(ctx, s.opts.Archive, streams, spec.Format, filter, spec.Concurrency, spec.Rate)
	if err != nil {
		return nil, err
	}
	if err := s.mayRead(ctx, &spec, d, plan); err != nil {
		return nil, err
	}
	job, err := s.opts.Jobs.Create(ctx, jobs.New{
		Kind: Kind, Target: Target(d.Name), Name: opts.Name, Reason: opts.Reason, CreatedBy: opts.By,
		Spec: frozenSpec{spec, digest}, Request: asked, IdempotencyKey: opts.IdempotencyKey, Paused: opts.Paused,
		Files: func(ctx context.Context, _ string, files objectstore.Store) error {
			return errors.Join(putOnce(ctx, files, definitionFile, keep(d)), writePlan(ctx, files, plan))
		},
	})
	if err != nil {
		return nil, fmt.Errorf("create rebuild: %w", err)
	}
	return job, nil
}

// Repeated returns the job that an earlier Create with the same spec and key made, whatever
// has become of the definition since. The error wraps jobs.ErrNotFound where there is none,
// and jobs.ErrKeyReused where the key was used for another spec.
func (s *Service) Repeated(ctx context.Context, spec Spec, key string) (*jobs.Job, error) {
	return s.opts.Jobs.Repeated(ctx, jobs.New{Kind: Kind, Spec: spec, IdempotencyKey: key}) //nolint:wrapcheck // it says what
}

// supported says what of a definition cannot be rebuilt.
func (s *Service) supported(d *projection.Definition) error {
	if d.Kind == projection.Fold && s.opts.StateDir == "" {
		return fmt.Errorf("%w: %s is a fold, and there is no directory for its states: set projections.state", ErrInvalid, d.Name)
	}
	return nil
}

// mayRead says whether the user of ClickHouse lacks the grant to read the archive, where
// it is to read any of it.
func (s *Service) mayRead(ctx context.Context, spec *Spec, d *projection.Definition, plan *Plan) error {
	p := &s.opts.Pushdown
	through := d.Kind != projection.SQL || spec.Way == WayGo || d.Upcast && s.opts.Upcasters.Len() > 0
	if through || !slices.ContainsFunc(plan.Chunks, func(c Chunk) bool { return c.Format == archive.Parquet }) {
		return nil
	}
	err := s.opts.ClickHouse.CheckGrants(ctx, chstore.Needs{ReadS3: p.S3 != nil, ReadFiles: p.S3 == nil && p.Dir != ""})
	if err == nil || spec.Way == WayPushdown {
		return err //nolint:wrapcheck // it names what is missing
	}
	return remedy.Wrapf(err, "%s Or have the events go through Reservoir: way go.", remedy.Of(err))
}

// planFilter is what the archive may leave out of a plan: segments without any event
// of the types, the tenants and the aggregates. Upcasters may make others.
func planFilter(d *projection.Definition, scope *Scope) (*event.Matcher, error) {
	filter := scope.prunable(d)
	if !d.Upcast {
		filter.Types = d.Source.Types
	}
	if filter.IsZero() {
		return nil, nil //nolint:nilnil // no filter
	}
	m, err := filter.Compile()
	if err != nil {
		return nil, fmt.Errorf("select the events of %s: %w", d.Name, err)
	}
	return m, nil
}

// scopable says whether a part of the live table can be rebuilt.
func (s *Service) scopable(ctx context.Context, spec *Spec, sub *subject) error {
	if spec.Scope.IsZero() {
		return nil
	}
	if sub.def.Kind == projection.Fold {
		if err := foldScopable(&spec.Scope, sub.def); err != nil {
			return err
		}
	}
	if len(sub.def.Dependents) > 0 {
		return fmt.Errorf("%w: %s has dependent tables, and those are rebuilt as a whole only", ErrInvalid, sub.def.Name)
	}
	doc, err := s.documents.Get(ctx, sub.def.Name)
	switch {
	case errors.Is(err, projection.ErrNotBuilt) || err == nil && doc.Live.Generation == 0:
		return fmt.Errorf("%w: %s has no live table of which a part could be rebuilt: rebuild it as a whole", ErrInvalid, sub.def.Name)
	case err != nil:
		return err //nolint:wrapcheck // it names the projection
	}
	live, err := s.opts.ClickHouse.Inspect(ctx, s.opts.ClickHouse.Table(sub.def.Table.Name))
	if err != nil {
		return err //nolint:wrapcheck // it names the table
	}
	for _, c := range sub.spec.Columns {
		if !slices.ContainsFunc(live.Columns, func(l chstore.Column) bool { return l.Name == c.Name }) {
			return fmt.Errorf("%w: the live table of %s has no column %s, so its rows cannot be carried over: rebuild it as a whole", ErrInvalid, sub.def.Name, c.Name)
		}
	}
	if live.Kind != sub.kind {
		return fmt.Errorf("%w: the engine of %s has changed, so its rows cannot be carried over: rebuild it as a whole", ErrInvalid, sub.def.Name)
	}
	return s.rounded(ctx, &spec.Scope, sub.def)
}

// Plan gives what a rebuild loads, as it was frozen when it was created.
func (s *Service) Plan(ctx context.Context, id string) (*Plan, error) {
	return readPlan(ctx, s.opts.Jobs.Files(id))
}

// ReadSpec reads the Spec of a job.
func ReadSpec(job *jobs.Job) (*Spec, error) {
	if job.Kind != Kind {
		return nil, fmt.Errorf("%w: job %s is a %s, and no rebuild", ErrInvalid, job.ID, job.Kind)
	}
	var f frozenSpec
	if err := json.Unmarshal(job.Spec, &f); err != nil {
		return nil, fmt.Errorf("read the spec of the rebuild: %w", err)
	}
	return &f.Spec, nil
}
