package chstore

import (
	"context"
	"fmt"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/ext"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/reservoirhq/reservoir/event"
)

// Load says what to make of events and where to put it. One Load is one chunk: one
// statement that makes one block, which is in the table as a whole or, per partition,
// not at all; or several such, see Part.
//
// The statement is issued once. After an error that is not ErrDefinition or ErrData
// nothing is known: Kill what still runs, then Prove how many rows of the chunk are
// there. If that is not what the load is known to have written, Clean the chunk and load
// it again with another Attempt.
//
// Where rows are added up, Added tells (nobody else may write meanwhile): if it is what
// it was before, load again with another Attempt, for the token of a load that never
// came to be may be remembered all the same; if it is more by a part of the rows, load
// again with the same Attempt, which adds the partitions that are missing; and if it is
// then still not more by all of them, the table is damaged.
type Load struct {
	Into Table
	// Columns are those that Select gives, in its order.
	Columns []string
	// Select is the definition's SELECT … FROM events.
	Select string
	// Chunk is the number that the rows get. It is not used where rows are added up.
	Chunk uint64
	// Adding says that Into is a table that adds rows up: its rows get no chunk, but
	// count themselves.
	Adding bool
	// Attempt is part of the deduplication token: the same statement with the same Attempt
	// does not count twice where the table remembers the token. Raise it after Clean.
	Attempt int
	// Part tells the statements of one chunk from each other, where there are several: the
	// chunk is then there as a whole only when all of them have returned.
	Part int
	// Unproved leaves the reading back to the caller: the load returns 0 rows.
	Unproved bool
	// Guard makes the statement write nothing when a row of this chunk or a later one is
	// in the table already.
	Guard bool
	// Fence, if set, makes the statement fail when it comes too late.
	Fence *Fence
	// Wide lets the statement use this many threads to read, and then more than one
	// block: for whoever proves the load by its count alone. 0: one block.
	Wide int
	// Progress is called as the statement goes on, from one goroutine; over HTTP never.
	Progress func(Progress)

	values map[string]any // see statement
}

// chunkTag is the part of a query ID that names a chunk.
func chunkTag(chunk uint64) string { return "chunk/" + number(chunk) }

// LoadFiles loads what Select makes of files that ClickHouse reads itself. It returns
// how many rows of the chunk are in the table then, read back from it; where rows are
// added up, 0. ErrNotPushable says that a Block is needed.
func (s *Store) LoadFiles(ctx context.Context, source Source, load Load) (rows uint64, err error) {
	relation, err := source.relation(s.readers())
	if err != nil {
		return 0, err
	}
	load.values = source.values()
	return s.load(ctx, relation, load, nil, source.secrets())
}

// LoadBlock is LoadFiles for events that are sent along. A where of "" takes them all.
func (s *Store) LoadBlock(ctx context.Context, block *Block, where string, load Load) (rows uint64, err error) {
	return s.load(ctx, block.relation(where), load, []*ext.Table{block.table}, nil)
}

// readers is the cluster whose servers share the reading of files, or "".
func (s *Store) readers() string {
	if s.config.Readers != "" {
		return s.config.Readers
	}
	return s.config.Cluster
}

// relation returns the SELECT that is the relation events of a Block.
func (b *Block) relation(where string) string {
	return filtered("SELECT "+strings.Join(b.list, ", ")+" FROM "+blockTable, event.Range{}, false, where)
}

// over writes a SELECT over the relation events, or over what it names itself. The definition's text ends with a line
// of its own, in case it ends with a comment.
func over(relation, what, selection string) string {
	text := "SELECT " + what + " FROM (\n" + trimSelect(selection) + "\n)"
	if relation == "" {
		return text
	}
	return "WITH " + EventsRelation + " AS (" + relation + ")\n" + text
}

// trimSelect drops what may end a statement.
func trimSelect(text string) string { return strings.TrimRight(text, "; \t\r\n") }

