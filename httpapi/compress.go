package httpapi

import (
	"io"
	"net/http"
	"runtime"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/labstack/echo/v4"
)

// minGzip is the length in bytes from which on an answer is compressed.
const minGzip = 1024

// compression compresses answers, fast rather than small. What it works with is kept
// from one answer to the next: to make it anew costs more than to compress a page.
type compression struct {
	writers chan *gzip.Writer
	buffers chan []byte // of minGzip
}

func newCompression() *compression {
	n := 2 * runtime.GOMAXPROCS(0)
	return &compression{make(chan *gzip.Writer, n), make(chan []byte, 16*n)}
}

// middleware compresses what is long enough for callers that take it.
func (z *compression) middleware(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) (err error) {
		answer := c.Response()
		answer.Header().Add("Vary", "Accept-Encoding")
		if !strings.Contains(c.Request().Header.Get("Accept-Encoding"), "gzip") {
			return next(c)
		}
		plain := answer.Writer
		w := &compressed{ResponseWriter: plain, z: z}
		answer.Writer = w
		defer func() {
			answer.Writer = plain
			if ended := w.end(); err == nil {
				err = ended
			}
		}()
		return next(c)
	}
}

func (z *compression) writer(to io.Writer) (*gzip.Writer, error) {
	select {
	case w := <-z.writers:
		w.Reset(to)
		return w, nil
	default:
		return gzip.NewWriterLevel(to, gzip.BestSpeed) //nolint:wrapcheck // it is of the level, which is known
	}
}

func (z *compression) free(w *gzip.Writer) {
	w.Reset(io.Discard)
	select {
	case z.writers <- w:
	default:
	}
}

func (z *compression) buffer() []byte {
	select {
	case b := <-z.buffers:
		return b
	default:
		return make([]byte, 0, minGzip)
	}
}

// compressed is one answer. It is held back until it is known whether it is long enough.
type compressed struct {
	http.ResponseWriter
	z       *compression
	status  int
	held    []byte
	begun   bool         // the header is sent
	writer  *gzip.Writer // nil: it goes as it is
	written bool         // anything, be it nothing
}

// Unwrap is for http.ResponseController.
func (w *compressed) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (w *compressed) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

// Write implements io.Writer.
func (w *compressed) Write(p []byte) (int, error) {
	if !w.written {
		w.written = true
		if h := w.Header(); h.Get("Content-Type") == "" {
			h.Set("Content-Type", http.DetectContentType(p))
		}
	}
	if !w.begun {
		if w.held == nil {
			w.held = w.z.buffer()
		}
		if len(w.held)+len(p) < minGzip {
			w.held = append(w.held, p...)
			return len(p), nil
		}
		if err := w.begin(true); err != nil {
			return 0, err
		}
	}
	if w.writer != nil {
		return w.writer.Write(p) //nolint:wrapcheck // it is the connection's
	}
	return w.ResponseWriter.Write(p) //nolint:wrapcheck // it is the connection's
}

// begin sends the header and what was held back, if zip is set compressed.
func (w *compressed) begin(zip bool) error {
	w.begun = true
	h := w.Header()
	var err error
	if zip && h.Get("Content-Encoding") == "" {
		h.Set("Content-Encoding", "gzip")
		h.Del("Content-Length")
		if w.writer, err = w.z.writer(w.ResponseWriter); err != nil {
			return err
		}
	}
	if w.status != 0 {
		w.ResponseWriter.WriteHeader(w.status)
	}
	if len(w.held) == 0 {
		return nil
	}
	if w.writer != nil {
		_, err = w.writer.Write(w.held)
	} else {
		_, err = w.ResponseWriter.Write(w.held)
	}
	return err
}

// FlushError is for http.ResponseController: what was written goes out, compressed, as
// more is to come.
func (w *compressed) FlushError() error {
	if !w.begun {
		if err := w.begin(true); err != nil {
			return err
		}
	}
	if w.writer != nil {
		if err := w.writer.Flush(); err != nil {
			return err //nolint:wrapcheck // it is the connection's
		}
	}
	return http.NewResponseController(w.ResponseWriter).Flush() //nolint:wrapcheck // it is the connection's
}

// end sends what is left. An answer that was not begun is left to whoever comes after.
func (w *compressed) end() (err error) {
	if !w.begun && (w.written || w.status != 0) {
		err = w.begin(false)
	}
	if w.writer != nil {
		if closed := w.writer.Close(); err == nil {
			err = closed
		}
		w.z.free(w.writer)
	}
	if w.held != nil {
		select {
		case w.z.buffers <- w.held[:0]:
		default:
		}
	}
	return err
}
