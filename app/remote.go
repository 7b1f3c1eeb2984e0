package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/reservoirhq/reservoir/httpapi/api"
	"github.com/reservoirhq/reservoir/httpapi/token"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/replay"
)

// remote is the backend that works through the API of a server.
type remote struct {
	a     *app
	at    string // the server's URL
	api   *api.Client
	conns *http.Transport
	sinks []replay.SinkKind // to read targets by; the server opens them
}

// Bounds of calls.
const (
	dialTimeout   = 10 * time.Second
	maxAnswer     = 256 << 20 // bytes; a dead letter may hold an event of 64 MiB, three times
	maxWait       = 10 * time.Second
	callAttempts  = 5
	firstWait     = 500 * time.Millisecond
	remotePage    = 1000 // jobs in an answer
	letterPage    = 100  // dead letters in an answer
	tokenAdvice   = "set RESERVOIR_TOKEN, or client.token_file (--token-file), to a token with the role %s; an admin makes one with `reservoir token create --role %s`"
	addressAdvice = "check that `reservoir serve` runs at %s, which client.url (--server, RESERVOIR_SERVER) names"
)

// openRemote makes the backend of the configured server, without reaching it.
func (a *app) openRemote() (*remote, error) {
	c := a.cfg.Client
	at, err := url.Parse(c.URL.Reveal())
	if err != nil {
		return nil, usageError{fmt.Errorf("client.url: %w", err)}
	}
	r := &remote{a: a, at: c.URL.String(), sinks: a.sinks(nil, false)}
	tlsConfig, err := clientTLS(c.CAFile)
	if err != nil {
		return nil, usageError{err}
	}
	r.conns = &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig: tlsConfig, TLSHandshakeTimeout: dialTimeout, ForceAttemptHTTP2: true,
	}
	doer := &http.Client{Transport: r.conns, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // a token goes to nobody else
	}}
	if host := net.ParseIP(at.Hostname()); at.Scheme == "http" && !c.Token.IsZero() && at.Hostname() != "localhost" && (host == nil || !host.IsLoopback()) {
		a.logger.Warn("the token is sent without TLS: whoever is between can read it", "server", r.at)
	}
	r.api, err = api.Connect(c.URL.Reveal(), c.Token.Reveal(), doer)
	return r, err
}

// clientTLS trusts the authorities of a file beside those of the system.
func clientTLS(file string) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if file == "" {
		return cfg, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read client.ca_file: %w", err)
	}
	if cfg.RootCAs, err = x509.SystemCertPool(); err != nil {
		cfg.RootCAs = x509.NewCertPool() // the system has none
	}
	if !cfg.RootCAs.AppendCertsFromPEM(text) {
		return nil, remedy.Wrap(fmt.Errorf("client.ca_file: there is no certificate in %s", file), "name a file with certificates, PEM")
	}
	return cfg, nil
}

func (r *remote) close() error {
	r.conns.CloseIdleConnections()
	return nil
}

// call is one request to the server, which may be sent again.
type call struct {
	send    func() (*http.Response, error)
	role    token.Role // that it needs
	missing error      // what "not found" is an error of
	once    bool       // it must not be sent again when its answer is lost
}

// ask sends a request, and reads its answer.
func ask[T any](ctx context.Context, r *remote, c call) (*T, error) {
	response, err := r.send(ctx, c)
	if err != nil {
		return nil, err
	}
	v := new(T)
	err = json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(v)
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return nil, remedy.Wrapf(fmt.Errorf("read the answer of %s: %w", r.at, err), addressAdvice, r.at)
	}
	return v, nil
}

// send sends a request until it is answered with success; the caller closes the answer.
// What the server puts off is sent again after a while, and what was lost on the way too,
// if that is safe.
func (r *remote) send(ctx context.Context, c call) (*http.Response, error) {
	wait := firstWait
	for attempt := 1; ; attempt++ {
		response, err := c.send()
		var again bool
		switch {
		case err != nil:
			var op *net.OpError
			again = !c.once && ctx.Err() == nil && errors.As(err, &op) && op.Op != "dial" // else it was never there
			err = r.unreachable(ctx, err)
		case response.StatusCode/100 == 2:
			return response, nil
		default:
			again = response.StatusCode == http.StatusTooManyRequests
			wait = max(wait, retryAfter(response))
			err = r.refusal(response, c)
		}
		if !again || attempt == callAttempts {
			return nil, err
		}
		if err := pause(ctx, min(wait, maxWait)); err != nil {
			return nil, err
		}
		wait *= 2
	}
}

// pause waits for a while, or for the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// retryAfter is how long the server wants to be left alone.
func retryAfter(response *http.Response) time.Duration {
	seconds, err := strconv.Atoi(response.Header.Get("Retry-After"))
	if err != nil {
		return 0 // it does not say
	}
	return time.Duration(seconds) * time.Second
}

// unreachable says why a request had no answer.
func (r *remote) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err // without the path, which says nothing to people
	}
	err = fmt.Errorf("call the server %s: %w", r.at, err)
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	switch {
	case errors.As(err, &unknown):
		return remedy.Wrap(err, "name a file with the certificate of the authority that signed the server's: client.ca_file (--server-ca)")
	case errors.As(err, &name):
		return remedy.Wrap(err, "call the server by a name that its certificate has")
	}
	return remedy.Wrapf(err, addressAdvice, r.at)
}
