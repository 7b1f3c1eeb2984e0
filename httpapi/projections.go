package httpapi

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/httpapi/api"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/rebuild"
)

// noProjections is what is said where nothing of projections is configured.
func noProjections() error {
	return notConfigured.problem("no projections are configured").withRemedy("Set projections.dir and clickhouse.url")
}

// definitions reads the definitions as they are now.
func (s *Server) definitions() (*projection.Set, error) {
	if s.opts.Definitions == nil {
		return nil, noProjections()
	}
	set, err := s.opts.Definitions()
	if err != nil {
		return nil, &problemError{
			kind: unavailable, detail: "the definitions of projections cannot be used: " + err.Error(), retryAfter: retryAfter,
			remedy: cmp.Or(s.remedy(err), "`reservoir projections validate` says what is wrong with them"), err: err,
		}
	}
	return set, nil
}

// definition returns the projection of that name, if the caller may see it.
func (s *Server) definition(ctx context.Context, name string) (*projection.Definition, error) {
	set, err := s.definitions()
	if err != nil {
		return nil, err
	}
	d, err := set.Get(name)
	if err == nil && !seesProjection(who(ctx).scope, d) {
		return nil, notFound.problem(fmt.Sprintf("there is no projection %q", name))
	}
	return d, err
}

// seesProjection reports whether all streams of a projection are within a scope.
func seesProjection(sc scope, d *projection.Definition) bool { return sc.patterns(d.Source.Streams) }

func (s *Server) seesProjectionNamed(sc scope, name string) bool {
	if len(sc.streamPatterns) == 0 {
		return true
	}
	set, err := s.definitions()
	if err != nil {
		return false
	}
	d, err := set.Get(name)
	return err == nil && seesProjection(sc, d)
}

// projectionDocument returns what is known of a projection's table; nil where it was never
// built.
func (s *Server) projectionDocument(ctx context.Context, name string) (*projection.Document, error) {
	doc, err := s.opts.Rebuilds.Documents().Get(ctx, name)
	if errors.Is(err, projection.ErrNotBuilt) {
		return nil, nil //nolint:nilnil // it was never built
	}
	return doc, err
}

func (s *Server) summary(d *projection.Definition, doc *projection.Document) (api.ProjectionSummary, error) {
	digest, err := s.opts.Digest(d)
	if err != nil {
		return api.ProjectionSummary{}, err
	}
	v := api.ProjectionSummary{
		Name: d.Name, Description: d.Description, Kind: api.ProjectionSummaryKind(d.Kind), Table: d.Table.Name, Engine: d.Table.Engine,
		Streams: d.Source.Streams, Types: d.Source.Types, Digest: digest, State: "not_built",
	}
	if doc == nil {
		return v, nil
	}
	v.UpdatedAt = doc.UpdatedAt
	if doc.Live.Generation > 0 {
		v.Generation, v.LiveAt, v.Rebuild = int64(doc.Live.Generation), doc.Live.LiveAt, doc.Live.Rebuild
	}
	switch {
	case doc.Damaged != "":
		v.State, v.Error = "damaged", doc.Damaged
	case doc.Live.Generation == 0:
	case doc.Live.Digest != digest:
		v.State = "changed"
	default:
		v.State = "live"
	}
	return v, nil
}

// ListProjections implements api.StrictServerInterface.
func (s *Server) ListProjections(ctx context.Context, _ api.ListProjectionsRequestObject) (api.ListProjectionsResponseObject, error) {
	set, err := s.definitions()
	if err != nil {
		return nil, err
	}
	list := api.ProjectionList{Projections: []api.ProjectionSummary{}}
	for d := range set.All() {
		if !seesProjection(who(ctx).scope, d) {
			continue
		}
		doc, unreadable := s.projectionDocument(ctx, d.Name)
		var damage *projection.DocumentError
		if unreadable != nil && !errors.As(unreadable, &damage) {
			return nil, unreadable
		}
		v, err := s.summary(d, doc)
		if err != nil {
			return nil, err
		}
		if damage != nil {
			v.State, v.Error = "unknown", s.opts.Redact(damage.Error())
		}
		list.Projections = append(list.Projections, v)
	}
	return api.ListProjections200JSONResponse(list), nil
}

