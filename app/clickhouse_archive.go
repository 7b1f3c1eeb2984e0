package app

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/rebuild"
)

// pushdown says how ClickHouse itself reads the archive for rebuilds: on S3, with keys
// that it may have, or in a directory that is also on its server, as
// clickhouse.archive_dir says. Else what lies in a directory goes through this process.
func (a *app) pushdown() (rebuild.Pushdown, error) {
	s3, root, err := a.archiveAtClickHouse()
	switch {
	case err != nil:
		return rebuild.Pushdown{}, err
	case s3 != nil:
		return rebuild.Pushdown{S3: s3, Prefix: root}, nil
	}
	return rebuild.Pushdown{Dir: a.cfg.ClickHouse.ArchiveDir}, nil
}

// archiveAtClickHouse gives where ClickHouse finds the archive: a bucket and the prefix
// in it, or no bucket and a directory. Without keys in the configuration or in the AWS
// environment, ClickHouse uses its own.
func (a *app) archiveAtClickHouse() (s3 *chstore.S3, root string, err error) {
	u, err := url.Parse(a.cfg.Store.URL.Reveal())
	if err != nil || u.Scheme == "" {
		return nil, "", fmt.Errorf("store.url %s: want s3://bucket/prefix or file:///directory", a.cfg.Store.URL)
	}
	if u.Scheme == "file" {
		return nil, cmp.Or(a.cfg.ClickHouse.ArchiveDir, u.Path), nil
	}
	store, at := a.cfg.Store, a.cfg.ClickHouse.S3
	env := func(name string) string {
		value, _ := a.lookupEnv(name)
		return value
	}
	query := u.Query()
	s3 = &chstore.S3{
		Endpoint: cmp.Or(at.Endpoint, query.Get("endpoint"), store.Endpoint, env("AWS_ENDPOINT_URL_S3"), env("AWS_ENDPOINT_URL")),
		Region:   cmp.Or(query.Get("region"), store.Region, env("AWS_REGION"), env("AWS_DEFAULT_REGION")),
		Bucket:   u.Host, Collection: at.Collection, NoSign: at.Credentials == "none",
	}
	pathStyle := store.PathStyle
	if text := query.Get("path_style"); text != "" {
		if pathStyle, err = strconv.ParseBool(text); err != nil {
			return nil, "", fmt.Errorf("store.url: parameter path_style: %q: want true or false", text)
		}
	}
	s3.VirtualHost = !pathStyle && !strings.Contains(s3.Bucket, ".") && !isLocalEndpoint(s3.Endpoint)
	if at.Credentials == "keys" && at.Collection == "" {
		switch {
		case at.AccessKey != "":
			s3.AccessKey, s3.SecretKey = at.AccessKey, at.SecretKey.Reveal()
		case store.AccessKey != "":
			s3.AccessKey, s3.SecretKey = store.AccessKey, store.SecretKey.Reveal()
		case env("AWS_SECRET_ACCESS_KEY") != "":
			s3.AccessKey, s3.SecretKey, s3.SessionToken = env("AWS_ACCESS_KEY_ID"), env("AWS_SECRET_ACCESS_KEY"), env("AWS_SESSION_TOKEN")
		}
	}
	return s3, strings.Trim(u.Path, "/"), nil
}

// isLocalEndpoint knows endpoints that have no subdomain for a bucket.
func isLocalEndpoint(endpoint string) bool {
	u, err := url.Parse(endpoint)
	return err == nil && (u.Hostname() == "localhost" || net.ParseIP(u.Hostname()) != nil)
}
