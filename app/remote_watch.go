package app

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/reservoirhq/reservoir/httpapi/api"
	"github.com/reservoirhq/reservoir/httpapi/token"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/jobs"
)

// Bounds of event streams.
const (
	watchSilence = 45 * time.Second // the server sends something every 15 s: after this it is gone
	watchGiveUp  = time.Minute      // without any answer
	watchRetry   = 2 * time.Second  // unless the server says another time
	watchSlowest = 10 * time.Second // between attempts
	maxMessage   = 8 << 20          // bytes; the document of a job has less
)

// watch follows a job by server-sent events. When the server goes away it comes back,
// to that one or the next at its address, and misses no end.
func (r *remote) watch(ctx context.Context, id string) iter.Seq2[*jobs.Job, error] {
	return func(yield func(*jobs.Job, error) bool) {
		w := &watcher{remote: r, id: id, retry: watchRetry, yield: yield}
		for {
			heard, err := w.follow(ctx)
			if w.done {
				return
			}
			if heard {
				w.heard, w.tries = time.Now(), 0
			}
			if ctx.Err() != nil {
				err = ctx.Err()
			} else if err == nil || w.last != "" && passes(err) && time.Since(w.heard) < watchGiveUp {
				r.a.logger.Info("the server ended the events: coming back", "server", r.at, "error", err)
				if err = w.pause(ctx); err == nil {
					continue
				}
			}
			yield(nil, err)
			return
		}
	}
}

// errSilence ends a stream of events of which nothing comes any more.
var errSilence = errors.New("nothing came for too long")

// passes reports whether what ended the events may be over soon.
func passes(err error) bool {
	var p *problem
	return !errors.As(err, &p) || slices.Contains([]string{"unavailable", "timeout", "too-many-requests"}, p.slug())
}

// watcher is where a watch is.
type watcher struct {
	*remote
	id    string
	last  string        // ID of the last message
	retry time.Duration // as the server said
	heard time.Time     // when the server last sent anything
	tries int           // since then
	yield func(*jobs.Job, error) bool
	done  bool // the job has ended, or nobody looks any more
}

// pause waits until the next attempt.
func (w *watcher) pause(ctx context.Context) error {
	w.tries++
	return pause(ctx, min(w.retry*time.Duration(w.tries), watchSlowest))
}

// follow reads one stream of events to its end, and says whether there was any.
func (w *watcher) follow(ctx context.Context) (heard bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(watchSilence, func() { cancel(errSilence) })
	defer silence.Stop()
	response, err := w.send(ctx, call{role: token.Viewer, missing: jobs.ErrNotFound, send: func() (*http.Response, error) {
		return w.api.WatchJob(ctx, w.id, &api.WatchJobParams{LastEventID: w.last})
	}})
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, maxMessage)
	var m message
	for !w.done && lines.Scan() {
		heard = true
		silence.Reset(watchSilence)
		if !m.add(lines.Text()) {
			continue
		}
		if m.retry > 0 {
			w.retry = m.retry
		}
		if err := w.take(&m); err != nil {
			return false, err
		}
		m = message{}
	}
	if err := lines.Err(); err != nil && !w.done {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return heard, remedy.Wrapf(fmt.Errorf("read the events of %s: %w", w.at, err), addressAdvice, w.at)
	}
	return heard, nil
}

// take deals with a message.
func (w *watcher) take(m *message) error {
	switch m.event {
	case "job":
		v := api.Job{}
		if err := json.Unmarshal([]byte(m.data), &v); err != nil {
			return fmt.Errorf("read the events of %s: %w", w.at, err)
		}
		w.last = m.id
		j := asJob(&v)
		w.done = !w.yield(j, nil) || j.State.Ended()
	case "problem":
		document := api.Problem{}
		if err := json.Unmarshal([]byte(m.data), &document); err != nil {
			return fmt.Errorf("read the events of %s: %w", w.at, err)
		}
		return newProblem(document, call{role: token.Viewer, missing: jobs.ErrNotFound})
	}
	return nil
}

// message is one of server-sent events.
type message struct {
	id, event, data string
	retry           time.Duration
}

// add takes a line of the stream, and reports whether the message ends with it.
func (m *message) add(line string) (whole bool) {
	if line == "" {
		return true
	}
	name, value, _ := strings.Cut(line, ":")
	value = strings.TrimPrefix(value, " ")
	switch name {
	case "id":
		m.id = value
	case "event":
		m.event = value
	case "data":
		m.data += value
	case "retry":
		if ms, err := strconv.Atoi(value); err == nil {
			m.retry = time.Duration(ms) * time.Millisecond
		}
	}
	return false
}
