package doctor

import (
	"context"
	"fmt"
	"strings"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/projection"
)

// clickhouse tries what projections and migrations will do, where one is configured.
func (e *examination) clickhouse(ctx context.Context) {
	if e.Config.ClickHouse.URL.IsZero() {
		e.definitions(ctx, nil)
		return
	}
	db, err := e.ConnectClickHouse(ctx)
	if e.failed("connect", err, "correct the clickhouse.* keys") {
		return
	}
	defer func() { e.failed("close", db.Close(), "") }()
	server := db.Server()
	e.ok("connect", "%s answers", e.Config.ClickHouse.URL)
	e.ok("version", "ClickHouse %s, database %s", server.Version, server.Database) // Connect refuses those too old
	if e.grants(ctx, db) && !e.failed("exchange", db.TryExchange(ctx), "") {
		e.ok("exchange", "tables are exchanged in an instant")
	}
	e.migrations(ctx)
	e.definitions(ctx, db)
}

// grants says which privileges are missing; ok if none is.
func (e *examination) grants(ctx context.Context, db *chstore.Store) (ok bool) {
	lacking, err := db.MissingGrants(ctx, e.ClickHouseNeeds)
	if e.failed("grants", err, "") {
		return false
	}
	if len(lacking) == 0 {
		e.ok("grants", "user %s may do all that is needed", db.Server().User)
		return true
	}
	var what, statements []string
	for _, g := range lacking {
		what = append(what, fmt.Sprintf("%s on %s (to %s)", g.Privilege, g.On, g.For))
		statements = append(statements, g.Statement+";")
	}
	e.fail("grants", "have an administrator of ClickHouse run: "+strings.Join(statements, " "),
		"user %s lacks %s", db.Server().User, strings.Join(what, ", "))
	return false
}

// migrations says whether the tables of analysts are up to date.
func (e *examination) migrations(ctx context.Context) {
	list, err := e.Migrations(ctx)
	if e.failed("migrations", err, "") {
		return
	}
	var behind []string
	for _, m := range list {
		if !m.Applied {
			behind = append(behind, fmt.Sprintf("%d, %s", m.Version, m.Name))
		}
	}
	if len(behind) > 0 {
		e.warn("migrations", "run `reservoir migrate up`; without it there is no history of jobs and no view over the archive for analysts",
			"%d of %d are not applied: %s", len(behind), len(list), strings.Join(behind, "; "))
		return
	}
	e.ok("migrations", "all %d are applied", len(list))
}

// definitions reads the projections and, with a connection, has the engine try them.
func (e *examination) definitions(ctx context.Context, db *chstore.Store) {
	e.area = "projections"
	dir := e.Config.Projections.Dir
	if dir == "" {
		return
	}
	set, err := e.Projections()
	if e.failed("definitions", err, "docs/projections.md explains the format") {
		return
	}
	e.ok("definitions", "%d in %s", set.Len(), dir)
	if db == nil {
		e.warn("clickhouse", "set clickhouse.url", "there are projections, and no ClickHouse to build them in")
		return
	}
	for d := range set.All() {
		if d.Kind == projection.Fold && e.Config.Projections.State == "" {
			e.fail(d.Name, "set projections.state to a directory on local disk", "it is a fold, and there is no directory for its states")
			continue
		}
		if !e.failed(d.Name, projection.CheckEngine(ctx, db, d), "`reservoir projections validate` shows the same") {
			e.ok(d.Name, "ClickHouse takes it")
		}
	}
}
