package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/reservoirhq/reservoir/httpapi/api"
)

// Times of event streams.
const (
	sseBeat  = 15 * time.Second // a comment at least so often, so that proxies keep the connection
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
	run    func(ctx context.Context, out *sseWriter) error
}

func (s *Server) stream(ctx context.Context, run func(ctx context.Context, out *sseWriter) error) stream {
	return stream{s, ctx, run}
}

// VisitTailStreamResponse implements api.TailStreamResponseObject.
func (s stream) VisitTailStreamResponse(w http.ResponseWriter) error { return s.answer(w) }

// VisitWatchJobResponse implements api.WatchJobResponseObject.
func (s stream) VisitWatchJobResponse(w http.ResponseWriter) error { return s.answer(w) }

// VisitWatchJobsResponse implements api.WatchJobsResponseObject.
func (s stream) VisitWatchJobsResponse(w http.ResponseWriter) error { return s.answer(w) }

func (s stream) answer(w http.ResponseWriter) error {
	ctx, cancel := context.WithCancelCause(s.ctx)
	defer cancel(nil)
	stop := context.AfterFunc(stopping(ctx), func() { cancel(errStopping) })
	defer stop()

	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	out := &sseWriter{w: w, conn: http.NewResponseController(w)}
	if err := out.write(fmt.Appendf(nil, "retry: %d\n\n", sseRetry.Milliseconds())); err != nil {
		return nil // the caller has gone
	}
	err := s.run(ctx, out)
	if err == nil || out.gone || ctx.Err() != nil {
		return nil
	}
	call := callOf(ctx)
	document := s.server.problem(s.server.classify(err), call.requestID, call.path)
	if sendErr := out.send("", "problem", document); sendErr != nil {
		return errors.Join(err, sendErr)
	}
	return err // for the log; the answer has begun
}

// sseWriter writes messages. It is used by one goroutine.
type sseWriter struct {
	w    http.ResponseWriter
	conn *http.ResponseController
	gone bool // the caller
	buf  bytes.Buffer
}

// send sends a message at once. data is marshalled to JSON.
func (o *sseWriter) send(id, event string, data any) error {
	text, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	o.buf.Reset()
	if id != "" {
		fmt.Fprintf(&o.buf, "id: %s\n", strings.NewReplacer("\n", "", "\r", "", "\x00", "").Replace(id))
	}
	fmt.Fprintf(&o.buf, "event: %s\ndata: %s\n\n", event, text) // JSON has no line breaks
	return o.write(o.buf.Bytes())
}

// beat tells whoever is between that the connection lives.
func (o *sseWriter) beat() error { return o.write([]byte(": beat\n\n")) }

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
