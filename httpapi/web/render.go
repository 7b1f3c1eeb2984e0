package web

import (
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"path"
	"strings"
)

// page is a template that is shown whole, within the layout, or as a part of one.
type page struct {
	template *template.Template
	part     bool
}

// view is what the layout is given.
type view struct {
	Title   string
	Nav     []navItem
	Caller  string // who is logged in
	Version string
	Body    any
}

type navItem struct {
	Name, Path string
	Current    bool
}

// loadPages reads the templates: _*.html are there for all, each other one is a page.
// What _parts.html defines is a page of its own too, shown without the layout.
func loadPages(funcs template.FuncMap) (map[string]page, error) {
	common, err := template.New("").Funcs(funcs).ParseFS(templateFiles, "templates/_*.html")
	if err != nil {
		return nil, fmt.Errorf("read the page's templates: %w", err)
	}
	pages := map[string]page{}
	for _, name := range []string{"problem", "job-live", "replay-estimate", "rebuild-estimate", "event-rows"} {
		pages[name] = page{template: common.Lookup(name), part: true}
		if pages[name].template == nil {
			return nil, fmt.Errorf("read the page's templates: %s is missing", name)
		}
	}
	files, err := fs.Glob(templateFiles, "templates/*.html")
	if err != nil {
		return nil, fmt.Errorf("read the page's templates: %w", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(path.Base(file), ".html")
		if strings.HasPrefix(name, "_") {
			continue
		}
		clone, err := common.Clone()
		if err == nil {
			_, err = clone.ParseFS(templateFiles, file)
		}
		if err != nil {
			return nil, fmt.Errorf("read the page's templates: %w", err)
		}
		pages[name] = page{template: clone.Lookup("layout")}
	}
	return pages, nil
}

func (s *Server) execute(w io.Writer, r *request, name, title string, data any) error {
	p, ok := s.pages[name]
	if !ok {
		return fmt.Errorf("the page has no template %q", name)
	}
	if !p.part {
		data = s.layout(r, title, data)
	}
	if err := p.template.Execute(w, data); err != nil {
		return fmt.Errorf("show %s: %w", name, err)
	}
	return nil
}

// layout is what every page has around it. It names what the caller may see.
func (s *Server) layout(r *request, title string, body any) view {
	v := view{Title: title, Version: s.opts.Version, Body: body}
	if r.caller == nil {
		return v
	}
	if r.caller.LoggedIn() {
		v.Caller = r.caller.Name()
	}
	for _, item := range []struct{ name, path, operation string }{
		{"Overview", "/", "listStreams"}, {"Explore", "/explore", "listEvents"}, {"Jobs", "/jobs", "listJobs"},
		{"Projections", "/projections", "listProjections"}, {"Audit", "/audit", "listAudit"}, {"Settings", "/settings", "getVersion"},
	} {
		if r.caller.May(item.operation) != nil {
			continue
		}
		v.Nav = append(v.Nav, navItem{item.name, item.path, current(item.path, r.URL.Path)})
	}
	return v
}

// current says whether an item of the navigation is where one is.
func current(item, at string) bool {
	switch item {
	case "/":
		return at == "/" || at == "/stream"
	case "/explore":
		return at == "/explore" || at == "/event" || at == "/aggregate"
	case "/jobs":
		return strings.HasPrefix(at, "/jobs") || strings.HasPrefix(at, "/replays")
	case "/projections":
		return strings.HasPrefix(at, "/projections") || strings.HasPrefix(at, "/rebuilds")
	default:
		return at == item
	}
}
