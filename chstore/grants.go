package chstore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/reservoirhq/reservoir/internal/remedy"
)

// Grant is a privilege that the user lacks.
type Grant struct {
	Privilege string // as in GRANT
	On        string // database.* or *.*
	For       string // what cannot be done without it
	Statement string // that gives it
}

// Needs says what will be asked of the server.
type Needs struct {
	// ReadS3 and ReadFiles say that it is to read the archive itself.
	ReadS3, ReadFiles bool
}

// MissingGrants returns the privileges that the connected user lacks, each with the
// statement that gives it. It asks with CHECK GRANT and changes nothing.
func (s *Store) MissingGrants(ctx context.Context, needs Needs) ([]Grant, error) {
	var lacking []Grant
	for _, g := range s.wantedGrants(needs) {
		var has uint8
		err := s.scan(ctx, &statement{what: "grants", doing: "look at the grants", text: "CHECK GRANT " + g.Privilege + " ON " + g.On}, &has)
		switch {
		case errors.Is(err, ErrDefinition): // servers before 24.12 do not know CHECK GRANT, or the privilege
			continue
		case err != nil:
			return nil, err
		case has == 0:
			g.Statement = fmt.Sprintf("GRANT %s ON %s TO %s", g.Privilege, g.On, Identifier(s.server.User))
			lacking = append(lacking, g)
		}
	}
	return lacking, nil
}

// CheckGrants returns an error that is ErrDenied when a privilege is missing, with the
// statements that give what is missing as its remedy.
func (s *Store) CheckGrants(ctx context.Context, needs Needs) error {
	lacking, err := s.MissingGrants(ctx, needs)
	if err != nil || len(lacking) == 0 {
		return err
	}
	var privileges, statements []string
	for _, g := range lacking {
		privileges, statements = append(privileges, g.Privilege+" on "+g.On), append(statements, g.Statement+";")
	}
	return remedy.Wrapf(fmt.Errorf("user %s lacks %s: %w", s.server.User, strings.Join(privileges, ", "), ErrDenied),
		"Have an administrator of ClickHouse run: %s", strings.Join(statements, " "))
}

func (s *Store) wantedGrants(needs Needs) []Grant {
	here := Identifier(s.server.Database) + ".*"
	grants := []Grant{
		{Privilege: "SELECT", On: here, For: "prove loads and compare tables"},
		{Privilege: "INSERT", On: here, For: "load events"},
		{Privilege: "CREATE TABLE", On: here, For: "make the tables of generations"},
		{Privilege: "DROP TABLE", On: here, For: "drop old generations, and rename or exchange tables"},
		{Privilege: "ALTER DELETE", On: here, For: "delete a chunk that is in doubt"},
		{Privilege: "ALTER UPDATE", On: here, For: "delete a chunk that is in doubt"},
		{Privilege: "CREATE TEMPORARY TABLE", On: "*.*", For: "send batches of events, and read files"},
	}
	if needs.ReadS3 {
		grants = append(grants, Grant{Privilege: "S3", On: "*.*", For: "read the archive where it is"})
	}
	if needs.ReadFiles {
		grants = append(grants, Grant{Privilege: "FILE", On: "*.*", For: "read the archive where it is"})
	}
	if s.config.Cluster != "" {
		grants = append(grants, Grant{Privilege: "CLUSTER", On: "*.*", For: "make and exchange tables on all servers"},
			Grant{Privilege: "REMOTE", On: "*.*", For: "look at all servers"})
	}
	if s.config.Replicated {
		grants = append(grants, Grant{Privilege: "SYSTEM SYNC REPLICA", On: here, For: "wait for all replicas before tables are exchanged"})
	}
	return grants
}
