package web_test

import (
	"context"
	"flag"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"

	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/rebuild"
)

var allLooks = flag.Bool("screens", false, "keep pictures of every page in every look")

// TestBrowser uses the page of a whole server as people do, in Chromium, with the mouse
// and the keyboard. Its parts share one server, and leave behind what the last one, which
// judges every page, looks at.
func TestBrowser(t *testing.T) {
	s := newSite(t)
	browser := startChromium(t)
	t.Run("collector", func(t *testing.T) { testCollector(t, s, browser) })
	t.Run("empty", func(t *testing.T) { s.in(t, browser, testEmptySite) })
	s.trade(1500, ago(12*time.Hour), 28*time.Second)
	s.build("orders", "steps")
	s.keepArchiving()
	for _, part := range []struct {
		name string
		test func(*site, *tab)
	}{
		{"rebuild", testRebuildByHand}, {"hurt", func(s *site, _ *tab) { s.hurt(); s.long() }}, {"dependents", testDependents}, {"drag", testDrag}, {"keyboard", testKeyboard}, {"failure", testFailureByHand},
		{"live", testLive}, {"history", testHistory}, {"without-scripts", testWithoutScripts}, {"hostile", testHostile},
	} {
		if !t.Run(part.name, func(t *testing.T) { s.in(t, browser, part.test) }) {
			t.Log("what follows may lack what this part leaves behind")
		}
	}
	t.Run("every-page", func(t *testing.T) { s.in(t, browser, func(s *site, _ *tab) { testEveryPage(t, s, browser) }) })
}

// in runs a part in a tab of its own, logged in as an administrator.
func (s *site) in(t *testing.T, browser *chromium, test func(*site, *tab)) {
	t.Helper()
	outer := s.t
	s.t = t
	defer func() { s.t = outer }()
	b := newTab(t, browser, s.url)
	b.do(network.ClearBrowserCookies())
	b.login(s.tokens["admin"])
	test(s, b)
}

// testCollector checks that what should not be would be noticed.
func testCollector(t *testing.T, s *site, browser *chromium) {
	b := newTab(t, browser, s.url)
	b.open("/login")
	b.quiet("log in")
	for _, bad := range []string{
		`document.head.append(Object.assign(document.createElement("script"), {textContent: "window.__hacked = 1"}))`,
		`document.body.setAttribute("onclick", "1"); document.body.click()`,
		`document.body.append(Object.assign(document.createElement("img"), {src: "https://evil.example/x.png"}))`,
		`setTimeout(() => { throw new Error("a mistake") })`,
		`setTimeout(() => alert("boo"))`,
	} {
		b.ask("(() => { "+bad+"; return true })()", nil)
		var list []string
		tick := time.NewTicker(20 * time.Millisecond)
		for deadline := time.Now().Add(patience); len(list) == 0 && time.Now().Before(deadline); list = b.heard() {
			<-tick.C
		}
		tick.Stop()
		if len(list) == 0 {
			t.Errorf("nobody noticed %s", bad)
		}
		b.open("/login")
		b.heard()
	}
	if b.hacked() {
		t.Error("the policy lets scripts in")
	}
	axe, err := axeCore()
	s.must(err)
	b.ask(axe, nil)
	b.ask(`(() => { document.querySelector("main").append(document.createElement("select")); return true })()`, nil)
	if found := b.violations(false); len(found) != 1 || found[0].ID != "select-name" || !found[0].bad() {
		t.Errorf("axe-core found %+v, want a select without a name", found)
	}
}

// hacked says whether content of the archive has run.
func (b *tab) hacked() (hacked bool) {
	b.t.Helper()
	b.ask(`!!window.__hacked`, &hacked)
	return hacked
}

// testEmptySite sees a server to which nothing was ever published.
func testEmptySite(_ *site, b *tab) {
	b.says("Nothing is archived yet", "All is well", "Nothing runs")
	b.shoot("empty")
	b.press("Projections")
	b.says("never built")
	b.press("Jobs")
	b.says("No jobs yet")
}

// build builds projections for the first time, before anybody looks.
func (s *site) build(names ...string) {
	s.t.Helper()
	for _, name := range names {
		job, err := s.opts.Rebuilds.Create(s.t.Context(), rebuild.Spec{Projection: name, Approval: "automatic"}, rebuild.CreateOptions{By: "test"})
		s.must(err)
		if job = s.ended(job.ID); job.State != jobs.Succeeded {
			s.t.Fatalf("%s: %s: %+v", name, job.State, job.LastError)
		}
	}
}

// ended waits until a job has ended, or waits for a person.
func (s *site) ended(id string) *jobs.Job {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	for job, err := range s.jobs.Watch(ctx, id, 50*time.Millisecond) {
		s.must(err)
		if job.State.Ended() || job.State == jobs.Paused {
			return job
		}
	}
	s.t.Fatalf("job %s did not end", id)
	return nil
}

// jobAt gives the ID of the job that is shown.
func (b *tab) jobAt() string {
	b.t.Helper()
	b.at("/jobs/")
	var path string
	b.ask("location.pathname", &path)
	return strings.TrimPrefix(path, "/jobs/")
}

// observeBar notes every value that the bar of a job has in a phase from now on, for as
// long as the page is not loaded anew.
func (b *tab) observeBar(phase string) {
	b.t.Helper()
	b.ask(`(() => {
		window.seen = [];
		const note = () => {
			const bar = document.querySelector("#job-progress progress[value]"), at = document.querySelector("#job-progress .now");
			if (bar && at && at.innerText === `+quote(phase)+` && bar.value !== window.seen.at(-1)) window.seen.push(bar.value);
		};
		note();
		new MutationObserver(note).observe(document.body, {subtree: true, childList: true, attributes: true});
		return true;
	})()`, nil)
}

// moved checks that the bar went up, in steps.
func (b *tab) moved(steps int) {
	b.t.Helper()
	var seen []float64
	b.ask("window.seen || []", &seen)
	if len(seen) < steps || !slices.IsSorted(seen) {
		b.t.Errorf("the bar was at %v: want at least %d values that rise, without the page being loaded anew", seen, steps)
	}
}
