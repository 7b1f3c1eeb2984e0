package chstore

import (
	"errors"
	"fmt"
	"strings"

	"github.com/reservoirhq/reservoir/internal/remedy"
)

// Kind says what an engine does with rows of the same key.
type Kind string

const (
	// Keeping keeps every row: MergeTree.
	Keeping Kind = "keeping"
	// Replacing keeps the last row of a key, sooner or later: ReplacingMergeTree. Rows
	// that come twice do no harm.
	Replacing Kind = "replacing"
	// Adding adds rows of a key up, sooner or later: SummingMergeTree and
	// AggregatingMergeTree. A row that comes twice counts twice.
	Adding Kind = "adding"
)

// ErrEngine is wrapped for an engine whose tables cannot be rebuilt.
var ErrEngine = errors.New("engine is not supported")

// The hidden last column of every table: which chunk (or batch) a row came with, or,
// where rows are added up, how many rows of a SELECT it is made of.
const (
	ChunkColumn  = "_chunk"
	EventsColumn = "_events"
)

// Lineage returns the hidden column that a table of the kind has.
func (k Kind) Lineage() string {
	if k == Adding {
		return EventsColumn
	}
	return ChunkColumn
}

// engine is a parsed engine.
type engine struct {
	name string // without Replicated or Shared
	args string // what stands in the parentheses, without the path and name of a replica
	kind Kind
}

// EngineKind returns the kind of an engine, such as "ReplacingMergeTree(version)".
// Replicated and Shared variants are of the same kind.
func EngineKind(text string) (Kind, error) {
	e, err := parseEngine(text)
	return e.kind, err
}

func parseEngine(text string) (engine, error) {
	name, args, found := strings.Cut(strings.TrimSpace(text), "(")
	name = strings.TrimSpace(name)
	if found {
		args = strings.TrimSpace(args)
		if !strings.HasSuffix(args, ")") {
			return engine{}, fmt.Errorf("engine %q: %w: the parenthesis is not closed", text, ErrEngine)
		}
		args = strings.TrimSpace(strings.TrimSuffix(args, ")"))
	}
	plain := strings.TrimPrefix(strings.TrimPrefix(name, "Replicated"), "Shared")
	if plain != name {
		args = withoutReplica(args)
	}
	e := engine{name: plain, args: args}
	switch plain {
	case "MergeTree":
		e.kind = Keeping
	case "ReplacingMergeTree":
		e.kind = Replacing
	case "SummingMergeTree", "AggregatingMergeTree":
		e.kind = Adding
	default:
		return engine{}, remedy.Wrap(fmt.Errorf("engine %q: %w", text, ErrEngine),
			"Use MergeTree, ReplacingMergeTree, SummingMergeTree or AggregatingMergeTree.")
	}
	return e, nil
}

// withoutReplica drops the two arguments of a Replicated engine that name the replica.
func withoutReplica(args string) string {
	for range 2 {
		if !strings.HasPrefix(args, "'") {
			return args
		}
		end := strings.Index(args[1:], "'")
		if end < 0 {
			return args
		}
		args = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(args[end+2:]), ","))
	}
	return args
}

// withLineage returns the engine's arguments with the lineage column among the columns
// that it adds up, where they are listed.
func (e engine) withLineage() string {
	if e.name != "SummingMergeTree" || e.args == "" {
		return e.args
	}
	list := strings.TrimSpace(strings.TrimSuffix(strings.TrimPrefix(e.args, "("), ")"))
	return "(" + list + ", " + Identifier(EventsColumn) + ")"
}

// text writes the engine, of replicated tables on a cluster too.
func (e engine) text(replicated bool) string {
	args := e.withLineage()
	if !replicated {
		return e.name + "(" + args + ")"
	}
	replica := `'/clickhouse/tables/{uuid}/{shard}', '{replica}'`
	if args != "" {
		replica += ", " + args
	}
	return "Replicated" + e.name + "(" + replica + ")"
}
