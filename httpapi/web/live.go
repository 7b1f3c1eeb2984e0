package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Bounds of a stream of server-sent events. After its end the browser comes again.
const (
	liveFor   = 10 * time.Minute
	keepAlive = 15 * time.Second
)

// stream is an answer of server-sent events.
type eventStream struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

// stream begins an answer of server-sent events.
func (r *request) events() *eventStream {
	h := r.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no")
	r.began = true
	r.w.WriteHeader(http.StatusOK)
	return &eventStream{w: r.w, control: http.NewResponseController(r.w)}
}

// send sends an event of HTML.
func (e *eventStream) send(name, id, html string) error {
	var b strings.Builder
	if id != "" {
		fmt.Fprintf(&b, "id: %s\n", id)
	}
	fmt.Fprintf(&b, "event: %s\n", name)
	for line := range strings.SplitSeq(strings.ReplaceAll(html, "\r", ""), "\n") {
		fmt.Fprintf(&b, "data: %s\n", line)
	}
	return e.write(b.String() + "\n")
}

// ping keeps proxies from ending the connection.
func (e *eventStream) ping() error { return e.write(": still here\n\n") }

func (e *eventStream) write(text string) error {
	if err := e.control.SetWriteDeadline(time.Now().Add(keepAlive)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err //nolint:wrapcheck // the caller has gone
	}
	if _, err := e.w.Write([]byte(text)); err != nil {
		return err //nolint:wrapcheck // the caller has gone
	}
	return e.control.Flush() //nolint:wrapcheck // the caller has gone
}

// liveJob sends the live part of a job's page whenever it changes.
func (s *Server) liveJob(r *request) error {
	job, err := s.findJob(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), liveFor)
	defer cancel()
	out := r.events()
	if r.Method == http.MethodHead {
		return nil
	}
	var last []byte
	for job, err := range s.opts.Watch(ctx, job.ID) {
		if err != nil {
			if ctx.Err() != nil {
				return nil // the browser comes again
			}
			return err
		}
		var b bytes.Buffer
		if err := s.execute(&b, r, "job-live", "", s.describeJob(r.caller, job)); err != nil {
			return err
		}
		if bytes.Equal(b.Bytes(), last) {
			if err := out.ping(); err != nil { // which moves the deadline too
				return err
			}
			continue
		}
		last = bytes.Clone(b.Bytes())
		if err := out.send("update", "", b.String()); err != nil {
			return err
		}
		if string(job.State) != r.FormValue("state") || job.State.Ended() {
			return out.send("changed", "", string(job.State)) // there is more to see now: the page is loaded anew
		}
	}
	return nil
}
