package chstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

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
	return s.failed("reach ClickHouse", s.conn.Ping(s.context(ctx, &statement{what: "ping"})))
}

func (s *Store) probe(ctx context.Context) error {
	// Over HTTP a connection begins with a statement. What asks for the version has no
	// context, and so no ID for it: it finds the connection made.
	if err := s.Ping(ctx); err != nil {
		return err
	}
	version, err := s.conn.ServerVersion()
	if err != nil {
		return s.failed("ask for the version", err)
	}
	v := version.Version
	if v.Major < minMajor || v.Major == minMajor && v.Minor < minMinor {
		return remedy.Wrapf(fmt.Errorf("%w: %d.%d.%d", ErrTooOld, v.Major, v.Minor, v.Patch), "Upgrade ClickHouse to %d.%d or newer.", minMajor, minMinor)
	}
	if err := s.scan(ctx, &statement{what: "probe", doing: "ask for the version", text: "SELECT version(), hostName()"}, &s.server.Version, &s.server.Host); err != nil {
		return err
	}
	return s.probeSettings(ctx)
}

// probeSettings keeps of the settings that are to be sent those that the server knows.
func (s *Store) probeSettings(ctx context.Context) error {
	ours := allSettings()
	known := clickhouse.Settings{}
	err := s.query(ctx, &statement{
		what: "probe", doing: "ask for the settings",
		text: "SELECT name FROM system.settings WHERE name IN (" + Literals(slices.Collect(maps.Keys(ours))) + ")",
	}, func(rows driver.Rows) error {
		var name string
		if err := rows.Scan(&name); err != nil {
			return err
		}
		known[name] = true
		delete(ours, name)
		return nil
	})
	if err != nil {
		return err
	}
	s.known, s.server.Unknown = known, slices.Collect(maps.Keys(ours))
	return nil
}
