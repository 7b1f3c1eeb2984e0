package chstore

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/reservoirhq/reservoir/internal/remedy"
)

// The oldest ClickHouse that is known to do what is needed here.
const (
	minMajor = 24
	minMinor = 8
)

// ErrTooOld is wrapped by Connect for a server that is older than 24.8.
var ErrTooOld = errors.New("server is too old")

// Store is a connection to one ClickHouse, in the name of one job. It is safe for
// concurrent use.
type Store struct {
	conn   driver.Conn
	http   bool
	config Config
	server Server
	known  clickhouse.Settings // those of ours that the server knows, see settings.go
	job    string
	values map[string]any // see With
}

// Server is what a server says of itself.
type Server struct {
	Version  string // such as "26.7.2.1"
	Host     string
	Database string // that unnamed tables are in
	User     string
	// Unknown are the settings that this package sends to servers that know them, and
	// that this one does not.
	Unknown []string
}

// Connect connects, looks at the version, and finds out which settings the server
// knows. An error is ErrUnreachable, ErrDenied or ErrTooOld.
func Connect(ctx context.Context, config Config) (*Store, error) {
	opts, err := config.options()
	if err != nil {
		return nil, err
	}
	conn, err := clickhouse.Open(opts)
	if err != nil {
		return nil, fmt.Errorf("connect to ClickHouse: %w", err)
	}
	s := &Store{conn: conn, http: opts.Protocol == clickhouse.HTTP, config: config, job: "none"}
	s.server.Database, s.server.User = opts.Auth.Database, opts.Auth.Username
	if err := s.probe(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("connect to ClickHouse: %w", err), conn.Close())
	}
	return s, nil
}

// Close ends all connections. Stores made of this one by As end with it.
func (s *Store) Close() error { return s.conn.Close() }

// As returns a Store that shares the connections and whose statements have IDs that
// begin with reservoir/<job>/, see Kill.
func (s *Store) As(job string) *Store {
	as := *s
	as.job = job
	return &as
}

// With returns a Store that shares the connections and binds these values wherever a
// statement names them, as {name:Type}.
func (s *Store) With(values map[string]any) *Store {
	with := *s
	with.values = values
	return &with
}

// Server returns what the server said of itself when it was connected to.
func (s *Store) Server() Server { return s.server }

// Table names a table in the database of the connection.
func (s *Store) Table(name string) Table { return Table{Database: s.server.Database, Name: name} }

// Ping asks the server whether it is there.
func (s *Store) Ping(ctx context.Context) error {
	return s.failed("reach ClickHouse", s.conn.Ping(ctx))
}

func (s *Store) probe(ctx context.Context) error {
	version, err := s.conn.ServerVersion()
	if err != nil {
		return s.failed("ask for the version", err)
	}
	v := version.Version
	if v.Major < minMajor || v.Major == minMajor && v.Minor < minMinor {
		return remedy.Wrapf(fmt.Errorf("%w: %d.%d.%d", ErrTooOld, v.Major, v.Minor, v.Patch), "Upgrade ClickHouse to %d.%d or newer.", minMajor, minMinor)
	}
	row := s.conn.QueryRow(ctx, "SELECT version(), hostName()")
	if err := row.Scan(&s.server.Version, &s.server.Host); err != nil {
		return s.failed("ask for the version", err)
	}
	return s.probeSettings(ctx)
}

// probeSettings keeps of the settings that are to be sent those that the server knows.
func (s *Store) probeSettings(ctx context.Context) error {
	ours := allSettings()
	names := make([]string, 0, len(ours))
	for name := range ours {
		names = append(names, name)
	}
	rows, err := s.conn.Query(ctx, "SELECT name FROM system.settings WHERE name IN ("+Literals(names)+")")
	if err != nil {
		return s.failed("ask for the settings", err)
	}
	s.known = clickhouse.Settings{}
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return errors.Join(s.failed("ask for the settings", err), rows.Close())
		}
		s.known[name] = true
		delete(ours, name)
	}
	for name := range maps.Keys(ours) {
		s.server.Unknown = append(s.server.Unknown, name)
	}
	return s.failed("ask for the settings", errors.Join(rows.Err(), rows.Close()))
}
