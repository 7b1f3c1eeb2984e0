package web_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/redis/go-redis/v9"

	"github.com/reservoirhq/reservoir/internal/shop"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/jobs"
	"github.com/reservoirhq/reservoir/replay"
)

// testWithoutScripts reads all there is to read, and estimates, with scripts turned off.
func testWithoutScripts(s *site, b *tab) {
	b.do(emulation.SetScriptExecutionDisabled(true))
	b.open("/")
	b.says(shop.Payments, "What needs a person")
	if b.ask2(`document.documentElement.classList.contains("js")`) {
		b.t.Fatal("scripts run")
	}
	for _, way := range []struct{ link, says string }{
		{"Explore", "What happened?"}, {"The last hour", "Next events"}, {"Jobs", "Tell the mailer again"}, {"Tell the mailer again", "Dead letters"},
		{"Projections", "Every order as it is now"}, {"orders", "History"}, {"Lower-case states for acme", "Difference from the live table"},
		{"Audit", "createRebuild"}, {"Settings", "store.url"}, {"Overview", shop.Shipments}, {shop.Shipments, "By day and hour"},
	} {
		b.press(way.link)
		b.says(way.says)
	}
	for _, selector := range []string{".needs-js"} {
		if b.ask2(`[...document.querySelectorAll(` + quote(selector) + `)].some((e) => e.offsetParent)`) {
			b.t.Errorf("what needs scripts shows without: %s", selector)
		}
	}
	b.shoot("without-scripts-stream")
	b.fill("from", "10h ago")
	b.press("Replay")
	b.says("Start a replay")
	b.fill("into", "redis:{stream}:quiet")
	b.press("Estimate")
	b.says("exactly once", "By type")
	b.shoot("without-scripts-replay")
	b.press("Explore")
	b.fill("stream", "shop:orders:*")
	b.fill("type", "OrderPaid")
	b.press("Search")
	b.says("OrderPaid")
	b.do(chromedp.Click(`#events a[href^="/aggregate"]`, chromedp.ByQuery))
	b.says("After →")
	b.press("After →")
	b.says("← Before")
}

// ask2 evaluates a condition.
func (b *tab) ask2(expression string) (holds bool) {
	b.t.Helper()
	b.ask("!!("+expression+")", &holds)
	return holds
}

// testHostile puts markup wherever content comes from, and looks at all of it.
func testHostile(s *site, b *tab) {
	refuse := &receiver{status: 422, body: hostile}
	target, err := s.opts.Replays.ParseTarget(refuse.serve(b.t), nil)
	s.must(err)
	job, err := s.opts.Replays.Create(b.t.Context(), replay.Spec{Streams: []string{"*script*"}, Sink: target, Failures: replay.FailurePolicy{MaxDeadLetters: 100}},
		replay.CreateOptions{By: hostile, Name: hostile, Reason: hostile})
	s.must(err)
	if job = s.ended(job.ID); job.State != jobs.Failed && job.State != jobs.Succeeded {
		b.t.Fatal(job.State)
	}
	for _, path := range []string{
		"/", "/?q=" + hostileQuery, "/stream?name=" + hostileQuery, "/stream?window=1h&name=" + hostileQuery, "/explore?stream=" + hostileQuery, "/explore?where=" + hostileQuery,
		"/aggregate?id=" + hostileQuery, "/jobs", "/jobs?by=" + hostileQuery, "/jobs/" + job.ID, "/jobs/" + job.ID + "?done=" + hostileQuery,
		"/replays/new?stream=" + hostileQuery + "&into=" + hostileQuery, "/replays/new?stream=" + hostileQuery + "&into=redis:x&name=" + hostileQuery,
		"/rebuilds/new?projection=" + hostileQuery, "/projections/" + hostileQuery, "/settings", "/audit?who=" + hostileQuery, "/login?next=" + hostileQuery, "/" + hostileQuery,
	} {
		b.open(path)
		b.do(chromedp.WaitReady("footer", chromedp.ByQuery))
		if b.hacked() {
			b.t.Errorf("%s: content has run", path)
		}
		if n := b.count("main img, main iframe, main object, main embed, main script, main [onerror], main [onload]"); n > 0 {
			b.t.Errorf("%s: %d elements of the content", path, n)
		}
		b.quiet(path)
	}
	b.open("/jobs/" + job.ID)
	b.do(chromedp.Click("#letters summary", chromedp.ByQuery))
	b.shoot("job-hostile")
}

// hostileQuery is hostile in an address.
var hostileQuery = strings.TrimPrefix(query("x", hostile), "x=") //nolint:gochecknoglobals // a constant

// testEveryPage looks at every page: axe-core finds nothing serious, nothing is wider than
// the window, and the browser complains of nothing. It does so on a desktop in light and
// on a phone in dark, at once, and for pictures in the two other looks too.
func testEveryPage(t *testing.T, s *site, browser *chromium) {
	axe, err := axeCore()
	s.must(err)
	pages := s.everyPage(t)
	for i, look := range looks {
		if !look.always && !*allLooks {
			continue
		}
		t.Run(look.name, func(t *testing.T) {
			t.Parallel()
			b := newTab(t, browser, s.url)
			b.look(i)
			for _, one := range pages {
				b.open(one.path)
				b.do(chromedp.WaitReady("footer", chromedp.ByQuery))
				b.ask(axe, nil)
				if *allLooks {
					b.picture(one.name, i)
				}
				b.narrow(one.name, i)
				b.judge(one.name+", "+look.name, i > 0)
				b.quiet(one.name)
			}
		})
	}
}

// shown is a page and what its pictures are called.
type shown struct{ name, path string }

