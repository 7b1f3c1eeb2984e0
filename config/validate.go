package config

import (
	"net"
	"reflect"
	"slices"
	"strings"
)

// Validate checks what can be checked without reaching anything. The error is
// an *Error.
func (c *Config) Validate() error {
	if problems := c.problems(); len(problems) > 0 {
		return &Error{problems}
	}
	return nil
}

func (c *Config) problems() []Problem {
	var problems []Problem
	for _, k := range Keys() {
		problems = append(problems, k.check(reflect.ValueOf(c).Elem().FieldByIndex(k.index))...)
	}
	bad := func(key, value, what, want string) {
		problems = append(problems, Problem{Key: key, Value: value, What: what, Want: want})
	}
	if len(c.Archive.Formats) == 0 {
		bad("archive.formats", "", "is empty", "want jsonl, parquet or both")
	}
	if len(c.Streams.Include) == 0 {
		bad("streams.include", "", "is empty", `want at least one pattern; "*" is every stream`)
	}
	if c.Archive.Poll.MaxInterval < c.Archive.Poll.Interval {
		bad("archive.poll.max_interval", c.Archive.Poll.MaxInterval.String(), "is less than archive.poll.interval", "want at least "+c.Archive.Poll.Interval.String())
	}
	if (c.Redis.TLS.CertFile == "") != (c.Redis.TLS.KeyFile == "") {
		bad("redis.tls", "", "only one of cert_file and key_file is set", "want both or neither")
	}
	if (c.ClickHouse.TLS.CertFile == "") != (c.ClickHouse.TLS.KeyFile == "") {
		bad("clickhouse.tls", "", "only one of cert_file and key_file is set", "want both or neither")
	}
	if (c.ClickHouse.S3.AccessKey == "") != c.ClickHouse.S3.SecretKey.IsZero() {
		bad("clickhouse.s3.access_key", "", "only one of access_key and secret_key is set", "want both, or neither for those of store")
	}
	if c.ClickHouse.Replicated && c.ClickHouse.Cluster == "" {
		bad("clickhouse.replicated", "true", "is set without clickhouse.cluster", "want the name of the cluster, as in system.clusters")
	}
	if c.ClickHouse.Readers != "" && strings.HasPrefix(c.Store.URL.text, "file://") {
		bad("clickhouse.readers", c.ClickHouse.Readers, "is set, but store.url is a directory", "want an archive on S3, which several servers can read, or no clickhouse.readers")
	}
	if (c.Store.AccessKey == "") != c.Store.SecretKey.IsZero() {
		bad("store.access_key", "", "only one of access_key and secret_key is set", "want both, or neither for the standard AWS chain")
	}
	if scheme, _, ok := strings.Cut(c.Store.URL.text, "://"); !c.Store.URL.IsZero() && (!ok || scheme != "s3" && scheme != "file") {
		bad("store.url", c.Store.URL.String(), "is not a store", "want s3://bucket/prefix or file:///directory")
	}
	if scheme, _, ok := strings.Cut(c.ClickHouse.URL.text, "://"); !c.ClickHouse.URL.IsZero() && (!ok || !slices.Contains(clickhouseSchemes(), scheme)) {
		bad("clickhouse.url", c.ClickHouse.URL.String(), "is not a ClickHouse", "want clickhouse://host:9000, http://host:8123 or https://host:8443")
	}
	if err := c.Envelope.Validate(); err != nil {
		bad("envelope", "", strings.ReplaceAll(err.Error(), "\n", "; "), "")
	}
	if c.Metrics.Listen != "" {
		if _, _, err := net.SplitHostPort(c.Metrics.Listen); err != nil {
			bad("metrics.listen", c.Metrics.Listen, "is not an address", "want host:port, as :9090 or 127.0.0.1:9090")
		}
	}
	return append(append(problems, c.Server.problems()...), c.Client.problems()...)
}

// check holds a value against the enum and min tags.
func (k Key) check(v reflect.Value) []Problem {
	bad := func(value, what, want string) []Problem {
		return []Problem{{Key: k.Name, Value: value, What: what, Want: want}}
	}
	if len(k.Enum) > 0 {
		values := []string{v.String()}
		if k.Type == "list" {
			values = v.Interface().([]string)
		}
		for _, value := range values {
			optional := value == "" && k.Default == ""
			if !optional && !slices.Contains(k.Enum, value) {
				return bad(value, "is not known", "want "+strings.Join(k.Enum, " or "))
			}
		}
	}
	if k.Min != "" {
		least, err := decodeText(nil, k.typ, k.Min)
		if err != nil {
			return bad(k.Min, "has a bad min tag", "") // a test looks at every tag
		}
		if v.Int() < reflect.ValueOf(least).Int() {
			return bad(text(v), "is too small", "want at least "+k.Min)
		}
	}
	return nil
}

func clickhouseSchemes() []string { return []string{"clickhouse", "tcp", "http", "https"} }
