package sink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/replay"
)

// httpOptions are the options of the kind "http". docs/replay.md describes them.
type httpOptions struct {
	URL string `json:"url"`
	// Mode is "event", one request for each, or "batch".
	Mode      string `json:"mode,omitempty"`
	BatchSize int    `json:"batch_size,omitempty"` // events in a request of mode batch; default 100
	// Format is "cloudevents" or "raw".
	Format string `json:"format,omitempty"`
	// Key is what keeps its order: "aggregate", "stream" or "none".
	Key         string `json:"key,omitempty"`
	Concurrency int    `json:"concurrency,omitempty"` // requests at once; default 8
	// Secret signs requests: "whsec_" and base64, or any text. It should be
	// ${RESERVOIR_SINK_SECRET}: options are kept with the job, in the clear.
	Secret string `json:"secret,omitempty"`
	// Headers are added to every request; values may hold ${RESERVOIR_SINK_NAME}.
	Headers map[string]string `json:"headers,omitempty"`
	Timeout Duration          `json:"timeout,omitempty"` // of a request; default 30s
}

// defaultRequestTimeout is the default of httpOptions.Timeout.
const defaultRequestTimeout = 30 * time.Second

// validate fills in defaults and returns the first mistake.
func (o *httpOptions) validate() (*url.URL, error) {
	u, err := url.Parse(o.URL)
	switch {
	case err != nil: // its text would show the whole URL
		return nil, errors.New("url is not a URL")
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, fmt.Errorf("url is %q: it must be http://host/path or https://host/path", (&url.URL{Scheme: u.Scheme, Host: u.Host}).String())
	case u.User != nil:
		return nil, remedy.Wrap(errors.New("url holds a user or a password"),
			"Take it out of the URL, and give the option headers.Authorization=${RESERVOIR_SINK_AUTHORIZATION}.")
	}
	if o.Timeout == 0 {
		o.Timeout = Duration(defaultRequestTimeout)
	}
	if o.Timeout < 0 {
		return nil, fmt.Errorf("timeout is %s: it must be positive", time.Duration(o.Timeout))
	}
	return u, errors.Join(
		oneOf("mode", &o.Mode, "event", "batch"),
		oneOf("format", &o.Format, formatCloudEvents, formatRaw),
		oneOf("key", &o.Key, keyAggregate, keyStream, keyNone),
		atLeast("batch_size", &o.BatchSize, 100, 1, 10_000),
		atLeast("concurrency", &o.Concurrency, 8, 1, 256),
		o.validateHeaders(),
	)
}

func (o *httpOptions) validateHeaders() error {
	for name, value := range o.Headers {
		switch canonical := http.CanonicalHeaderKey(name); {
		case !httpguts.ValidHeaderFieldName(name):
			return fmt.Errorf("headers: %q is not the name of a header", name)
		case !httpguts.ValidHeaderFieldValue(value):
			return fmt.Errorf("headers: the value of %s has characters that a header cannot hold", name)
		case ownHeader(canonical):
			return fmt.Errorf("headers: %s is set by the sink itself", name)
		}
	}
	return nil
}

// ownHeader reports whether the sink or the transport sets a header.
func ownHeader(canonical string) bool {
	switch canonical {
	case "Host", "Content-Length", "Content-Type", "Transfer-Encoding", "Connection", headerIdempotencyKey:
		return true
	}
	return strings.HasPrefix(canonical, "Webhook-") || strings.HasPrefix(canonical, "Reservoir-")
}

