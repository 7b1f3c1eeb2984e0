package chstore

import (
	"encoding/json"
	"fmt"
)

// Mark says in a table's comment what the table is. It travels with the table when it
// is renamed or exchanged.
type Mark struct {
	// Projection is the name of the projection that the table belongs to.
	Projection string `json:"projection"`
	// Generation is the number of the build, from 1.
	Generation int `json:"generation"`
	// Rebuild is the ID of the job that made the table.
	Rebuild string `json:"rebuild,omitempty"`
	// Digest is that of the definition.
	Digest string `json:"digest,omitempty"`
	// Role is "" for a table that is to be live, else what it is for: "staging", "preview".
	Role string `json:"role,omitempty"`
}

// IsZero reports whether the table has no mark.
func (m Mark) IsZero() bool { return m == Mark{} }

// Comment returns the text of the table's comment.
func (m Mark) Comment() (string, error) {
	b, err := json.Marshal(struct {
		Reservoir Mark `json:"reservoir"`
	}{m})
	if err != nil {
		return "", fmt.Errorf("write the mark of a table: %w", err)
	}
	return string(b), nil
}

// ParseMark reads a table's comment. A comment that is not ours gives the zero Mark.
func ParseMark(comment string) Mark {
	var c struct {
		Reservoir Mark `json:"reservoir"`
	}
	if json.Unmarshal([]byte(comment), &c) != nil {
		return Mark{}
	}
	return c.Reservoir
}

func (m Mark) String() string {
	if m.IsZero() {
		return "no table of a projection"
	}
	return fmt.Sprintf("generation %d of %s", m.Generation, m.Projection)
}