// GetProjection implements api.StrictServerInterface.
func (s *Server) GetProjection(ctx context.Context, r api.GetProjectionRequestObject) (api.GetProjectionResponseObject, error) {
	d, err := s.definition(ctx, r.Projection)
	if err != nil {
		return nil, err
	}
	doc, err := s.projectionDocument(ctx, d.Name)
	if err != nil {
		return nil, err
	}
	summary, err := s.summary(d, doc)
	if err != nil {
		return nil, err
	}
	definition, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("encode the definition of %s: %w", d.Name, err)
	}
	v := api.Projection{
		Name: summary.Name, Description: summary.Description, Kind: api.ProjectionKind(summary.Kind), Table: summary.Table, Engine: summary.Engine,
		Streams: summary.Streams, Types: summary.Types, Digest: summary.Digest, State: summary.State, Error: summary.Error,
		Generation: summary.Generation, LiveAt: summary.LiveAt, Rebuild: summary.Rebuild, UpdatedAt: summary.UpdatedAt, Definition: definition,
		Positions: []api.ProjectionPosition{}, Previous: []api.ProjectionPrevious{}, History: []api.ProjectionHistory{},
	}
	if doc == nil {
		return api.GetProjection200JSONResponse(v), nil
	}
	fillProjection(&v, doc)
	v.Waiting.Reason = s.opts.Redact(v.Waiting.Reason)
	if who(ctx).byTenant() && doc.Waiting != nil {
		v.Waiting.Reason = "why is shown to whoever is not restricted to tenants"
	}
	if err := s.fillPositions(ctx, &v, doc); err != nil {
		return nil, err
	}
	if doc.Live.Generation > 0 && !who(ctx).byTenant() {
		info, err := s.opts.ClickHouse.Inspect(ctx, s.opts.ClickHouse.Table(d.Table.Name))
		if err != nil {
			return nil, err
		}
		rows, bytes := int64(info.Rows), int64(info.Bytes)
		v.Rows, v.Bytes = &rows, &bytes
	}
	return api.GetProjection200JSONResponse(v), nil
}

func fillProjection(v *api.Projection, doc *projection.Document) {
	for _, p := range doc.Previous {
		v.Previous = append(v.Previous, api.ProjectionPrevious{
			Generation: int64(p.Generation.Generation), Rebuild: p.Rebuild, Table: p.Table, LiveAt: p.LiveAt, RetiredAt: p.RetiredAt, DropAfter: p.DropAfter,
			Damaged: p.Damaged,
		})
	}
	for _, e := range doc.History {
		v.History = append(v.History, api.ProjectionHistory{Time: e.Time, What: e.What, Generation: int64(e.Generation), By: e.By, Message: e.Message})
	}
	if w := doc.Waiting; w != nil {
		v.Waiting = api.ProjectionWaiting{Reason: w.Reason, Since: w.Since}
	}
	if h := doc.Holder; h != nil {
		v.Holder = api.ProjectionHolder{Worker: h.Worker, Kind: string(h.Kind), Renewed: h.Renewed}
	}
}

// fillPositions says how far the table is in each stream that the caller may see, and how
// far that is behind the archive.
func (s *Server) fillPositions(ctx context.Context, v *api.Projection, doc *projection.Document) error {
	for _, stream := range slices.Sorted(maps.Keys(doc.Live.Positions)) {
		if !who(ctx).stream(stream) {
			continue
		}
		at := doc.Live.Positions[stream]
		log, err := s.opts.Archive.Log(ctx, stream)
		if err != nil {
			return err
		}
		head := projection.Position{Incarnation: log.Incarnation(), ID: log.Head()}
		v.Positions = append(v.Positions, api.ProjectionPosition{
			Stream: stream, Incarnation: at.Incarnation, ID: at.ID.String(), Head: head.ID.String(), BehindSeconds: float32(behind(at, head).Seconds()),
		})
	}
	return nil
}

// behind is the time between a position and the archive's head, by their milliseconds.
func behind(at, head projection.Position) time.Duration {
	if at.Compare(head) >= 0 || at.ID.Ms >= head.ID.Ms {
		return 0
	}
	if at.ID.IsZero() {
		at.ID = event.ID{Ms: head.ID.Ms}
	}
	return time.Duration(head.ID.Ms-at.ID.Ms) * time.Millisecond
}

// RollbackProjection implements api.StrictServerInterface.
func (s *Server) RollbackProjection(ctx context.Context, r api.RollbackProjectionRequestObject) (api.RollbackProjectionResponseObject, error) {
	d, err := s.definition(ctx, r.Projection)
	if err != nil {
		return nil, err
	}
	about(ctx, d.Name)
	doc, err := s.opts.Rebuilds.RollbackTo(ctx, d.Name, rebuild.RollbackOptions{By: who(ctx).name, To: uint64(r.Params.To), Damaged: r.Params.Damaged}) //nolint:gosec // from 1
	if err != nil {
		return nil, err
	}
	v, err := s.summary(d, doc)
	return api.RollbackProjection200JSONResponse(v), err
}

// DropGeneration implements api.StrictServerInterface.
func (s *Server) DropGeneration(ctx context.Context, r api.DropGenerationRequestObject) (api.DropGenerationResponseObject, error) {
	d, err := s.definition(ctx, r.Projection)
	if err != nil {
		return nil, err
	}
	number := uint64(r.Generation)
	about(ctx, fmt.Sprintf("%s generation %d", d.Name, number))
	if err := s.opts.Rebuilds.Drop(ctx, d.Name, number, who(ctx).name); err != nil {
		return nil, err
	}
	return api.DropGeneration204Response{}, nil
}