func (s *Store) load(ctx context.Context, relation string, load Load, tables []*ext.Table, secrets []string) (uint64, error) {
	text, err := load.text(relation)
	if err != nil {
		return 0, err
	}
	st := statement{
		what:     chunkTag(load.Chunk),
		doing:    fmt.Sprintf("load chunk %d into %s", load.Chunk, load.Into.Name),
		text:     text,
		settings: s.loadSettings(load),
		tables:   tables,
		progress: load.Progress,
		secrets:  secrets,
		values:   load.values,
	}
	if err := s.exec(ctx, &st); err != nil {
		return 0, err
	}
	if load.Adding || load.Unproved {
		return 0, nil
	}
	return s.Prove(ctx, load.Into, load.Chunk)
}

func (load *Load) text(relation string) (string, error) {
	lineage, value := ChunkColumn, "toUInt64("+number(load.Chunk)+")"
	if load.Adding {
		lineage, value = EventsColumn, "toUInt64(1)"
	}
	text := "INSERT INTO " + load.Into.String() + " (" + Identifiers(load.Columns) + ", " + Identifier(lineage) + ")\n" +
		over(relation, "*, "+value, load.Select)
	var conditions []string
	if load.Fence != nil {
		fence, err := load.Fence.conditions(load.Into)
		if err != nil {
			return "", err
		}
		conditions = fence
	}
	if load.Guard && !load.Adding {
		conditions = append(conditions, "(SELECT count() FROM "+load.Into.String()+" WHERE "+Identifier(ChunkColumn)+" >= "+number(load.Chunk)+") = 0")
	}
	if len(conditions) > 0 {
		text += "\nWHERE " + strings.Join(conditions, "\nAND ")
	}
	return text, nil
}

func (s *Store) loadSettings(load Load) clickhouse.Settings {
	settings := oneBlock()
	settings["insert_deduplication_token"] = load.token(s.job)
	if load.Wide > 0 {
		for name, value := range manyBlocks() {
			settings[name] = value
		}
		settings["max_threads"], settings["max_insert_threads"] = load.Wide, load.Wide
		delete(settings, "min_insert_block_size_rows")
		delete(settings, "min_insert_block_size_bytes")
		delete(settings, "max_insert_block_size")
	}
	return settings
}

// token is what the table knows the statement by.
func (load *Load) token(job string) string {
	token := fmt.Sprintf("%s/%d/%d", job, load.Chunk, load.Attempt)
	if load.Part > 0 {
		token += fmt.Sprintf("/%d", load.Part)
	}
	return token
}

// TryFiles returns nil when ClickHouse can read the files of a source itself. Else it is
// ErrNotPushable, ErrDenied (local files that the server may not read too) or ErrSource.
func (s *Store) TryFiles(ctx context.Context, source Source) error {
	relation, err := source.relation(s.readers())
	if err != nil {
		return err
	}
	return s.query(ctx, &statement{
		what: "try", doing: "read the archive from ClickHouse", text: over(relation, "*", "SELECT id_ms FROM events LIMIT 1"), secrets: source.secrets(), values: source.values(),
	}, func(driver.Rows) error { return nil })
}

// Count returns how many rows a SELECT makes of files.
func (s *Store) Count(ctx context.Context, source Source, selection string) (rows uint64, err error) {
	relation, err := source.relation(s.readers())
	if err != nil {
		return 0, err
	}
	err = s.scan(ctx, &statement{what: "count", doing: "count what the SELECT gives", text: over(relation, "count()", selection), secrets: source.secrets(), values: source.values()}, &rows)
	return rows, err
}

// CountBlock is Count for a Block.
func (s *Store) CountBlock(ctx context.Context, block *Block, selection string) (rows uint64, err error) {
	err = s.scan(ctx, &statement{
		what: "count", doing: "count what the SELECT gives",
		text: over(block.relation(""), "count()", selection), tables: []*ext.Table{block.table},
	}, &rows)
	return rows, err
}

// CountRows returns how many finished rows meet a condition.
func (s *Store) CountRows(ctx context.Context, block *RowBlock, where string) (rows uint64, err error) {
	err = s.scan(ctx, &statement{
		what: "count", doing: "count rows",
		text: "SELECT count() FROM " + blockTable + " WHERE " + truth(where), tables: []*ext.Table{block.table},
	}, &rows)
	return rows, err
}
