package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/reservoirhq/reservoir/httpapi/api"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/rebuild"
	"github.com/reservoirhq/reservoir/replay"
)

// problem is what a server answered in place of what was asked for: the error that the
// same work on the bucket ends with, as far as the server tells.
type problem struct {
	api.Problem
	is     []error // what it wraps, as the error of the bucket does
	fields []error // *replay.FieldError each
	remedy string
}

// Error gives what is wrong, with every field that is.
func (p *problem) Error() string {
	text := p.Detail
	if text == "" {
		text = p.Title
	}
	for _, f := range p.Errors {
		if !strings.Contains(text, f.Message) {
			text += "; " + f.Field + ": " + f.Message
		}
	}
	return text
}

// Remedy says what to do about it.
func (p *problem) Remedy() string { return p.remedy }

// Is makes it the errors of the packages below that it stands for.
func (p *problem) Is(target error) bool { return slices.Contains(p.is, target) }

// Unwrap gives the mistakes by field.
func (p *problem) Unwrap() []error { return p.fields }

// slug is the name of the kind of problem.
func (p *problem) slug() string { return strings.TrimPrefix(p.Type, "urn:reservoir:problem:") }

// maxProblem bounds the documents of problems.
const maxProblem = 1 << 20

// refusal reads why a server refused a request, and closes the answer.
func (r *remote) refusal(response *http.Response, c call) error {
	text, err := io.ReadAll(io.LimitReader(response.Body, maxProblem))
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return fmt.Errorf("read the answer of %s: %w", r.at, err)
	}
	media, _, err := mime.ParseMediaType(response.Header.Get("Content-Type"))
	document := api.Problem{}
	if err != nil || media != "application/problem+json" || json.Unmarshal(text, &document) != nil {
		return remedy.Wrapf(fmt.Errorf("the server %s answered %s, and not as a server of reservoir does", r.at, response.Status), addressAdvice, r.at)
	}
	return newProblem(document, c)
}

// newProblem makes an error of the document of a problem.
func newProblem(document api.Problem, c call) error {
	p := &problem{Problem: document, remedy: document.Remedy}
	switch p.slug() {
	case "not-found":
		p.is = []error{c.missing}
	case "wrong-state":
		p.is = []error{jobs.ErrState}
	case "held":
		p.is = []error{jobs.ErrHeld}
	case "changed":
		p.is = []error{jobs.ErrChanged}
	case "idempotency-key-reused":
		p.is = []error{jobs.ErrKeyReused}
	case "invalid-spec", "invalid-request":
		p.is = []error{replay.ErrInvalid, rebuild.ErrInvalid}
		for _, f := range document.Errors {
			p.fields = append(p.fields, &replay.FieldError{Field: strings.TrimPrefix(f.Field, "spec."), Value: f.Value, Err: errors.New(f.Message), Want: f.Remedy})
		}
	case "unauthenticated", "forbidden":
		p.remedy = fmt.Sprintf(tokenAdvice, c.role, c.role)
	case "internal":
		p.remedy = "look for request " + document.RequestID + " in the log of the server"
	}
	return p
}