// everyPage gives every page in every state that there is.
func (s *site) everyPage(t *testing.T) []shown {
	running, word := s.slow(), strings.Repeat("W", 300)
	pages := []shown{
		{"overview", "/"}, {"overview-none", "/?q=nothing"}, {"stream", "/stream?" + query("name", shop.Payments)}, {"stream-hostile", "/stream?" + query("name", hostile, "window", "1h")},
		{"explore-start", "/explore"}, {"explore", "/explore?" + query("stream", shop.Payments)}, {"explore-none", "/explore?stream=none"},
		{"explore-hostile", "/explore?" + query("stream", hostile)}, {"explore-wrong", "/explore?" + query("where", "payload. >")},
		{"stream-long", "/stream?" + query("name", long)}, {"explore-long", "/explore?" + query("stream", long)}, {"aggregate-long", "/aggregate?" + query("id", word+"/"+word, "stream", long)},
		{"replay-long", "/replays/new?" + query("stream", long, "into", "redis:{stream}:"+long)},
		{"aggregate", "/aggregate?" + query("id", "order/7", "stream", "shop:orders:*", "step", "2")}, {"event", s.anEvent()}, {"jobs", "/jobs"}, {"jobs-none", "/jobs?by=nobody"}, {"job-running", "/jobs/" + running},
	}
	seen := map[string]bool{}
	for job, err := range s.jobs.List(t.Context(), jobs.Query{}) {
		s.must(err)
		if kind := job.Kind + "-" + string(job.State); !seen[kind] && job.ID != running {
			seen[kind] = true
			pages = append(pages, shown{"job-" + kind, "/jobs/" + job.ID})
		}
	}
	return append(pages, []shown{
		{"projections", "/projections"}, {"projection", "/projections/orders"}, {"projection-never-built", "/projections/never_built"},
		{"replay-start", "/replays/new"}, {"replay", "/replays/new?" + query("stream", "shop:*", "into", "redis:{stream}:staging")}, {"replay-wrong", "/replays/new?" + query("stream", "shop:*", "into", "nonsense:x")},
		{"rebuild-start", "/rebuilds/new"}, {"rebuild", "/rebuilds/new?projection=orders"}, {"audit", "/audit"}, {"audit-none", "/audit?operation=none"}, {"settings", "/settings"},
		{"login", "/login"}, {"not-found", "/nothing"},
	}...)
}

// axeCore gives the text of axe-core, which `make tools` installs.
func axeCore() (string, error) {
	cache, err := stack.CacheDir()
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(filepath.Join(cache, "node", "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		return "", fmt.Errorf("axe-core: %w (run `make tools`)", err)
	}
	return string(text) + ";true", nil
}

// violation is what axe-core does not like.
type violation struct {
	ID, Impact, Help string
	Nodes            []string
}

// bad says whether it must not be.
func (v *violation) bad() bool { return v.Impact == "serious" || v.Impact == "critical" }

// violations has axe-core look at the page: by all of its rules, or once more by those
// whose answer depends on colors and sizes.
func (b *tab) violations(again bool) (found []violation) {
	b.t.Helper()
	rules := ""
	if again {
		rules = `, runOnly: ["color-contrast", "link-in-text-block", "scrollable-region-focusable", "target-size"]`
	}
	var answer string
	err := b.try(chromedp.Evaluate(`axe.run(document, {resultTypes: ["violations"], preload: false, iframes: false`+rules+`}).then((r) => JSON.stringify(
		r.violations.map((v) => ({id: v.id, impact: v.impact, help: v.help, nodes: v.nodes.map((n) => n.html + " " + n.failureSummary)}))))`,
		&answer, func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }))
	if err != nil {
		b.t.Fatalf("axe-core: %v", err)
	}
	if err := json.Unmarshal([]byte(answer), &found); err != nil {
		b.t.Fatalf("axe-core: %v: %s", err, answer)
	}
	return found
}

// judge checks that axe-core finds nothing serious.
func (b *tab) judge(where string, again bool) {
	b.t.Helper()
	for _, v := range b.violations(again) {
		say := b.t.Logf
		if v.bad() {
			say = b.t.Errorf
		}
		say("%s: %s (%s): %s: %s", where, v.ID, v.Impact, v.Help, strings.Join(v.Nodes[:min(len(v.Nodes), 3)], "\n  "))
	}
}

// long is a name as long as nobody should choose it.
var long = strings.Repeat("a-very:long_name", 25) //nolint:gochecknoglobals // a constant

// long makes a stream in which everything is long.
func (s *site) long() {
	s.t.Helper()
	word := strings.Repeat("W", 300)
	for range 3 {
		s.must(s.raw.XAdd(s.t.Context(), &redis.XAddArgs{Stream: long, Values: []any{
			"event_type", word, "tenant", word, "aggregate_type", word, "aggregate_id", word, "event_id", word, "correlation_id", word, word, word,
			"payload", `{"` + word + `": "` + strings.Repeat(word, 20) + `"}`,
		}}).Err())
	}
	s.archive()
}

// slow starts a replay that runs for longer than anybody looks.
func (s *site) slow() string {
	s.t.Helper()
	into, err := s.opts.Replays.ParseTarget("redis:{stream}:slow", nil)
	s.must(err)
	job, err := s.opts.Replays.Create(s.t.Context(), replay.Spec{Streams: []string{"shop:*"}, Sink: into, Pace: replay.Pace{Rate: 2}}, replay.CreateOptions{By: "test", Name: strings.Repeat("A very long name ", 12)})
	s.must(err)
	return job.ID
}

// anEvent gives the address of an event.
func (s *site) anEvent() string {
	s.t.Helper()
	list, err := s.raw.XRangeN(s.t.Context(), shop.Payments, "-", "+", 1).Result()
	s.must(err)
	return "/event?" + query("stream", shop.Payments, "incarnation", "1", "id", list[0].ID)
}
