package web_test

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/httpapi/token"
	"github.com/reservoirhq/reservoir/httpapi/web"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/replay"
)

var (
	// errBusy is what the caller "busy" gets, and errBroken the caller "broken".
	errBusy   = errors.New("more than 50 requests a second")
	errBroken = errors.New("dial redis://:hunter2@localhost: refused")
)

// testGate lets in whoever has the cookie "who", as the caller of that name.
type testGate struct {
	callers map[string]*testCaller
	changes []string
}

// testCaller is one of them.
type testCaller struct {
	name             string
	role             token.Role
	streams, tenants []string
}

func (g *testGate) Caller(r *http.Request) (web.Caller, error) {
	cookie, err := r.Cookie("who")
	if err != nil {
		return nil, web.ErrLogin
	}
	switch cookie.Value {
	case "busy":
		return nil, errBusy
	case "broken":
		return nil, errBroken
	}
	if c := g.callers[cookie.Value]; c != nil {
		return c, nil
	}
	return nil, web.ErrLogin
}

func (g *testGate) Login(w http.ResponseWriter, _ *http.Request, text string) error {
	if g.callers[text] == nil {
		return web.ErrLogin
	}
	http.SetCookie(w, &http.Cookie{Name: "who", Value: text, Path: "/", HttpOnly: true})
	return nil
}

func (*testGate) Logout(w http.ResponseWriter, _ *http.Request) error {
	http.SetCookie(w, &http.Cookie{Name: "who", Path: "/", MaxAge: -1})
	return nil
}

func (g *testGate) Change(r *http.Request, operation string, change func(context.Context) (string, error)) error {
	subject, err := change(r.Context())
	if err == nil {
		g.changes = append(g.changes, operation+" "+subject)
	}
	return err
}

func (*testGate) Problem(err error) web.Problem {
	status := http.StatusUnprocessableEntity
	switch {
	case errors.Is(err, errBusy):
		return web.Problem{Status: http.StatusTooManyRequests, Title: "Too many requests", Detail: err.Error(), RetryAfter: 7}
	case errors.Is(err, errBroken):
		status = http.StatusInternalServerError
	}
	if errors.Is(err, jobs.ErrState) {
		status = http.StatusConflict
	}
	return web.Problem{Status: status, Title: "That cannot be done", Detail: err.Error(), Remedy: remedy.Of(err)}
}

func (c *testCaller) Name() string { return c.name }

func (*testCaller) LoggedIn() bool { return true }

func (c *testCaller) May(operation string) error {
	needed := token.Viewer
	switch operation {
	case "listAudit":
		needed = token.Admin
	case "pauseJob", "resumeJob", "cancelJob", "retryJob", "approveJob", "createReplay", "createRebuild", "retryDeadLetters", "purgeDeadLetters", "rollbackProjection":
		needed = token.Operator
	case "getStreamCoverage", "estimateRebuild", "getVerification":
		if len(c.tenants) > 0 {
			return web.ErrForbidden
		}
	}
	if !c.role.Includes(needed) {
		return web.ErrForbidden
	}
	return nil
}

func (c *testCaller) Stream(name string) bool {
	return len(c.streams) == 0 || slices.ContainsFunc(c.streams, func(p string) bool { return event.MatchPattern(p, name) })
}

func (c *testCaller) Patterns(list []string) bool {
	return len(c.streams) == 0 || !slices.ContainsFunc(list, func(p string) bool { return !slices.Contains(c.streams, p) })
}

func (c *testCaller) Narrow(tenants []string) ([]string, error) {
	if len(c.tenants) == 0 {
		return tenants, nil
	}
	if len(tenants) == 0 {
		return c.tenants, nil
	}
	for _, one := range tenants {
		if !slices.Contains(c.tenants, one) {
			return nil, web.ErrForbidden
		}
	}
	return tenants, nil
}

func (c *testCaller) Job(context.Context, *jobs.Job) (bool, error) {
	return len(c.streams)+len(c.tenants) == 0, nil
}

func (c *testCaller) View(job *jobs.Job) *jobs.Job { return job }

func (*testCaller) Hide(*replay.Estimate) {}

func (*testCaller) Key(key string) string { return key }
