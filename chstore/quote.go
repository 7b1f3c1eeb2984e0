package chstore

import (
	"strconv"
	"strings"
)

// Table names a table.
type Table struct {
	Database string
	Name     string
}

// String returns the quoted name, ready to be part of a statement.
func (t Table) String() string {
	if t.Database == "" {
		return Identifier(t.Name)
	}
	return Identifier(t.Database) + "." + Identifier(t.Name)
}

// Identifier quotes a name of a column, table, database or cluster.
func Identifier(name string) string { return quote(name, '`') }

// Identifiers quotes names and joins them with commas.
func Identifiers(names []string) string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = Identifier(name)
	}
	return strings.Join(quoted, ", ")
}

// Literal quotes a text as a string of SQL. Every byte is kept, valid UTF-8 or not.
func Literal(text string) string { return quote(text, '\'') }

// Literals quotes texts and joins them with commas.
func Literals(texts []string) string {
	quoted := make([]string, len(texts))
	for i, text := range texts {
		quoted[i] = Literal(text)
	}
	return strings.Join(quoted, ", ")
}

const hexDigits = "0123456789abcdef"

func quote(text string, mark byte) string {
	b := make([]byte, 0, len(text)+2)
	b = append(b, mark)
	for i := range len(text) {
		switch c := text[i]; {
		case c == mark || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c == 0x7f:
			b = append(b, '\\', 'x', hexDigits[c>>4], hexDigits[c&15])
		default:
			b = append(b, c)
		}
	}
	return string(append(b, mark))
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }
