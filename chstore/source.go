package chstore

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/reservoirhq/reservoir/event"
)

// ErrNotPushable is wrapped when ClickHouse cannot be told to read files itself: send
// their events as a Block.
var ErrNotPushable = errors.New("files cannot be read by ClickHouse itself")

// S3 says how ClickHouse reaches the bucket of the archive.
type S3 struct {
	// Endpoint is the URL of the service as ClickHouse reaches it; empty: AWS.
	Endpoint string
	Region   string
	Bucket   string
	// VirtualHost puts the bucket into the host's name, and not into the path.
	VirtualHost bool
	AccessKey   string
	SecretKey   string
	// SessionToken goes with temporary keys.
	SessionToken string
	// NoSign reads without credentials. With no keys and without it, ClickHouse uses
	// those of its own environment.
	NoSign bool
	// Collection is the name of a named collection at ClickHouse that holds the keys (and
	// its region, if any); the other fields of credentials are then not used.
	Collection string
}

// Source is a set of events for a SELECT to read: Parquet files of one incarnation of
// one stream that ClickHouse reads itself.
type Source struct {
	Stream      string
	Incarnation int
	// S3 is where Keys are; nil: Keys are paths of files on the server of ClickHouse.
	S3   *S3
	Keys []string
	// Range is what is wanted of the files.
	Range event.Range
	// Types are event types, whole; none: all.
	Types []string
	// Where is a condition in SQL over the columns of events, or "": a scope. What the
	// files' statistics rule out is not read.
	Where string
	// Alone has the connected server read all files itself, and no other one of
	// Config.Readers: for when one of those is down.
	Alone bool
}

func (s Source) secrets() []string {
	if s.S3 == nil {
		return nil
	}
	return []string{s.S3.SecretKey, s.S3.SessionToken, s.S3.AccessKey}
}

// relation returns the SELECT that is the relation events.
func (s Source) relation(cluster string) (string, error) {
	if len(s.Keys) == 0 {
		return "", errors.New("read files: there are none")
	}
	if s.Incarnation < 0 {
		return "", fmt.Errorf("read files: incarnation %d is out of range", s.Incarnation)
	}
	if s.Alone {
		cluster = ""
	}
	files, err := s.files(cluster)
	if err != nil {
		return "", err
	}
	var columns []string
	for _, c := range EventColumns() {
		switch c.Name {
		case "stream":
			columns = append(columns, "{"+streamValue+":String} AS stream")
		case "incarnation":
			columns = append(columns, fmt.Sprintf("toUInt32(%d) AS incarnation", s.Incarnation))
		default:
			if name := parquetName(c.Name); name != c.Name {
				columns = append(columns, name+" AS "+c.Name)
			} else {
				columns = append(columns, c.Name)
			}
		}
	}
	return filtered("SELECT "+strings.Join(columns, ", ")+" FROM "+files, s.Range, len(s.Types) > 0, s.Where), nil
}

// The names of the values that a relation is bound with.
const (
	streamValue = "reservoir_stream"
	typesValue  = "reservoir_types"
)

func (s Source) values() map[string]any {
	values := map[string]any{streamValue: s.Stream}
	if len(s.Types) > 0 {
		values[typesValue] = s.Types
	}
	return values
}

// filtered narrows a relation of events.
func filtered(relation string, r event.Range, types bool, where string) string {
	conditions := rangeConditions(r)
	if types {
		conditions = append(conditions, "type IN {"+typesValue+":Array(String)}")
	}
	if strings.TrimSpace(where) != "" {
		conditions = append(conditions, "("+where+"\n)")
	}
	if len(conditions) == 0 {
		return relation
	}
	return "SELECT * FROM (" + relation + ") WHERE " + strings.Join(conditions, " AND ")
}

// rangeConditions compares the milliseconds alone first: that is what prunes.
func rangeConditions(r event.Range) []string {
	var conditions []string
	if r.From != (event.ID{}) {
		conditions = append(conditions, fmt.Sprintf("id_ms >= %d AND (id_ms > %d OR id_seq >= %d)", r.From.Ms, r.From.Ms, r.From.Seq))
	}
	if r.To != (event.ID{}) {
		conditions = append(conditions, fmt.Sprintf("id_ms <= %d AND (id_ms < %d OR id_seq <= %d)", r.To.Ms, r.To.Ms, r.To.Seq))
	}
	return conditions
}

// fileColumns are the columns of events that lie in a file, as it calls them.
func fileColumns() []Column {
	var columns []Column
	for _, c := range EventColumns() {
		if c.Name != "stream" && c.Name != "incarnation" {
			columns = append(columns, Column{Name: parquetName(c.Name), Type: c.Type})
		}
	}
	return columns
}

func (s Source) files(cluster string) (string, error) {
	for _, key := range s.Keys {
		if strings.ContainsAny(key, "{}*?,") || strings.Contains(key, "..") {
			return "", fmt.Errorf("read %s: %w: its name has characters of a pattern", key, ErrNotPushable)
		}
	}
	if s.S3 == nil {
		return s.localFiles()
	}
	return s.S3.function(s.Keys, cluster)
}

// alternatives writes keys as one pattern that names each of them.
func alternatives(keys []string) string {
	if len(keys) == 1 {
		return keys[0]
	}
	return "{" + strings.Join(keys, ",") + "}"
}

// below is alternatives for absolute paths: the pattern begins with the directory that they
// have in common, for the server takes one that begins with a brace for relative.
func below(paths []string) string {
	if len(paths) == 1 {
		return paths[0]
	}
	common := paths[0][:strings.LastIndex(paths[0], "/")+1]
	for _, path := range paths {
		for !strings.HasPrefix(path, common) {
			common = common[:strings.LastIndex(common[:len(common)-1], "/")+1]
		}
	}
	rest := make([]string, len(paths))
	for i, path := range paths {
		rest[i] = strings.TrimPrefix(path, common)
	}
	return common + alternatives(rest)
}

func (s Source) localFiles() (string, error) {
	for _, key := range s.Keys {
		if !filepath.IsAbs(key) {
			return "", fmt.Errorf("read %s: %w: the path is not absolute", key, ErrNotPushable)
		}
	}
	return "file(" + Literal(below(s.Keys)) + ", 'Parquet', " + Literal(structure(fileColumns())) + ")", nil
}

// function writes s3(…), or s3Cluster(…) for a cluster to share the files.
func (s *S3) function(keys []string, cluster string) (string, error) {
	base, err := s.base()
	if err != nil {
		return "", err
	}
	escaped := make([]string, len(keys))
	for i, key := range keys {
		escaped[i] = (&url.URL{Path: key}).EscapedPath()
	}
	location := base + "/" + alternatives(escaped)
	var args []string
	name := "s3"
	if cluster != "" {
		name, args = "s3Cluster", append(args, Literal(cluster))
	}
	format, columns := Literal("Parquet"), Literal(structure(fileColumns()))
	switch {
	case s.Collection != "":
		args = append(args, Identifier(s.Collection), "url = "+Literal(location), "format = "+format, "structure = "+columns)
	case s.NoSign:
		args = append(args, Literal(location), "NOSIGN", format, columns)
	case s.AccessKey == "":
		args = append(args, Literal(location), format, columns)
	case s.SessionToken != "":
		args = append(args, Literal(location), Literal(s.AccessKey), Literal(s.SecretKey), Literal(s.SessionToken), format, columns)
	default:
		args = append(args, Literal(location), Literal(s.AccessKey), Literal(s.SecretKey), format, columns)
	}
	return name + "(" + strings.Join(args, ", ") + ")", nil
}

// base returns the URL of the bucket.
func (s *S3) base() (string, error) {
	endpoint := s.Endpoint
	if endpoint == "" {
		region := s.Region
		if region == "" {
			region = "us-east-1"
		}
		endpoint = "https://s3." + region + ".amazonaws.com"
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" {
		return "", fmt.Errorf("read the archive: %q is not the URL of an S3 service", s.Endpoint)
	}
	if s.VirtualHost {
		u.Host = s.Bucket + "." + u.Host
		return strings.TrimSuffix(u.String(), "/"), nil
	}
	return strings.TrimSuffix(u.String(), "/") + "/" + s.Bucket, nil
}
