package chstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// OpenDB returns a handle of database/sql to the same server, for what is written
// against that, and the name of the database that config means. The handle itself is in
// the database system, which is there before any other: names must be qualified. It
// connects when it is first used. Its statements have IDs that begin with
// reservoir/<job>/.
func OpenDB(config Config, job string) (db *sql.DB, database string, err error) {
	opts, err := config.options()
	if err != nil {
		return nil, "", err
	}
	database, opts.Auth.Database = opts.Auth.Database, "system"
	connections := opts.MaxOpenConns
	opts.MaxOpenConns, opts.MaxIdleConns = 0, 0 // database/sql has its own
	opts.Settings = clickhouse.Settings{}
	for name, value := range config.Settings {
		opts.Settings[name] = value
	}
	db = sql.OpenDB(connector{clickhouse.Connector(opts), (&Store{job: job}).queryID})
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	db.SetConnMaxLifetime(time.Hour)
	return db, database, nil
}

// connector makes connections whose statements all have IDs, each one of its own: a
// context with one would give the same to every statement that is issued under it.
type connector struct {
	driver.Connector
	id func(what string) string
}

// Connect implements driver.Connector. Over HTTP it issues a statement.
func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	opened, err := c.Connector.Connect(c.tagged(ctx, "connect"))
	if err != nil {
		return nil, err
	}
	conn, ok := opened.(client)
	if !ok {
		return nil, errors.Join(fmt.Errorf("connect to ClickHouse: a %T cannot be told which ID a statement has", opened), opened.Close())
	}
	return &taggedConn{conn, c}, nil
}

func (c connector) tagged(ctx context.Context, what string) context.Context {
	return clickhouse.Context(ctx, clickhouse.WithQueryID(c.id(what)))
}

// client is what a connection of the driver can do.
type client interface {
	session
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
}

type session interface {
	driver.Conn
	driver.Pinger
	driver.SessionResetter
	driver.NamedValueChecker
}

type taggedConn struct {
	client
	by connector
}

// ExecContext implements driver.ExecerContext.
func (c *taggedConn) ExecContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Result, error) {
	return c.client.ExecContext(c.by.tagged(ctx, "exec"), text, args)
}

// QueryContext implements driver.QueryerContext.
func (c *taggedConn) QueryContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Rows, error) {
	return c.client.QueryContext(c.by.tagged(ctx, "query"), text, args)
}

// PrepareContext implements driver.ConnPrepareContext.
func (c *taggedConn) PrepareContext(ctx context.Context, text string) (driver.Stmt, error) {
	return c.client.PrepareContext(c.by.tagged(ctx, "insert"), text)
}

// Ping implements driver.Pinger.
func (c *taggedConn) Ping(ctx context.Context) error { return c.client.Ping(c.by.tagged(ctx, "ping")) }

// Failed says what was being done, and makes an error of a handle of OpenDB one of
// those of this package, without the secrets. It returns nil for nil.
func Failed(doing string, err error, secrets ...string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, classify(err, secrets))
}
