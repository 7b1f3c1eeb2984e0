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

// OtherTexts returns the statements that are in no migration: of the version table, the
// named collection and the view of a stream.
func OtherTexts(config chstore.Config, archive, stream string, s3 chstore.S3, directories []string) ([]string, error) {
	m, err := Open(Options{ClickHouse: config, Archive: archive})
	if err != nil {
		return nil, err
	}
	defer m.Close()
	keyed := s3
	s3.Collection, s3.AccessKey, s3.SecretKey = ownCollection, "", ""
	view, err := m.viewText(stream, Place{S3: &s3, Root: "some where"}, directories)
	if err != nil {
		return nil, err
	}
	texts := append(m.bootstrapTexts(), m.collectionTexts(keyed)...)
	return append(texts, view+" COMMENT 'it''s'", m.dropViewText(viewName(stream)), m.dropDatabaseText()), nil
}
