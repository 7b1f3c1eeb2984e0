package projection

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
)

// digestVersion is raised when definitions that are the same text would make
// other tables than before.
const digestVersion = 1

// contents is what a table's rows are determined by.
type contents struct {
	Version    int           `json:"version"`
	Kind       Kind          `json:"kind"`
	Own        string        `json:"own"`
	Source     Source        `json:"source"`
	Table      Table         `json:"table"`
	Select     string        `json:"select,omitempty"`
	Function   string        `json:"function,omitempty"`
	Require    []Requirement `json:"require,omitempty"`
	Upcast     bool          `json:"upcast,omitempty"`
	Dependents []Dependent   `json:"dependents,omitempty"`
}

// Digest identifies what determines the table and its rows, events apart: two
// definitions with the same digest make the same table. Descriptions, comments,
// checks, keys, policies and the projection's name are no part of it. It is hex.
//
// A function in Go counts by its name and the definition's Version; upcasters do
// not count: add their own digest where Upcast is set.
func (d *Definition) Digest() (string, error) {
	c := contents{
		digestVersion, d.Kind, d.Version, d.Source, bare(d.Table), d.Select, d.Function, slices.Clone(d.Require), d.Upcast, slices.Clone(d.Dependents),
	}
	for i := range c.Require {
		c.Require[i].Reason = ""
	}
	for i := range c.Dependents {
		c.Dependents[i].Table = bare(c.Dependents[i].Table)
	}
	text, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("digest of projection %s: %w", d.Name, err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// bare is a table without its comments.
func bare(t Table) Table {
	t.Columns = slices.Clone(t.Columns)
	for i := range t.Columns {
		t.Columns[i].Comment = ""
	}
	return t
}
