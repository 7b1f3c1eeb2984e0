package migrations

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"strings"
	"text/template"

	"github.com/reservoirhq/reservoir/chstore"
)

//go:embed sql/*.sql
var embedded embed.FS

// schema is what the texts of the migrations are filled in with.
type schema struct {
	Database   string // quoted
	Archive    string // quoted
	cluster    string
	replicated bool
}

// OnCluster goes behind the name of what a statement makes or drops.
func (s schema) OnCluster() string {
	if s.cluster == "" {
		return ""
	}
	return " ON CLUSTER " + chstore.Identifier(s.cluster)
}

// Replacing is the engine that keeps the row of a key with the highest version, or any
// of them for "".
func (s schema) Replacing(version string) string { return s.engine("ReplacingMergeTree", version) }

func (s schema) engine(name, arg string) string {
	if !s.replicated {
		return name + "(" + arg + ")"
	}
	args := `'/clickhouse/tables/{uuid}/{shard}', '{replica}'`
	if arg != "" {
		args += ", " + arg
	}
	return "Replicated" + name + "(" + args + ")"
}

// texts are the embedded migrations, filled in.
type texts struct {
	fs.FS
	schema schema
}

// migrationFS returns the migrations of a schema as goose reads them.
func migrationFS(s schema) (fs.FS, error) {
	sub, err := fs.Sub(embedded, "sql")
	if err != nil {
		return nil, fmt.Errorf("read the migrations: %w", err)
	}
	return texts{sub, s}, nil
}

// Open implements fs.FS.
func (t texts) Open(name string) (fs.File, error) {
	file, err := t.FS.Open(name)
	if err != nil || !strings.HasSuffix(name, ".sql") {
		return file, err
	}
	raw, err := fs.ReadFile(t.FS, name)
	if err != nil {
		return nil, err
	}
	tmpl, err := template.New(name).Option("missingkey=error").Parse(string(raw))
	if err != nil {
		return nil, fmt.Errorf("read migration %s: %w", name, err)
	}
	var text bytes.Buffer
	if err := tmpl.Execute(&text, t.schema); err != nil {
		return nil, fmt.Errorf("fill in migration %s: %w", name, err)
	}
	return &textFile{File: file, text: &text}, nil
}

// textFile is a file with another text.
type textFile struct {
	fs.File
	text *bytes.Buffer
}

// Read implements fs.File.
func (f *textFile) Read(b []byte) (int, error) { return f.text.Read(b) }
