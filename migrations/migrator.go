package migrations

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/internal/remedy"
)

// DefaultArchive is the default of Options.Archive.
const DefaultArchive = "archive"

// versionTable is where goose remembers what was applied.
const versionTable = "reservoir_migrations"

// archiveVersion is the migration that views of the archive need.
const archiveVersion = 2

// ErrBehind is wrapped when the migrations that something needs were not applied.
var ErrBehind = errors.New("migrations are not applied")

// ErrUnknown is wrapped when there is no migration of a version.
var ErrUnknown = errors.New("there is no migration")

// Options say where the tables are.
type Options struct {
	// ClickHouse says how to connect. Its database is that of the projections, and
	// holds the history of jobs. It is made if it is not there.
	ClickHouse chstore.Config
	// Archive is the database of the views over the archive; default "archive".
	Archive string
	Logger  *slog.Logger // default none
}

// Migrator keeps one ClickHouse up to date. It is safe for concurrent use.
type Migrator struct {
	db       *sql.DB
	database string // of the projections
	archive  string
	schema   schema
	secrets  []string
	logger   *slog.Logger
}

// Migration is one version of the schema.
type Migration struct {
	Version int64  `json:"version"`
	Name    string `json:"name"`
	Applied bool   `json:"applied"`
	// AppliedAt is when, by the clock of the server; zero when it is not applied.
	AppliedAt time.Time `json:"applied_at,omitzero"`
}

// Open returns a Migrator, which connects when it is first used.
func Open(opts Options) (*Migrator, error) {
	db, database, err := chstore.OpenDB(opts.ClickHouse, "migrate")
	if err != nil {
		return nil, err
	}
	m := &Migrator{db: db, database: database, archive: opts.Archive, logger: opts.Logger}
	if m.archive == "" {
		m.archive = DefaultArchive
	}
	if m.logger == nil {
		m.logger = slog.New(slog.DiscardHandler)
	}
	if m.archive == m.database {
		return nil, errors.Join(remedy.Wrapf(fmt.Errorf("views of the archive and tables of projections would be in one database, %q", m.database),
			"Name another database for one of them."), db.Close())
	}
	m.secrets = []string{opts.ClickHouse.Password}
	m.schema = schema{
		Database: chstore.Identifier(database), Archive: chstore.Identifier(m.archive),
		cluster: opts.ClickHouse.Cluster, replicated: opts.ClickHouse.Replicated,
	}
	return m, nil
}

// Close ends all connections.
func (m *Migrator) Close() error { return m.db.Close() }

// Up applies the migrations up to that version, all for 0, and returns those that it
// applied. After an error some may be applied; call it again.
func (m *Migrator) Up(ctx context.Context, to int64) ([]Migration, error) {
	if err := m.bootstrap(ctx); err != nil {
		return nil, err
	}
	provider, err := m.provider()
	if err != nil {
		return nil, err
	}
	if err := known(provider, to); err != nil {
		return nil, err
	}
	if to == 0 {
		done, err := provider.Up(ctx)
		return m.results(done, true, err)
	}
	done, err := provider.UpTo(ctx, to)
	return m.results(done, true, err)
}

// Down takes migrations back, down to that version (0: all), which itself stays, and
// returns those that it took back. The tables of projections and the databases stay.
func (m *Migrator) Down(ctx context.Context, to int64) ([]Migration, error) {
	there, err := m.exists(ctx)
	if err != nil || !there {
		return nil, err
	}
	provider, err := m.provider()
	if err != nil {
		return nil, err
	}
	if err := known(provider, to); err != nil {
		return nil, err
	}
	if to < archiveVersion {
		if err := m.dropViews(ctx); err != nil {
			return nil, err
		}
	}
	done, err := provider.DownTo(ctx, to)
	return m.results(done, false, err)
}

// Status returns all migrations, oldest first. It changes nothing.
func (m *Migrator) Status(ctx context.Context) ([]Migration, error) {
	there, err := m.exists(ctx)
	if err != nil {
		return nil, err
	}
	provider, err := m.provider()
	if err != nil {
		return nil, err
	}
	list := []Migration{}
	if !there {
		for _, source := range provider.ListSources() {
			list = append(list, Migration{Version: source.Version, Name: name(source.Path)})
		}
		return list, nil
	}
	statuses, err := provider.Status(ctx)
	if err != nil {
		return nil, m.failed("look at the migrations", err)
	}
	for _, s := range statuses {
		list = append(list, Migration{Version: s.Source.Version, Name: name(s.Source.Path), Applied: s.State == goose.StateApplied, AppliedAt: s.AppliedAt})
	}
	return list, nil
}

