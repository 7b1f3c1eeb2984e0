package migrations

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/reservoirhq/reservoir/chstore"
)

// insert puts rows into a table as one block: readers see all of them or none.
func (m *Migrator) insert(ctx context.Context, table string, columns []string, rows [][]any) (err error) {
	if len(rows) == 0 {
		return nil
	}
	doing := fmt.Sprintf("write %d rows of %s", len(rows), table)
	tx, err := m.db.BeginTx(ctx, nil)
	if err != nil {
		return m.failed(doing, err)
	}
	defer func() {
		if err != nil {
			err = m.failed(doing, errors.Join(err, ignoreDone(tx.Rollback())))
		}
	}()
	statement, err := tx.PrepareContext(ctx, "INSERT INTO "+m.table(table)+" ("+chstore.Identifiers(columns)+")")
	if err != nil {
		return err
	}
	for _, row := range rows {
		if _, err := statement.ExecContext(ctx, row...); err != nil {
			return errors.Join(err, statement.Close())
		}
	}
	return tx.Commit()
}

func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return err
}

// table names one of our tables.
func (m *Migrator) table(name string) string {
	return m.schema.Database + "." + chstore.Identifier(name)
}

// each calls row for every row of a SELECT.
func (m *Migrator) each(ctx context.Context, doing, selection string, row func(*sql.Rows) error) (err error) {
	rows, err := m.db.QueryContext(ctx, selection)
	if err != nil {
		return m.failed(doing, err)
	}
	defer func() { err = m.failed(doing, errors.Join(err, rows.Err(), rows.Close())) }()
	for rows.Next() {
		if err := row(rows); err != nil {
			return err
		}
	}
	return nil
}

// revision is that of what is seen now, and higher than the one it replaces whatever
// the clocks say.
func revision(now time.Time, before uint64) uint64 {
	return max(uint64(max(now.UnixMicro(), 0)), before+1)
}

// text keeps a value within what a column of text is to hold.
func text(s string) string { return strings.ToValidUTF8(s, "�") }
