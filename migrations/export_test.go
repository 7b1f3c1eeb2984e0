package migrations

import (
	"io/fs"

	"github.com/reservoirhq/reservoir/chstore"
)

// Texts returns the filled-in migrations by name.
func Texts(config chstore.Config, archive string) (map[string]string, error) {
	m, err := Open(Options{ClickHouse: config, Archive: archive})
	if err != nil {
		return nil, err
	}
	defer m.Close()
	files, err := migrationFS(m.schema)
	if err != nil {
		return nil, err
	}
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		return nil, err
	}
	texts := map[string]string{}
	for _, name := range names {
		b, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		texts[name] = string(b)
	}
	return texts, nil
}
