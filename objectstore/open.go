package objectstore

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Config says which store to open.
type Config struct {
	// URL is s3://bucket/prefix or file:///directory. An S3 URL may set some
	// fields of S3 below, which it then overrides: endpoint, region, path_style,
	// checksum, as in s3://bucket/prefix?endpoint=http://localhost:9000.
	URL string
	// S3 is used for s3 URLs. Its Bucket comes from the URL.
	S3 S3Options
	// Local is used for file URLs.
	Local LocalOptions
}

// Open opens the store that the configuration names. It does not try it: see Probe.
func Open(ctx context.Context, cfg Config) (Store, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("open object store: url: %w", parseCause(err))
	}
	switch {
	case u.User != nil: // and no word of what it is: it may be a secret
		return nil, errors.New("open object store: url: has credentials in it; set access_key and secret_key instead")
	case u.Fragment != "":
		return nil, fmt.Errorf("open object store: url %q: has a # in it; write it as %%23", cfg.URL)
	case u.Scheme == "s3":
		return openS3(ctx, u, cfg.S3)
	case u.Scheme == "file":
		return openLocal(u, cfg.Local)
	}
	return nil, fmt.Errorf("open object store: url %q: want s3://bucket/prefix or file:///directory", cfg.URL)
}

// parseCause leaves the URL out of the error, for it may hold a secret.
func parseCause(err error) error {
	var parse *url.Error
	if errors.As(err, &parse) {
		return parse.Err
	}
	return err
}

func openLocal(u *url.URL, opts LocalOptions) (Store, error) {
	if u.Host != "" && u.Host != "localhost" || u.Path == "" || u.Opaque != "" || u.RawQuery != "" {
		return nil, fmt.Errorf("open object store: url %q: want file:///directory, with three slashes and an absolute path", u)
	}
	store, err := NewLocal(u.Path, opts)
	if err != nil {
		return nil, err
	}
	return store, nil
}

func openS3(ctx context.Context, u *url.URL, opts S3Options) (Store, error) {
	prefix := strings.Trim(u.Path, "/")
	if prefix != "" {
		if err := checkKey(prefix); err != nil {
			return nil, fmt.Errorf("open object store: url %q: the prefix %w", u, err)
		}
	}
	opts.Bucket = u.Host
	if err := opts.set(u.Query()); err != nil {
		return nil, fmt.Errorf("open object store: url %q: %w", u, err)
	}
	store, err := NewS3(ctx, opts)
	if err != nil {
		return nil, err
	}
	return WithPrefix(store, prefix), nil
}

// set takes over the parameters of an S3 URL.
func (o *S3Options) set(query url.Values) error {
	known := []string{"endpoint", "region", "path_style", "checksum"}
	for name, values := range query {
		if !slices.Contains(known, name) || len(values) > 1 {
			return fmt.Errorf("parameter %s: want each of %s at most once", name, strings.Join(known, ", "))
		}
	}
	for name, field := range map[string]*string{"endpoint": &o.Endpoint, "region": &o.Region, "checksum": &o.Checksum} {
		if query.Has(name) {
			*field = query.Get(name)
		}
	}
	if query.Has("path_style") {
		on, err := strconv.ParseBool(query.Get("path_style"))
		if err != nil {
			return fmt.Errorf("parameter path_style: %q: want true or false", query.Get("path_style"))
		}
		o.PathStyle = on
	}
	return nil
}
