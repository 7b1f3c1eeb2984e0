package httpapi

import (
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/labstack/echo/v4"

	"github.com/reservoirhq/reservoir/httpapi/api"
)

// validate checks a request against the document, which also fills in the defaults of
// its parameters.
func (s *Server) validate(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		op := callOf(r.Context()).operation
		if err := s.checkBody(c, op); err != nil {
			return err
		}
		query, err := url.ParseQuery(r.URL.RawQuery)
		if err != nil {
			return invalidRequest.field("query", "", err.Error(), "")
		}
		params := map[string]string{}
		for _, name := range c.ParamNames() {
			if params[name], err = url.PathUnescape(c.Param(name)); err != nil {
				return invalidRequest.field("path."+name, "", "is not percent-encoded as it must be", "")
			}
		}
		input := &openapi3filter.RequestValidationInput{
			Request: r, PathParams: params, QueryParams: query, Route: op.route,
			Options: &openapi3filter.Options{MultiError: true, AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, KeepValidatedValue: true},
		}
		fields := unknown(query, op)
		if err := openapi3filter.ValidateRequest(r.Context(), input); err != nil {
			var long *http.MaxBytesError
			if errors.As(err, &long) {
				return s.tooLong()
			}
			fields = append(fields, mistakes(err, "")...)
		}
		if len(fields) > 0 {
			slices.SortStableFunc(fields, func(a, b api.FieldError) int { return strings.Compare(a.Field, b.Field) })
			return &problemError{kind: invalidRequest, detail: fields[0].Field + ": " + fields[0].Message, fields: fields}
		}
		return next(c)
	}
}

// checkBody looks at what comes before a body's contents.
func (s *Server) checkBody(c echo.Context, op *operation) error {
	r := c.Request()
	if r.ContentLength == 0 || r.Body == http.NoBody {
		return nil
	}
	if !op.body {
		return invalidRequest.field("body", "", "this operation takes none", "Send no body")
	}
	if r.ContentLength > s.opts.MaxBody {
		return s.tooLong()
	}
	r.Body = http.MaxBytesReader(c.Response(), r.Body, s.opts.MaxBody)
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/json" {
		return unsupportedMedia.problem("the body must be application/json").withRemedy("Send Content-Type: application/json")
	}
	return nil
}

func (s *Server) tooLong() error {
	return tooLarge.problem(fmt.Sprintf("the body has more than %d bytes", s.opts.MaxBody))
}

// unknown names the query's parameters that the operation does not have: a typing error
// must not select everything.
func unknown(query url.Values, op *operation) (fields []api.FieldError) {
	remedy := "Send no parameters"
	if len(op.query) > 0 {
		remedy = "Use one of: " + strings.Join(op.query, ", ")
	}
	for name := range query {
		if !slices.Contains(op.query, name) {
			fields = append(fields, api.FieldError{Field: "query." + name, Message: "is not known", Remedy: remedy})
		}
	}
	return fields
}

// unsupported gives the property that a message says an object does not have.
func unsupported(message string) (name string, ok bool) {
	rest, begins := strings.CutPrefix(message, "property \"")
	name, ends := strings.CutSuffix(rest, "\" is unsupported")
	return name, begins && ends
}

// mistakes gives what is wrong in a request, mistake by mistake.
func mistakes(err error, at string) (fields []api.FieldError) {
	switch e := err.(type) { //nolint:errorlint // it walks the tree
	case openapi3.MultiError:
		for _, inner := range e {
			fields = append(fields, mistakes(inner, at)...)
		}
		return fields
	case *openapi3filter.RequestError:
		if e.Parameter != nil {
			at = e.Parameter.In + "." + e.Parameter.Name
		} else {
			at = "body"
		}
		if e.Err == nil {
			return []api.FieldError{{Field: at, Message: e.Reason}}
		}
		return mistakes(e.Err, at)
	case *openapi3.SchemaError:
		for _, part := range e.JSONPointer() {
			at += "." + part
		}
		message := e.Reason
		if name, ok := unsupported(message); ok {
			at, message = at+"."+name, "is not known"
		}
		return []api.FieldError{{Field: strings.TrimPrefix(at, "body."), Message: message}}
	case *openapi3filter.ParseError:
		return []api.FieldError{{Field: at, Message: e.Error()}}
	default:
		if inner := errors.Unwrap(err); inner != nil {
			return mistakes(inner, at)
		}
		return []api.FieldError{{Field: at, Message: err.Error()}}
	}
}
