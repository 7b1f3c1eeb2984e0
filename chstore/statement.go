package chstore

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/ext"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// statement is one statement on its way to the server.
type statement struct {
	what     string // becomes part of the query ID
	doing    string // begins the error
	text     string
	settings clickhouse.Settings
	tables   []*ext.Table
	values   map[string]any // that the text names as {name:Type}
	progress func(Progress)
	secrets  []string // never to be shown
}

// Progress is how far a statement is.
type Progress struct {
	ReadRows, ReadBytes uint64
	// TotalRows is how many rows it is to read, as far as the server knows yet; 0 of one of
	// Running.
	TotalRows   uint64
	WrittenRows uint64
}

const queryPrefix = "reservoir/"

// queryID returns the ID of a new statement of the store's job.
func (s *Store) queryID(what string) string {
	return s.prefix(what) + rand.Text()[:8]
}

// prefix is what the IDs of all statements begin with that do what; all of the job's
// for "".
func (s *Store) prefix(what string) string {
	if what == "" {
		return queryPrefix + s.job + "/"
	}
	return queryPrefix + s.job + "/" + strings.TrimSuffix(what, "/") + "/"
}

func (s *Store) context(ctx context.Context, st *statement) context.Context {
	settings := s.settings(st.settings)
	if len(st.tables) > 0 {
		settings = s.settings(sending(), st.settings)
	}
	if s.http {
		settings["wait_end_of_query"] = 1 // else an error after the first byte is lost
	}
	options := []clickhouse.QueryOption{clickhouse.WithQueryID(s.queryID(st.what)), clickhouse.WithSettings(settings)}
	if len(st.tables) > 0 {
		options = append(options, clickhouse.WithExternalTable(st.tables...))
	}
	if st.progress != nil {
		var sum Progress
		options = append(options, clickhouse.WithProgress(func(p *clickhouse.Progress) {
			sum.ReadRows += p.Rows
			sum.ReadBytes += p.Bytes
			sum.TotalRows += p.TotalRows
			sum.WrittenRows += p.WroteRows
			st.progress(sum)
		}))
	}
	return clickhouse.Context(ctx, options...)
}

// bound gives the values as the driver takes them. Values of users are bound wherever
// ClickHouse binds them: not in DDL, where names, comments, defaults and settings stand,
// nor in the arguments of table functions; and not in conditions that are parts of texts
// of a definition. There they are quoted: see Literal and Identifier.
func (s *Store) bound(st *statement) []any {
	args := make([]any, 0, len(st.values))
	for name, value := range st.values {
		args = append(args, clickhouse.Named(name, value))
	}
	for name, value := range s.values {
		if strings.Contains(st.text, "{"+name+":") {
			args = append(args, clickhouse.Named(name, value))
		}
	}
	return args
}

// exec issues a statement once.
func (s *Store) exec(ctx context.Context, st *statement) error {
	return s.failed(st.doing, s.conn.Exec(s.context(ctx, st), st.text, s.bound(st)...), st.secrets...)
}

// Exec issues a statement of a definition, such as a view's, once; what becomes part
// of its query ID.
func (s *Store) Exec(ctx context.Context, what, text string) error {
	return s.exec(ctx, &statement{what: what, doing: "run the statement", text: text})
}

// query issues a SELECT and calls row for every row. It tries a few times when the
// connection was lost before the first row came: reading twice does no harm.
func (s *Store) query(ctx context.Context, st *statement, row func(driver.Rows) error) error {
	const tries = 3
	for try := 1; ; try++ {
		began, err := s.queryOnce(ctx, st, row)
		err = s.failed(st.doing, err, st.secrets...)
		if err == nil || began || try == tries || !Retryable(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(time.Duration(try) * 100 * time.Millisecond):
		}
	}
}

func (s *Store) queryOnce(ctx context.Context, st *statement, row func(driver.Rows) error) (began bool, err error) {
	rows, err := s.conn.Query(s.context(ctx, st), st.text, s.bound(st)...)
	if err != nil {
		return false, err
	}
	for rows.Next() {
		began = true
		if err := row(rows); err != nil {
			return true, errors.Join(err, rows.Close())
		}
	}
	return began, errors.Join(rows.Err(), rows.Close())
}

// scan reads the only row of a SELECT.
func (s *Store) scan(ctx context.Context, st *statement, dest ...any) error {
	return s.query(ctx, st, func(rows driver.Rows) error { return rows.Scan(dest...) })
}
