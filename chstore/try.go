package chstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/reservoirhq/reservoir/internal/remedy"
)

// ErrNoExchange is wrapped when the database cannot exchange tables.
var ErrNoExchange = errors.New("the database cannot exchange tables")

// TryExchange makes two small tables in the database of the connection, exchanges them,
// and drops them again.
func (s *Store) TryExchange(ctx context.Context) (err error) {
	var engine string
	if err := s.scan(ctx, &statement{
		what: "try", doing: "look at database " + s.server.Database,
		text: "SELECT engine FROM system.databases WHERE name = " + Literal(s.server.Database),
	}, &engine); err != nil {
		return err
	}
	spec := TableSpec{Columns: []Column{{Name: "x", Type: "UInt8"}}, Engine: "MergeTree", OrderBy: "x"}
	name := "_reservoir_try_" + strings.ToLower(rand.Text()[:10])
	live, marks := s.Table(name), [2]Mark{{Projection: name, Generation: 1, Role: "try"}, {Projection: name, Generation: 2, Role: "try"}}
	defer func() {
		for _, table := range []Table{live, live.Of(1), live.Of(2)} {
			err = errors.Join(err, s.DropTable(context.WithoutCancel(ctx), table))
		}
	}()
	if err := errors.Join(s.CreateTable(ctx, live, spec, marks[0]), s.CreateTable(ctx, live.Of(2), spec, marks[1])); err != nil {
		return err
	}
	err = s.Exchange(ctx, live, marks[1], marks[0])
	if err != nil && engine != "Atomic" && engine != "Replicated" && engine != "Shared" {
		return remedy.Wrap(fmt.Errorf("%w: its engine is %s: %w", ErrNoExchange, engine, err),
			"Make the tables in a database of engine Atomic, the default of CREATE DATABASE, and name it in clickhouse.database.")
	}
	return err
}