// address is the host:port of a URL.
func address(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// httpKind is the kind "http".
type httpKind struct{ config Config }

// NewHTTP returns the kind "http": each event, or each batch, is the body of a POST
// request. It is at least once; repeats carry the same Idempotency-Key.
func NewHTTP(config Config) replay.SinkKind { return &httpKind{config} }

// Type implements replay.SinkKind.
func (*httpKind) Type() string { return typeHTTP }

const typeHTTP = "http"

// Parse implements replay.SinkKind. The target is the URL.
func (k *httpKind) Parse(target string, options map[string]string) (json.RawMessage, error) {
	if strings.HasPrefix(target, "//") {
		target = "http:" + target
	}
	return parseOptions(k.Type(), httpOptions{URL: target}, options)
}

// options reads and expands an Opening's options. missing is about a variable
// that is not set here.
func (k *httpKind) options(raw json.RawMessage) (o httpOptions, u *url.URL, missing, err error) {
	o, err = decodeOptions[httpOptions](k.Type(), raw)
	if err == nil {
		err = plainHost(o.URL)
	}
	if err == nil {
		missing, err = o.expand(k.config.Environ)
	}
	if err == nil {
		u, err = o.validate()
	}
	if err != nil {
		return o, nil, nil, fmt.Errorf("sink %s: %w", k.Type(), err)
	}
	return o, u, missing, nil
}

// plainHost refuses secrets before the path of a URL: errors name the host, and whoever may
// ask for an estimate would read them there.
func plainHost(written string) error {
	host := written
	if scheme, rest, ok := strings.Cut(written, "://"); ok {
		if end := strings.IndexAny(rest, "/?#"); end >= 0 {
			rest = rest[:end]
		}
		host = scheme + rest
	}
	if strings.Contains(host, "${") {
		return remedy.Wrapf(errors.New("url has ${…} in its scheme or host"), "Write the host as it is; ${%s…} may stand in the path and the query.", SecretPrefix)
	}
	return nil
}

// expand puts secrets in place.
func (o *httpOptions) expand(environ Environ) (missing, err error) {
	missing, err = environ.expandAll(&o.URL, &o.Secret)
	for name, value := range o.Headers {
		m, e := environ.expandAll(&value)
		missing, err = errors.Join(missing, m), errors.Join(err, e)
		o.Headers[name] = value
	}
	return missing, err
}

// Check implements replay.SinkKind. It connects to the host, and sends nothing.
func (k *httpKind) Check(ctx context.Context, opening replay.Opening) (replay.Target, error) {
	o, u, missing, err := k.options(opening.Options)
	if err == nil {
		err = noPressure(k.Type(), &opening)
	}
	if err != nil {
		return replay.Target{}, err
	}
	place := k.place(opening.Options, u)
	t := replay.Target{Key: "http:" + place, Description: "POST " + place + ", " + o.describe(), Guarantee: replay.AtLeastOnce}
	if missing != nil {
		t.Warnings = append(t.Warnings, missing.Error()+" here: the workers need it")
	} else if _, err := newSigner(o.Secret); err != nil {
		return t, err
	}
	t.Warnings = append(t.Warnings, inTheClear(opening.Options, "secret", "headers.authorization")...)
	t.Warnings = append(t.Warnings, queryInTheClear(opening.Options)...)
	if o.Key == keyNone {
		t.Warnings = append(t.Warnings, "with key=none events arrive in any order")
	}
	if err := k.config.AllowHosts.reach(ctx, address(u)); err != nil {
		return t, fmt.Errorf("reach %s: %w", place, err)
	}
	return t, nil
}

// place names a target for people, and among jobs: its URL as it was written,
// before secrets were put in place, and without what follows the path.
func (*httpKind) place(raw json.RawMessage, u *url.URL) string {
	written, err := decodeOptions[httpOptions](typeHTTP, raw)
	if err != nil || !strings.Contains(written.URL, "${") {
		return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
	}
	if end := strings.IndexAny(written.URL, "?#"); end >= 0 {
		return written.URL[:end]
	}
	return written.URL
}

// queryInTheClear warns of secrets in the query of the URL as it was written: values
// by names of secrets, and long ones.
func queryInTheClear(raw json.RawMessage) (warnings []string) {
	written, err := decodeOptions[httpOptions](typeHTTP, raw)
	if err != nil {
		return nil // said before
	}
	_, query, _ := strings.Cut(written.URL, "?")
	query, _, _ = strings.Cut(query, "#")
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		known := slices.ContainsFunc(secretNames(), func(n string) bool { return strings.Contains(strings.ToLower(name), n) })
		if value == "" || strings.Contains(value, "${"+SecretPrefix) || !known && len(value) < likelySecret {
			continue
		}
		warnings = append(warnings, fmt.Sprintf("%s in the query of url is kept with the job, in the clear: if it is a secret, give it as ${%s…}", name, SecretPrefix))
	}
	return warnings
}

// likelySecret is from which length on a value in a query is taken for a secret.
const likelySecret = 20

// secretNames are parts of the names of parameters that hold secrets.
func secretNames() []string {
	return []string{"key", "token", "secret", "pass", "pwd", "auth", "sig", "code", "cred"}
}

func (o *httpOptions) describe() string {
	if o.Mode == "batch" {
		return fmt.Sprintf("%s in batches of up to %d", o.Format, o.BatchSize)
	}
	return o.Format + " one by one"
}

// Open implements replay.SinkKind.
func (k *httpKind) Open(_ context.Context, opening replay.Opening) (replay.Sink, error) {
	o, u, missing, err := k.options(opening.Options)
	if err == nil {
		err = missing
	}
	if err == nil {
		err = k.config.AllowHosts.Check(address(u))
	}
	if err != nil {
		return nil, err
	}
	signer, err := newSigner(o.Secret)
	if err != nil {
		return nil, err
	}
	return newHTTPSink(&k.config, o, signer, &opening), nil
}

// Clean implements replay.SinkKind: there is nothing at the target.
func (*httpKind) Clean(context.Context, replay.Opening) error { return nil }
