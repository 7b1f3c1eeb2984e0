package chstore

import (
	"database/sql"
	"fmt"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// OpenDB returns a handle of database/sql to the same server, for what is written
// against that, and the name of the database that config means. The handle itself is in
// the database system, which is there before any other: names must be qualified. It
// connects when it is first used.
func OpenDB(config Config) (db *sql.DB, database string, err error) {
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
	db = clickhouse.OpenDB(opts)
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db, database, nil
}

// Failed says what was being done, and makes an error of a handle of OpenDB one of
// those of this package, without the secrets. It returns nil for nil.
func Failed(doing string, err error, secrets ...string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, classify(err, secrets))
}
