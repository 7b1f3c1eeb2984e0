package httpapi

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
)

// boundBody bounds the time that a request's body takes to come, whoever sends it and
// whatever it is for. Once it is there, reading is not bounded any more: what is read
// then only says that the caller has gone.
func (s *Server) boundBody(c echo.Context) error {
	r := c.Request()
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	conn := http.NewResponseController(c.Response())
	err := conn.SetReadDeadline(time.Now().Add(s.opts.Timeout))
	if errors.Is(err, http.ErrNotSupported) {
		return nil // a recorder of a test
	}
	if err != nil {
		return fmt.Errorf("bound the time of the body: %w", err)
	}
	r.Body = &boundedBody{r.Body, conn}
	return nil
}

// boundedBody is a body that lifts the deadline at its end.
type boundedBody struct {
	io.ReadCloser
	conn *http.ResponseController
}

// Read implements io.Reader.
func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF { //nolint:errorlint // readers give it as it is
		if lifted := b.conn.SetReadDeadline(time.Time{}); lifted != nil {
			err = lifted
		}
	}
	return n, err //nolint:wrapcheck // it is the body's
}
