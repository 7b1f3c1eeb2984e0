package sink

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	maxShown = 200       // bytes of an answer's body in an error
	maxDrain = 256 << 10 // bytes of a body that are read so that its connection can be used again
)

// StatusError is an answer that is not 2xx.
type StatusError struct {
	Code     int
	Location string // of a redirect, which is not followed
	Body     string // its beginning, printable
}

func (e *StatusError) Error() string {
	text := fmt.Sprintf("the target answers %d %s", e.Code, http.StatusText(e.Code))
	if e.Location != "" {
		text += " to " + e.Location + ", which is not followed"
	}
	if e.Body != "" {
		text += ": " + e.Body
	}
	return text
}

// failed is the result of a request without an answer.
func failed(err error) result {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err // without the URL, whose query may hold a secret
	}
	if errors.Is(err, ErrHostNotAllowed) {
		return result{answer: barred, err: err}
	}
	return result{answer: later, err: fmt.Errorf("send a request: %w", err)}
}

// judge reads an answer to its end, and says what it means.
func judge(resp *http.Response) result {
	shown := make([]byte, maxShown)
	n, readErr := io.ReadFull(resp.Body, shown)
	if readErr == nil { // there is more
		_, readErr = io.CopyN(io.Discard, resp.Body, maxDrain)
	}
	closeErr := resp.Body.Close()
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return result{answer: taken} // whatever becomes of the body
	}
	err := error(&StatusError{Code: resp.StatusCode, Location: printable(resp.Header.Get("Location")), Body: printable(string(shown[:n]))})
	if readErr != nil && !errors.Is(readErr, io.EOF) && !errors.Is(readErr, io.ErrUnexpectedEOF) {
		err = errors.Join(err, readErr)
	}
	r := result{err: errors.Join(err, closeErr)}
	if closeErr == nil {
		r.err = err
	}
	r.after = retryAfter(resp.Header.Get("Retry-After"), time.Now())
	switch code := resp.StatusCode; {
	case code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable && r.after > 0:
		r.answer, r.patient = later, true
	case code >= 500, code == http.StatusRequestTimeout, code == http.StatusTooEarly:
		r.answer = later
	case code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusProxyAuthRequired:
		r.answer, r.auth = refused, true
	case code < 400, code == http.StatusNotFound, code == http.StatusMethodNotAllowed:
		r.answer = refused
	default:
		r.answer = never
	}
	return r
}

// retryAfter reads the header of that name: seconds, or a time. 0 is none.
func retryAfter(text string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if t, err := http.ParseTime(text); err == nil {
		return max(0, t.Sub(now))
	}
	return 0
}

// printable returns text on one line, without what a terminal takes for orders.
func printable(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case r == utf8.RuneError || unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, text)
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxShown {
		text = strings.ToValidUTF8(text[:maxShown], "")
	}
	return text
}
