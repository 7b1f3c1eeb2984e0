package web

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/httpapi/audit"
)

// auditPerPage is how many entries of the audit trail a page lists.
const auditPerPage = 100

// auditPage is what Audit shows.
type auditPage struct {
	url.Values
	Entries []*audit.Entry
	Next    string
	None    bool // there is no trail
}

func (s *Server) auditTrail(r *request) error {
	p := auditPage{Values: r.URL.Query(), None: s.opts.Audit == nil}
	if p.None {
		return s.render(r, http.StatusOK, "audit", "Audit", p)
	}
	f := &form{Values: p.Values}
	q := audit.Query{Who: f.text("who"), Operation: f.text("operation")}
	within, err := event.ParseRange(f.text("from"), f.text("to"), s.opts.Clock())
	if err != nil {
		return fmt.Errorf("%w: %w", errForm, err)
	}
	if !within.From.IsZero() {
		q.Since = idTime(within.From)
	}
	if !within.To.IsZero() {
		q.Until = idTime(within.To.Next())
	}
	if after := f.text("after"); audit.CheckID(after) == nil {
		q.After = after
	}
	ctx, cancel := context.WithTimeout(r.Context(), pageTimeout)
	defer cancel()
	for entry, err := range s.opts.Audit.List(ctx, q) {
		if err != nil {
			return err //nolint:wrapcheck // it says what failed
		}
		if len(p.Entries) == auditPerPage {
			p.Next = p.Entries[auditPerPage-1].ID
			break
		}
		p.Entries = append(p.Entries, entry)
	}
	return s.render(r, http.StatusOK, "audit", "Audit", p)
}

// settingsPage is what Settings shows.
type settingsPage struct {
	Sections []settingSection
	Version  string
	Redis    bool
	House    bool
}

type settingSection struct {
	Name     string
	Settings []Setting
}

func (s *Server) settings(r *request) error {
	p := settingsPage{Version: s.opts.Version, Redis: s.opts.Redis != nil, House: s.opts.ClickHouse != nil}
	if r.caller.May("listAudit") == nil { // what is configured is for those who configure
		for _, one := range s.opts.Settings {
			name, _, _ := strings.Cut(one.Key, ".")
			if n := len(p.Sections); n == 0 || p.Sections[n-1].Name != name {
				p.Sections = append(p.Sections, settingSection{Name: name})
			}
			last := &p.Sections[len(p.Sections)-1]
			last.Settings = append(last.Settings, one)
		}
	}
	return s.render(r, http.StatusOK, "settings", "Settings", p)
}

// loginPage is the form to log in with a token.
type loginPage struct {
	Next  string
	Wrong string
}

// within gives an address of this site, or the overview's.
func within(next string) string {
	u, err := url.Parse(next) // which refuses control characters; browsers leave some of them out
	if err != nil || u.Scheme != "" || u.Host != "" || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.Contains(next, "\\") {
		return "/"
	}
	return next
}

func (s *Server) showLogin(w http.ResponseWriter, r *http.Request) {
	req := &request{w: w, Request: r}
	if err := s.render(req, http.StatusOK, "login", "Log in", loginPage{Next: within(r.FormValue("next"))}); err != nil {
		s.fail(req, err)
	}
}

func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	req := &request{w: w, Request: r}
	next := within(r.PostFormValue("next"))
	if err := s.opts.Gate.Login(w, r, strings.TrimSpace(r.PostFormValue("token"))); err != nil {
		p := s.problem(err)
		if err := s.render(req, p.Status, "login", "Log in", loginPage{Next: next, Wrong: p.Detail}); err != nil {
			s.fail(req, err)
		}
		return
	}
	http.Redirect(w, r, next, http.StatusSeeOther)
}

func (s *Server) logout(w http.ResponseWriter, r *http.Request) {
	if err := s.opts.Gate.Logout(w, r); err != nil {
		s.fail(&request{w: w, Request: r}, err)
		return
	}
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}
