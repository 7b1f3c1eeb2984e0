package migrations

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/reservoirhq/reservoir/chstore"
)

// ownCollection is the named collection that holds the keys of the archive.
const ownCollection = "reservoir_archive"

// maxViewName bounds the name of a view as the server writes it into the name of a file.
const maxViewName = 180

// viewName is the name of the view over a stream: that of the stream, unless a server
// would not take it.
func viewName(stream string) string {
	length := 0
	for i := range len(stream) {
		c := stream[i]
		if c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
			length++
		} else {
			length += 3 // it is escaped
		}
	}
	if stream != "" && length <= maxViewName && utf8.ValidString(stream) && !strings.ContainsRune(stream, 0) {
		return stream
	}
	sum := sha256.Sum256([]byte(stream))
	return "stream_" + hex.EncodeToString(sum[:8])
}

// viewMark is the comment of a view that we made.
type viewMark struct {
	Reservoir struct {
		Stream string `json:"archive_of"`
		Digest string `json:"digest"`
	} `json:"reservoir"`
}

// collection puts the keys of a bucket into a named collection, for views to name.
func (m *Migrator) collection(ctx context.Context, place *Place) error {
	if place.S3 == nil || place.S3.Collection != "" || place.S3.SecretKey == "" {
		return nil
	}
	s3 := *place.S3
	for _, statement := range m.collectionTexts(s3) {
		if _, err := m.db.ExecContext(ctx, statement); err != nil {
			return chstore.Failed("keep the keys of the archive in a named collection", err, append(m.secrets, s3.SecretKey, s3.AccessKey, s3.SessionToken)...)
		}
	}
	s3.Collection, s3.AccessKey, s3.SecretKey, s3.SessionToken = ownCollection, "", "", ""
	place.S3 = &s3
	return nil
}

func (m *Migrator) collectionTexts(s3 chstore.S3) []string {
	values := "access_key_id = " + chstore.Literal(s3.AccessKey) + ", secret_access_key = " + chstore.Literal(s3.SecretKey)
	if s3.SessionToken != "" {
		values += ", session_token = " + chstore.Literal(s3.SessionToken)
	}
	name := chstore.Identifier(ownCollection) + m.schema.OnCluster()
	return []string{"CREATE NAMED COLLECTION IF NOT EXISTS " + name + " AS " + values, "ALTER NAMED COLLECTION " + name + " SET " + values}
}

// makeView makes the view over a stream, unless it is there as it is to be. directories
// are those of the Parquet files, one of each incarnation.
func (m *Migrator) makeView(ctx context.Context, stream string, place Place, directories []string) (made bool, err error) {
	statement, err := m.viewText(stream, place, directories)
	if err != nil {
		return false, err
	}
	sum := sha256.Sum256([]byte(statement))
	var want viewMark
	want.Reservoir.Stream, want.Reservoir.Digest = text(stream), hex.EncodeToString(sum[:8])
	comment, err := json.Marshal(want)
	if err != nil {
		return false, fmt.Errorf("describe the view: %w", err)
	}
	there, err := m.comment(ctx, viewName(stream))
	if err != nil || there == string(comment) {
		return false, err
	}
	return true, m.exec(ctx, "make the view "+viewName(stream), statement+" COMMENT "+chstore.Literal(string(comment)))
}

func (m *Migrator) viewText(stream string, place Place, directories []string) (string, error) {
	files := chstore.Files{Stream: stream, S3: place.S3, Pattern: pattern(place, directories)}
	of := "stream = " + chstore.Literal(stream)
	stale := "(SELECT max(valid_until) FROM " + m.table("archive_streams") + " WHERE " + of + ") < now64(3)"
	selection, err := files.Select("_file IN (SELECT file FROM " + m.table("archive_files") + " FINAL WHERE " + of +
		" AND removed = 0 AND throwIf(" + stale + ", 'the list of archived files is too old: run reservoir migrate sync') = 0)")
	if err != nil {
		return "", err
	}
	var columns []string
	for _, c := range chstore.FilesColumns() {
		columns = append(columns, chstore.Identifier(c.Name)+" "+c.Type+" COMMENT "+chstore.Literal(c.Comment))
	}
	return "CREATE OR REPLACE VIEW " + m.schema.Archive + "." + chstore.Identifier(viewName(stream)) +
		m.schema.OnCluster() + " (" + strings.Join(columns, ", ") + ")" +
		" DEFINER = CURRENT_USER SQL SECURITY DEFINER AS " + selection, nil
}

// pattern names the Parquet files of all incarnations.
func pattern(place Place, directories []string) string {
	incarnations := make([]string, len(directories))
	for i, d := range directories {
		incarnations[i] = path.Base(path.Dir(d))
	}
	one := incarnations[0]
	if len(incarnations) > 1 {
		one = "{" + strings.Join(incarnations, ",") + "}"
	}
	key := path.Join(path.Dir(path.Dir(directories[0])), one, path.Base(directories[0]), "date=*", "hour=*", "*.parquet")
	if place.Root == "" {
		return key
	}
	return strings.TrimSuffix(place.Root, "/") + "/" + key
}

func (m *Migrator) comment(ctx context.Context, view string) (comment string, err error) {
	err = m.each(ctx, "look at the view "+view, "SELECT comment FROM system.tables WHERE database = "+chstore.Literal(m.archive)+" AND name = "+chstore.Literal(view),
		func(rows *sql.Rows) error { return rows.Scan(&comment) })
	return comment, err
}

// dropViews drops the views over the archive, and their database if nothing else is in
// it.
func (m *Migrator) dropViews(ctx context.Context) error {
	var ours []string
	others := 0
	err := m.each(ctx, "look for views over the archive", "SELECT name, comment FROM system.tables WHERE database = "+chstore.Literal(m.archive), func(rows *sql.Rows) error {
		var name, comment string
		if err := rows.Scan(&name, &comment); err != nil {
			return err
		}
		var mark viewMark
		if err := json.Unmarshal([]byte(comment), &mark); err != nil || mark.Reservoir.Digest == "" {
			others++
			return nil //nolint:nilerr // a comment that is not ours
		}
		ours = append(ours, name)
		return nil
	})
	if err != nil {
		return err
	}
	for _, name := range ours {
		if err := m.exec(ctx, "drop the view "+name, m.dropViewText(name)); err != nil {
			return err
		}
	}
	if others > 0 {
		return nil
	}
	return m.exec(ctx, "drop the database of the views", m.dropDatabaseText())
}

func (m *Migrator) dropViewText(name string) string {
	return "DROP VIEW IF EXISTS " + m.schema.Archive + "." + chstore.Identifier(name) + m.schema.OnCluster() + " SYNC"
}

func (m *Migrator) dropDatabaseText() string {
	return "DROP DATABASE IF EXISTS " + m.schema.Archive + m.schema.OnCluster() + " SYNC"
}
