package migrations

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/reservoirhq/reservoir/chstore"
)

// DefaultRole is the default of RolesSpec.Role.
const DefaultRole = "reservoir_analyst"

// RolesSpec says which roles there are to be.
type RolesSpec struct {
	// Role may read everything and change nothing; default "reservoir_analyst".
	Role string
	// Tenants each get a role of their own, Role_<tenant>, which reads only the tables
	// and views that have the column Column, and there only the tenant's rows.
	Tenants []string
	// Column is the name of that column; default "tenant".
	Column string
}

func (s *RolesSpec) defaults() error {
	if s.Role == "" {
		s.Role = DefaultRole
	}
	if s.Column == "" {
		s.Column = "tenant"
	}
	for _, tenant := range s.Tenants {
		if tenant == "" {
			return errors.New("a tenant has no name")
		}
	}
	return nil
}

// Roles returns the statements that make the roles of analysts. Each may be issued
// again: when there are new tables they are to be. They change nothing yet; see Apply.
func (m *Migrator) Roles(ctx context.Context, spec RolesSpec) ([]string, error) {
	if err := spec.defaults(); err != nil {
		return nil, err
	}
	on, role := m.schema.OnCluster(), chstore.Identifier(spec.Role)
	statements := []string{
		"CREATE ROLE IF NOT EXISTS " + role + on,
		// 2: settings may be changed, as clients do, and nothing else.
		"CREATE SETTINGS PROFILE IF NOT EXISTS " + role + on + " SETTINGS readonly = 2 TO " + role,
		"GRANT" + on + " SELECT ON " + m.schema.Database + ".* TO " + role,
		"GRANT" + on + " SELECT ON " + m.schema.Archive + ".* TO " + role,
	}
	if len(spec.Tenants) == 0 {
		return statements, nil
	}
	tables, err := m.tenantTables(ctx, spec.Column)
	if err != nil {
		return nil, err
	}
	var user string
	if err := m.db.QueryRowContext(ctx, "SELECT currentUser()").Scan(&user); err != nil {
		return nil, m.failed("ask for the user", err)
	}
	// With a policy on a table, who has none there may see no row of it.
	for _, table := range tables {
		statements = append(statements, "CREATE ROW POLICY OR REPLACE "+chstore.Identifier(spec.Role+"_all")+on+" ON "+table.String()+
			" USING 1 TO "+role+", "+chstore.Identifier(user))
	}
	for _, tenant := range spec.Tenants {
		name := chstore.Identifier(spec.Role + "_" + tenant)
		statements = append(statements, "CREATE ROLE IF NOT EXISTS "+name+on,
			"CREATE SETTINGS PROFILE IF NOT EXISTS "+name+on+" SETTINGS readonly = 2 TO "+name)
		for _, table := range tables {
			// The policy comes first: what is granted is never seen without it.
			statements = append(statements,
				"CREATE ROW POLICY OR REPLACE "+name+on+" ON "+table.String()+" USING "+chstore.Identifier(spec.Column)+" = "+chstore.Literal(tenant)+" TO "+name,
				"GRANT"+on+" SELECT ON "+table.String()+" TO "+name)
		}
	}
	return statements, nil
}

// tenantTables returns the tables of projections and the views that have a column:
// those that are live, and not what a rebuild builds or keeps.
func (m *Migrator) tenantTables(ctx context.Context, column string) ([]chstore.Table, error) {
	var tables []chstore.Table
	err := m.each(ctx, "look for tables with the column "+column, "SELECT database, table FROM system.columns WHERE name = "+chstore.Literal(column)+
		" AND database IN ("+chstore.Literals([]string{m.database, m.archive})+") AND NOT match(table, '__g[0-9]+') AND NOT startsWith(table, '_') ORDER BY database, table",
		func(rows *sql.Rows) error {
			var t chstore.Table
			if err := rows.Scan(&t.Database, &t.Name); err != nil {
				return err
			}
			tables = append(tables, t)
			return nil
		})
	return tables, err
}

// Apply issues statements of Roles, in their order, and ends at the first that fails.
func (m *Migrator) Apply(ctx context.Context, statements []string) error {
	for i, statement := range statements {
		if err := m.exec(ctx, fmt.Sprintf("statement %d of %d, %q", i+1, len(statements), statement), statement); err != nil {
			return err
		}
	}
	return nil
}
