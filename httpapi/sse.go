package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/reservoirhq/reservoir/httpapi/api"
	"github.com/reservoirhq/reservoir/httpapi/token"
)

// Times of event streams.
const (
	sseWrite = 30 * time.Second // who takes longer to take a message is gone
	sseRetry = 2 * time.Second  // browsers come back after it
)

// errStopping ends an event stream because the server stops; the caller comes back to
// another one.
var errStopping = errors.New("server is stopping")

// stream answers with server-sent events: run sends them until it is done.
type stream struct {
	server *Server
	ctx    context.Context //nolint:containedctx // it is the request's, and the answer is written without one
	end    func()          // called once it has ended, whether run was called or not
	run    func(ctx context.Context, out *sseWriter) error
}

func (s *Server) stream(ctx context.Context, end func(), run func(ctx context.Context, out *sseWriter) error) stream {
	return stream{s, ctx, end, run}
}

// VisitTailStreamResponse implements api.TailStreamResponseObject.
func (s stream) VisitTailStreamResponse(w http.ResponseWriter) error { return s.answer(w) }

// VisitWatchJobResponse implements api.WatchJobResponseObject.
func (s stream) VisitWatchJobResponse(w http.ResponseWriter) error { return s.answer(w) }

// VisitWatchJobsResponse implements api.WatchJobsResponseObject.
func (s stream) VisitWatchJobsResponse(w http.ResponseWriter) error { return s.answer(w) }

func (s stream) answer(w http.ResponseWriter) error {
	defer s.end()
	ctx, cancel := context.WithCancelCause(s.ctx)
	defer cancel(nil)
	stop := context.AfterFunc(stopping(ctx), func() { cancel(errStopping) })
	defer stop()

	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	if isHead(ctx) {
		return nil
	}
	out := &sseWriter{w: w, conn: http.NewResponseController(w)}
	if err := out.begin(); err != nil {
		return nil // the caller has gone
	}
	call := callOf(ctx)
	var keeper sync.WaitGroup
	keeper.Go(func() { s.server.keep(ctx, cancel, call.credential, out) })
	err := s.run(ctx, out)
	if refusal := asProblem(context.Cause(ctx)); refusal != nil {
		err = refusal
	} else if ctx.Err() != nil {
		err = nil
	}
	cancel(nil)
	keeper.Wait()
	if err == nil || out.gone {
		return nil
	}
	document := s.server.problem(s.server.classify(err), call.requestID, call.path)
	if sendErr := out.send("", "problem", document); sendErr != nil {
		return errors.Join(err, sendErr)
	}
	return err // for the log; the answer has begun
}

// keep says from time to time that an event stream lives, also while nothing is to be
// sent for long, and ends it when the caller's token is not valid any more. Without out
// it says nothing.
func (s *Server) keep(ctx context.Context, end context.CancelCauseFunc, credential string, out *sseWriter) {
	tick := time.NewTicker(s.opts.Beat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := s.stillValid(ctx, credential)
		if err == nil && out != nil {
			err = out.beat()
		}
		if err != nil {
			end(err)
			return
		}
	}
}

// stillValid returns why a caller that was let in would not be any more. What cannot be
// found out now is taken for valid until the next time.
func (s *Server) stillValid(ctx context.Context, credential string) error {
	ctx, cancel := context.WithTimeout(ctx, s.opts.Beat)
	defer cancel()
	if credential == "" {
		if locked, err := s.Locked(ctx); err == nil && locked {
			return unauthenticated.problem("a token is needed by now")
		}
		return nil
	}
	if _, err := s.verify(ctx, credential); errors.Is(err, token.ErrRejected) {
		return rejected(err)
	}
	return nil
}

// sseWriter writes messages. It is safe for concurrent use.
type sseWriter struct {
	conn *http.ResponseController

	mu   sync.Mutex
	w    http.ResponseWriter
	gone bool // the caller
	buf  bytes.Buffer
}

// begin sends what comes before all messages.
func (o *sseWriter) begin() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.write(fmt.Appendf(nil, "retry: %d\n\n", sseRetry.Milliseconds()))
}

// send sends a message at once. data is marshalled to JSON.
func (o *sseWriter) send(id, event string, data any) error {
	text, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf.Reset()
	if id != "" {
		fmt.Fprintf(&o.buf, "id: %s\n", strings.NewReplacer("\n", "", "\r", "", "\x00", "").Replace(id))
	}
	fmt.Fprintf(&o.buf, "event: %s\ndata: %s\n\n", event, text) // JSON has no line breaks
	return o.write(o.buf.Bytes())
}

// beat tells whoever is between that the connection lives.
func (o *sseWriter) beat() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.write([]byte(": beat\n\n"))
}

// place tells where to go on after what was looked at, though there was nothing to send.
func (o *sseWriter) place(id string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.write(fmt.Appendf(nil, "id: %s\n\n", id))
}

// write sends a text; o.mu is held. Between texts the connection has no deadline: over
// HTTP/2 it would end the stream also while nothing is written.
func (o *sseWriter) write(text []byte) error {
	err := o.conn.SetWriteDeadline(time.Now().Add(sseWrite))
	if errors.Is(err, http.ErrNotSupported) {
		err = nil // a recorder of a test
	}
	if err == nil {
		_, err = o.w.Write(text)
	}
	if err == nil {
		err = o.conn.Flush()
	}
	if err == nil {
		if err = o.conn.SetWriteDeadline(time.Time{}); errors.Is(err, http.ErrNotSupported) {
			err = nil
		}
	}
	if err != nil {
		o.gone = true
		return fmt.Errorf("send message: %w", err)
	}
	return nil
}

var (
	_ api.TailStreamResponseObject = stream{}
	_ api.WatchJobResponseObject   = stream{}
	_ api.WatchJobsResponseObject  = stream{}
)
