package chstore

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Seal tells what a table is made of at a moment: its active parts. Merges do not break
// it, whatever the engine makes of the rows; what is added or taken away, and what a
// mutation changes, does. Nothing of the table is read for it.
type Seal struct {
	Parts []Part `json:"parts"`
}

// Part is a part of a table: which blocks it holds, in their numbering by partition, and
// which mutation it has seen.
type Part struct {
	Partition string `json:"partition"`
	First     int64  `json:"first"`
	Last      int64  `json:"last"`
	Mutation  int64  `json:"mutation,omitempty"`
	// Deleted says that rows of it are deleted, and that perhaps none is left: when a merge
	// finds that, the part is gone.
	Deleted bool `json:"deleted,omitempty"`

	name string
}

// Seal returns the seal of a table as it is.
func (s *Store) Seal(ctx context.Context, table Table) (Seal, error) {
	var seal Seal
	if table.Database == "" {
		table.Database = s.server.Database
	}
	err := s.query(ctx, &statement{
		what: "parts", doing: "list the parts of " + table.Name,
		text: "SELECT partition_id, min_block_number, max_block_number, has_lightweight_delete, name FROM system.parts WHERE active AND database = " + Literal(table.Database) +
			" AND table = " + Literal(table.Name) + " ORDER BY partition_id, min_block_number",
	}, func(rows driver.Rows) error {
		var p Part
		var deleted uint8
		if err := rows.Scan(&p.Partition, &p.First, &p.Last, &deleted, &p.name); err != nil {
			return err
		}
		p.Deleted = deleted != 0
		p.Mutation = mutationOf(p.name, p.Partition)
		seal.Parts = append(seal.Parts, p)
		return nil
	})
	return seal, err
}

// SealLeft is Seal, and looks into parts of which rows are deleted: those that have others
// left are not to be gone either. What marks the deleted rows is read for it.
func (s *Store) SealLeft(ctx context.Context, table Table) (Seal, error) {
	seal, err := s.Seal(ctx, table)
	for err == nil && slices.ContainsFunc(seal.Parts, func(p Part) bool { return p.Deleted }) {
		var left map[string]bool
		if left, err = s.partsLeft(ctx, table); err != nil {
			break
		}
		for i := range seal.Parts {
			seal.Parts[i].Deleted = seal.Parts[i].Deleted && !left[seal.Parts[i].name]
		}
		var now Seal
		if now, err = s.Seal(ctx, table); err != nil || seal.all(now, func(p Part) bool { return p.Deleted }) {
			break
		}
		seal = now // parts were merged before it was looked into them
	}
	return seal, err
}

// all says whether those parts that meet a condition are parts of a later seal as they are.
func (s Seal) all(later Seal, those func(Part) bool) bool {
	return !slices.ContainsFunc(s.Parts, func(p Part) bool {
		return those(p) && !slices.ContainsFunc(later.Parts, func(l Part) bool { return l.name == p.name })
	})
}

// partsLeft names the parts from which rows are deleted, but not all.
func (s *Store) partsLeft(ctx context.Context, table Table) (map[string]bool, error) {
	left := map[string]bool{}
	return left, s.query(ctx, &statement{
		what: "parts", doing: "look for rows that are left in the parts of " + table.Name, settings: s.latest(),
		text: "SELECT DISTINCT _part FROM " + table.String() + " WHERE _part IN (SELECT name FROM system.parts WHERE active AND has_lightweight_delete AND " + s.part(table) + ")",
	}, func(rows driver.Rows) error {
		var name string
		err := rows.Scan(&name)
		left[name] = true
		return err
	})
}

// mutationOf reads the name of a part: partition_first_last_level[_mutation].
func mutationOf(name, partition string) int64 {
	fields := strings.Split(strings.TrimPrefix(name, partition+"_"), "_")
	if len(fields) < 4 {
		return 0
	}
	mutation, err := strconv.ParseInt(fields[3], 10, 64)
	if err != nil {
		return 0
	}
	return mutation
}

// Missing says what of the seal is not in a later one of the same table, "" when all is.
func (s Seal) Missing(later Seal) string {
	for _, p := range s.Parts {
		if !p.Deleted && !slices.ContainsFunc(later.Parts, func(l Part) bool { return l.Partition == p.Partition && l.First <= p.First && p.Last <= l.Last }) {
			return fmt.Sprintf("blocks %d to %d of partition %s are gone", p.First, p.Last, p.Partition)
		}
	}
	return ""
}

// Broken says what has happened to a table since the seal, by a later one; "" when at most
// parts were merged.
func (s Seal) Broken(later Seal) string {
	if gone := s.Missing(later); gone != "" {
		return gone
	}
	for _, l := range later.Parts {
		var last, mutation int64 = -1, 0
		for _, p := range s.Parts {
			if p.Partition == l.Partition {
				last, mutation = max(last, p.Last), max(mutation, p.Mutation)
			}
		}
		switch {
		case l.Last > last:
			return fmt.Sprintf("blocks were added to partition %s", l.Partition)
		case l.Mutation > mutation:
			return fmt.Sprintf("rows of partition %s were changed", l.Partition)
		}
	}
	return ""
}

// cleaning is a mutation that Clean makes.
var cleaning = regexp.MustCompile(`^\(?(UPDATE _row_exists = 0|DELETE) WHERE \(?` + ChunkColumn + ` = \d+\)?(, )?\)?$`)

// Mutations returns the commands of mutations of a table that are not Clean's own, the
// ones that the server remembers, oldest first: of a table that nobody changed there are
// none.
func (s *Store) Mutations(ctx context.Context, table Table) ([]string, error) {
	if table.Database == "" {
		table.Database = s.server.Database
	}
	var commands []string
	err := s.query(ctx, &statement{
		what: "mutations", doing: "list the mutations of " + table.Name,
		text: "SELECT command FROM system.mutations WHERE database = " + Literal(table.Database) + " AND table = " + Literal(table.Name) + " ORDER BY create_time, mutation_id",
	}, func(rows driver.Rows) error {
		var command string
		if err := rows.Scan(&command); err != nil {
			return err
		}
		if !cleaning.MatchString(strings.ReplaceAll(command, "`", "")) {
			commands = append(commands, command)
		}
		return nil
	})
	return commands, err
}

// Strangers returns how many rows of a table have numbers that are not from first to
// last; where rows are added up, how many count as none.
func (s *Store) Strangers(ctx context.Context, table Info, first, last uint64) (rows uint64, err error) {
	strange := Identifier(ChunkColumn) + " < " + number(first) + " OR " + Identifier(ChunkColumn) + " > " + number(last)
	if table.Kind == Adding {
		strange = Identifier(EventsColumn) + " = 0"
	}
	err = s.scan(ctx, &statement{
		what: "prove", doing: "look for strange rows in " + table.Table.Name, settings: s.latest(),
		text: "SELECT count() FROM " + table.Table.String() + " WHERE " + strange,
	}, &rows)
	return rows, err
}