// require returns an error that is ErrBehind unless the version is applied.
func (m *Migrator) require(ctx context.Context, version int64) error {
	list, err := m.Status(ctx)
	if err != nil {
		return err
	}
	for _, migration := range list {
		if migration.Version == version && migration.Applied {
			return nil
		}
	}
	return remedy.Wrap(fmt.Errorf("%w: version %d", ErrBehind, version), "Run `reservoir migrate up`.")
}

// name cuts the version and the ending off the name of a file.
func name(path string) string {
	_, rest, _ := strings.Cut(path, "_")
	return strings.TrimSuffix(rest, ".sql")
}

// known refuses a version that there is no migration of.
func known(provider *goose.Provider, version int64) error {
	if version == 0 {
		return nil
	}
	sources := provider.ListSources()
	for _, source := range sources {
		if source.Version == version {
			return nil
		}
	}
	return remedy.Wrap(fmt.Errorf("%w %d: the last one is %d", ErrUnknown, version, sources[len(sources)-1].Version), "`reservoir migrate status` lists them.")
}

func (m *Migrator) provider() (*goose.Provider, error) {
	files, err := migrationFS(m.schema)
	if err != nil {
		return nil, err
	}
	p, err := goose.NewProvider(goose.DialectClickHouse, m.db, files,
		goose.WithTableName(m.schema.Database+"."+versionTable), goose.WithDisableGlobalRegistry(true), goose.WithSlog(m.logger))
	if err != nil {
		return nil, fmt.Errorf("read the migrations: %w", err)
	}
	return p, nil
}

// bootstrap makes the database and goose's table, which goose would make on one server
// of a cluster only.
func (m *Migrator) bootstrap(ctx context.Context) error {
	for _, statement := range m.bootstrapTexts() {
		if err := m.exec(ctx, "prepare for migrations", statement); err != nil {
			return err
		}
	}
	return nil
}

func (m *Migrator) bootstrapTexts() []string {
	table := m.schema.Database + "." + versionTable
	return []string{
		"CREATE DATABASE IF NOT EXISTS " + m.schema.Database + m.schema.OnCluster(),
		"CREATE TABLE IF NOT EXISTS " + table + m.schema.OnCluster() +
			" (version_id Int64, is_applied UInt8, date Date DEFAULT now(), tstamp DateTime DEFAULT now()) ENGINE = " +
			m.schema.engine("MergeTree", "") + " ORDER BY version_id COMMENT 'Which migrations are applied. Kept by Reservoir.'",
		// goose takes a table without version 0 for one that is not there.
		"INSERT INTO " + table + " (version_id, is_applied) SELECT 0, 1 WHERE (SELECT count() FROM " + table + " WHERE version_id = 0) = 0",
	}
}

// exists reports whether there is goose's table.
func (m *Migrator) exists(ctx context.Context) (bool, error) {
	var n uint64
	err := m.db.QueryRowContext(ctx, "SELECT count() FROM system.tables WHERE database = "+chstore.Literal(m.database)+
		" AND name = "+chstore.Literal(versionTable)).Scan(&n)
	return n > 0, m.failed("look at the migrations", err)
}

func (m *Migrator) results(done []*goose.MigrationResult, up bool, err error) ([]Migration, error) {
	var partial *goose.PartialError
	if errors.As(err, &partial) {
		done = partial.Applied
		version := partial.Failed.Source.Version
		err = m.failed(fmt.Sprintf("migration %d, %s", version, name(partial.Failed.Source.Path)), partial.Err)
	} else {
		err = m.failed("migrate", err)
	}
	list := []Migration{}
	for _, r := range done {
		list = append(list, Migration{Version: r.Source.Version, Name: name(r.Source.Path), Applied: up})
	}
	return list, err
}

func (m *Migrator) exec(ctx context.Context, doing, statement string) error {
	_, err := m.db.ExecContext(ctx, statement)
	return m.failed(doing, err)
}

func (m *Migrator) failed(doing string, err error) error {
	return chstore.Failed(doing, err, m.secrets...)
}
