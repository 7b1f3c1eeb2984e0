package sink

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/replay"
)

// The headers of a request beside those of Standard Webhooks.
const (
	headerIdempotencyKey = "Idempotency-Key"
	headerReplay         = "Reservoir-Replay"
	headerStream         = "Reservoir-Stream" // escaped as in a URL's path
	headerIncarnation    = "Reservoir-Incarnation"
	headerEvents         = "Reservoir-Events" // how many there are in the body
)

// httpSink writes to a URL.
type httpSink struct {
	options httpOptions
	replay  string
	client  *http.Client
	signer  *signer // nil: none
	encoder *encoder
	courier courier[httpRequest]

	batch  *replay.Batch // being written
	arena  []byte        // its events, encoded
	bodies []httpBody
}

// httpBody is where an encoded event lies in the arena.
type httpBody struct {
	from, to int
	err      error
}

// httpRequest is one request, in every attempt the same.
type httpRequest struct {
	key         string
	body        []byte
	stream      string // "" when there are several
	incarnation int
	events      int
}

func newHTTPSink(config *Config, o httpOptions, signer *signer, opening *replay.Opening) *httpSink {
	s := &httpSink{
		options: o, replay: opening.Replay, signer: signer,
		encoder: newEncoder(o.Format, opening.Replay, config.Mapping),
		client: &http.Client{
			Timeout:       time.Duration(o.Timeout),
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport: &http.Transport{
				Proxy:               nil, // a proxy is another host, and sees everything
				DialContext:         config.AllowHosts.DialContext,
				TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
				TLSHandshakeTimeout: dialTimeout,
				ForceAttemptHTTP2:   true,
				MaxIdleConnsPerHost: o.Concurrency,
				IdleConnTimeout:     time.Minute,
			},
		},
	}
	s.courier = courier[httpRequest]{
		retry: withDefaults(opening.Retry), workers: o.Concurrency,
		prepare: s.prepare, send: s.send, keep: keepRequest,
	}
	return s
}

// Position implements replay.Sink: the target keeps none.
func (*httpSink) Position(context.Context) (replay.Position, error) { return replay.Position{}, nil }

// WantsKeys implements replay.Keyer.
func (*httpSink) WantsKeys() bool { return true }

// Close implements replay.Sink.
func (s *httpSink) Close() error {
	s.client.CloseIdleConnections()
	return nil
}

// Write implements replay.Sink.
func (s *httpSink) Write(ctx context.Context, b *replay.Batch) error {
	s.encode(b)
	size := 1
	if s.options.Mode == "batch" {
		size = s.options.BatchSize
	}
	queues := newQueues(b, s.options.Key, s.options.Concurrency, size, s.options.Format == formatRaw)
	return s.courier.deliver(ctx, queues)
}

// encode fills the arena with the events of a batch.
func (s *httpSink) encode(b *replay.Batch) {
	s.batch, s.arena, s.bodies = b, s.arena[:0], s.bodies[:0]
	var e event.Event
	for i := range b.Len() {
		b.Event(i, &e)
		from := len(s.arena)
		var err error
		s.arena, err = s.encoder.append(s.arena, &e, &b.Origins[i])
		s.bodies = append(s.bodies, httpBody{from: from, to: len(s.arena), err: err})
	}
}

// prepare makes the request of some events.
func (s *httpSink) prepare(indices []int) (httpRequest, error) {
	first, last := &s.batch.Origins[indices[0]], &s.batch.Origins[indices[len(indices)-1]]
	r := httpRequest{key: eventKey(first), stream: first.Stream, incarnation: first.Incarnation, events: len(indices)}
	if len(indices) > 1 {
		r.key = batchKey(first, last)
	}
	for _, i := range indices {
		if err := s.bodies[i].err; err != nil {
			return r, err
		}
		if o := &s.batch.Origins[i]; o.Stream != r.stream || o.Incarnation != r.incarnation {
			r.stream, r.incarnation = "", 0
		}
	}
	r.body = s.body(indices)
	return r, nil
}

// body joins encoded events.
func (s *httpSink) body(indices []int) []byte {
	if s.options.Mode != "batch" {
		b := s.bodies[indices[0]]
		return s.arena[b.from:b.to:b.to]
	}
	var body []byte
	for n, i := range indices {
		switch {
		case s.options.Format == formatRaw && n > 0:
			body = append(body, '\n')
		case s.options.Format == formatRaw:
		case n == 0:
			body = append(body, '[')
		default:
			body = append(body, ',')
		}
		body = append(body, s.arena[s.bodies[i].from:s.bodies[i].to]...)
	}
	if s.options.Format == formatRaw {
		return append(body, '\n')
	}
	return append(body, ']')
}

// contentType is that of every body.
func (o *httpOptions) contentType() string {
	switch {
	case o.Format == formatRaw && o.Mode == "batch":
		return "application/x-ndjson"
	case o.Format == formatRaw:
		return "application/json"
	case o.Mode == "batch":
		return "application/cloudevents-batch+json; charset=utf-8"
	default:
		return "application/cloudevents+json; charset=utf-8"
	}
}

// send makes one attempt.
func (s *httpSink) send(ctx context.Context, r httpRequest) result {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.options.URL, bytes.NewReader(r.body))
	if err != nil {
		return result{answer: never, err: fmt.Errorf("make a request: %w", err)}
	}
	for name, value := range s.options.Headers {
		req.Header.Set(name, value)
	}
	h := req.Header
	h.Set("Content-Type", s.options.contentType())
	h.Set(headerIdempotencyKey, r.key)
	h.Set(headerReplay, s.replay)
	h.Set(headerEvents, strconv.Itoa(r.events))
	if r.stream != "" {
		h.Set(headerStream, url.PathEscape(r.stream))
		h.Set(headerIncarnation, strconv.Itoa(r.incarnation))
	}
	if s.signer != nil {
		s.signer.sign(h, r.key, r.body, time.Now())
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return failed(err)
	}
	return judge(resp)
}

// keepRequest copies a request out of the arena.
func keepRequest(r httpRequest) httpRequest {
	r.body = bytes.Clone(r.body)
	return r
}
