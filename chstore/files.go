package chstore

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// Files are the archived Parquet files of a stream by a pattern, whichever there are
// when they are read: what a view is made of.
type Files struct {
	Stream string
	// S3 is where Pattern is; nil: Pattern is a path on the server of ClickHouse.
	S3 *S3
	// Pattern is a key with globs: <root>/{00000001,00000002}/parquet/date=*/hour=*/*.parquet.
	Pattern string
}

// Of a path: everything before the incarnation may be anything, so the last match counts.
const hivePattern = `^.*/([0-9]{8})/parquet/date=([0-9-]{10})/hour=([0-9]{2})/`

// FilesColumns are those of Select: the columns of events, and the hour of the ID, which
// is in the names of directories: a condition on date and hour rules files out before
// any of them is opened.
func FilesColumns() []Column {
	return append(EventColumns(),
		Column{Name: "date", Type: "Date", Comment: "day of the ID in UTC; conditions on it rule files out"},
		Column{Name: "hour", Type: "UInt8", Comment: "hour of the ID in UTC, 0 to 23; with date it rules files out"})
}

// Select returns a SELECT over the files, where may be over their virtual columns too.
func (f Files) Select(where string) (string, error) {
	from, err := f.from()
	if err != nil {
		return "", err
	}
	part := func(group int, typ string) string {
		return fmt.Sprintf("CAST(extractGroups(_path, %s)[%d], '%s')", Literal(hivePattern), group, typ)
	}
	columns := make([]string, 0, len(FilesColumns()))
	for _, c := range FilesColumns() {
		value := Identifier(parquetName(c.Name))
		switch c.Name {
		case "stream":
			value = Literal(f.Stream)
		case "incarnation":
			value = part(1, c.Type)
		case "date":
			value = part(2, c.Type)
		case "hour":
			value = part(3, c.Type)
		}
		columns = append(columns, value+" AS "+Identifier(c.Name))
	}
	return "SELECT " + strings.Join(columns, ", ") + " FROM " + from + " WHERE " + where, nil
}

func (f Files) from() (string, error) {
	if f.S3 != nil {
		if f.S3.Collection == "" && (f.S3.SecretKey != "" || f.S3.SessionToken != "") {
			return "", errors.New("view of the archive: keys are not written into views: name a collection")
		}
		return f.S3.function([]string{f.Pattern}, "")
	}
	if !filepath.IsAbs(f.Pattern) {
		return "", fmt.Errorf("view of %s: %w: the path is not absolute", f.Pattern, ErrNotPushable)
	}
	return "file(" + Literal(f.Pattern) + ", 'Parquet', " + Literal(structure(fileColumns())) + ")", nil
}
