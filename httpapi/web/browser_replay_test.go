package web_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/reservoirhq/reservoir/internal/shop"
	"github.com/reservoirhq/reservoir/jobs"
)

// testDrag drags a range over a timeline with the mouse, and replays it.
func testDrag(s *site, b *tab) {
	b.open("/stream?" + query("name", shop.Payments, "window", "24h"))
	var box struct{ X, Y, Width, Height float64 }
	b.ask(`(() => { const e = document.querySelector("[data-timeline] svg"); e.scrollIntoView({block: "center"}); return e.getBoundingClientRect().toJSON() })()`, &box)
	at := func(share float64) (x, y float64) { return box.X + share*box.Width, box.Y + box.Height/2 }
	mouse := func(what input.MouseType, share float64) {
		x, y := at(share)
		b.do(chromedp.MouseEvent(what, x, y, chromedp.ButtonLeft, chromedp.ClickCount(1)))
	}
	mouse(input.MousePressed, 0.4)
	for share := 0.42; share < 0.7; share += 0.04 {
		mouse(input.MouseMoved, share)
	}
	mouse(input.MouseMoved, 0.7)
	mouse(input.MouseReleased, 0.7)
	b.shoot("stream-dragged")
	from, to := b.value("from"), b.value("to")
	b.press("Replay")
	b.replayRange(s, shop.Payments, from, to, "dragged")
}

// replayRange is at the form of a replay, which must hold a range, and replays it.
func (b *tab) replayRange(s *site, stream, from, to, target string) {
	b.t.Helper()
	b.at("/replays/new")
	if b.value("from") != from || b.value("to") != to || b.value("stream") != stream || from == "" {
		b.t.Errorf("the form has %s from %q to %q, want %s from %q to %q", b.value("stream"), b.value("from"), b.value("to"), stream, from, to)
	}
	b.fill("into", "redis:"+target)
	b.says("exactly once")
	b.wait("nothing is under way", `!document.querySelector(".htmx-request, .busy")`)
	b.shoot("replay-form-" + target)
	b.key(kb.Enter)
	b.says("Check, then start")
	var tick bool
	if b.ask(`!!document.querySelector("[name=sure]")`, &tick); tick {
		b.do(chromedp.Click("[name=sure]", chromedp.ByQuery))
	}
	b.press("Start the replay")
	id := b.jobAt()
	if job := s.ended(id); job.State != jobs.Succeeded {
		b.t.Fatalf("%s: %+v", job.State, job.LastError)
	}
	b.wait("the page says so", `document.querySelector("h1 + .badge").innerText === "succeeded"`)
	b.shoot("replay-done-" + target)
	begin, err := time.Parse(time.RFC3339, from)
	s.must(err)
	end, err := time.Parse(time.RFC3339, to)
	s.must(err)
	source, err := s.raw.XRange(b.t.Context(), stream, fmt.Sprint(begin.UnixMilli()), fmt.Sprint(end.UnixMilli())).Result()
	s.must(err)
	all, err := s.raw.XLen(b.t.Context(), stream).Result()
	s.must(err)
	n, err := s.raw.XLen(b.t.Context(), target).Result()
	s.must(err)
	if int(n) != len(source) || n == 0 || n == all {
		b.t.Errorf("%s has %d events, and the range %d of %d", target, n, len(source), all)
	}
}

// testKeyboard chooses a range of a timeline by the keyboard alone, and replays it.
func testKeyboard(s *site, b *tab) {
	b.open("/stream?" + query("name", shop.Shipments, "window", "24h"))
	b.tabTo(`document.activeElement.matches("[data-edge=from]")`)
	for range 4 {
		b.key(kb.PageUp) // a tenth each
	}
	for range 3 {
		b.key(kb.ArrowRight)
	}
	b.tabTo(`document.activeElement.matches("[data-edge=to]")`)
	for range 3 {
		b.key(kb.PageDown)
	}
	b.shoot("stream-keyboard")
	from, to := b.value("from"), b.value("to")
	var begin, end float64
	b.ask(`Number(document.querySelector("[data-timeline]").dataset.from)`, &begin)
	b.ask(`Number(document.querySelector("[data-timeline]").dataset.to)`, &end)
	for text, share := range map[string]float64{from: 0.403, to: 0.7} {
		if at, err := time.Parse(time.RFC3339, text); err != nil || at.Sub(time.UnixMilli(int64(begin+share*(end-begin)))).Abs() > time.Second {
			b.t.Errorf("%q is not at %v, %v", text, share, err)
		}
	}
	var label string
	if b.ask(`document.activeElement.getAttribute("aria-valuetext")`, &label); !strings.Contains(label, ":") {
		b.t.Errorf("a screen reader is told %q", label)
	}
	b.tabTo(`document.activeElement.innerText === "Replay"`)
	b.key(kb.Enter)
	b.replayRange(s, shop.Shipments, from, to, "typed")
}

// tabTo goes on by the tab key until the focus is where it should be.
func (b *tab) tabTo(where string) {
	b.t.Helper()
	for range 100 {
		var there bool
		if b.ask("!!("+where+")", &there); there {
			return
		}
		b.key(kb.Tab)
	}
	b.t.Fatalf("the tab key does not lead to where %s", where)
}

// testFailureByHand sees a replay fail, repairs its target, and retries what was left.
func testFailureByHand(s *site, b *tab) {
	refuse := &receiver{status: http.StatusUnprocessableEntity, body: hostile}
	into := refuse.serve(b.t)
	b.press("Jobs")
	b.press("Start a replay")
	b.at("/replays/new")
	b.fill("stream", shop.Payments)
	b.says("events", "no target is named yet")
	b.fill("into", into)
	b.press("More")
	b.fill("limit", "10")
	b.fill("max_dead_letters", "3")
	b.fill("name", "Tell the mailer again")
	b.wait("nothing is under way", `location.search.includes("mailer+again") && !document.querySelector(".htmx-request, .busy")`)
	b.press("Review and start")
	b.says("Check, then start", "idempotency key")
	b.do(chromedp.Click("[name=sure]", chromedp.ByQuery))
	b.press("Start the replay")
	id := b.jobAt()
	if job := s.ended(id); job.State != jobs.Failed {
		b.t.Fatalf("%s: %+v", job.State, job.LastError)
	}
	b.says("What went wrong", "Dead letters")
	problem := b.text(".problem")
	if !strings.Contains(problem, "→") && b.text(".problem .remedy") == "" {
		b.t.Errorf("no remedy: %q", problem)
	}
	b.says("422", "Retry these, or all if none is chosen")
	letters := b.count("#letters tbody tr")
	if letters == 0 {
		b.t.Error("no dead letters")
	}
	b.shoot("job-failed")
	refuse.set(http.StatusOK) // somebody repairs it
	b.press("Retry")
	b.wait("the same job has succeeded", `document.querySelector("h1 + .badge").innerText === "succeeded"`)
	if job := s.ended(id); job.State != jobs.Succeeded {
		b.t.Errorf("%s: %+v", job.State, job.LastError)
	}
	b.shoot("job-retried")
	b.press("Retry these, or all if none is chosen")
	b.wait("another job", `location.pathname.startsWith("/jobs/") && location.pathname !== `+quote("/jobs/"+id))
	again := s.ended(b.jobAt())
	if again.State != jobs.Succeeded || again.Progress.Done != uint64(letters) {
		b.t.Errorf("%s, %d of %d dead letters: %+v", again.State, again.Progress.Done, letters, again.LastError)
	}
	b.wait("the page says so", `document.querySelector("h1 + .badge").innerText === "succeeded"`)
	b.shoot("letters-retried")
}

// count counts elements.
func (b *tab) count(selector string) (n int) {
	b.t.Helper()
	b.ask(`document.querySelectorAll(`+quote(selector)+`).length`, &n)
	return n
}

// testLive follows a stream, to which hostile events come.
func testLive(s *site, b *tab) {
	b.press("Explore")
	b.at("/explore")
	b.fill("stream", shop.Payments)
	b.key(kb.Enter)
	b.says("Live tail")
	b.press("Live tail")
	b.says("Live: the newest event is on top")
	before := b.count("#events tr")
	for i, kind := range []string{"PaymentDisputed", hostile} {
		at, err := s.raw.Do(b.t.Context(), "XADD", shop.Payments, "*", "event_type", kind, "tenant", hostile, "aggregate_type", "payment", "aggregate_id", hostile,
			"payload", `{"note": "</pre><script>window.__hacked = 1</script>", "`+strings.ReplaceAll(hostile, `"`, `\"`)+`": `+strconv.Itoa(i)+`}`).Text()
		s.must(err)
		b.wait("the event "+at, `document.querySelector("#events tr").innerText.includes(`+quote(at)+`)`)
	}
	if n := b.count("#events tr"); n != before+2 {
		b.t.Errorf("%d rows, want two more than %d", n, before)
	}
	b.do(chromedp.Click("#events tr summary", chromedp.ByQuery))
	b.says("</pre><script>window.__hacked")
	b.shoot("explore-live")
	b.press("Live tail")
	b.says("Stopped.")
	if b.hacked() {
		b.t.Error("an event has run")
	}
}

// testHistory steps through what happened to an order, by mouse and by keyboard.
func testHistory(_ *site, b *tab) {
	b.open("/explore?" + query("stream", "shop:orders:*", "type", "OrderPaid"))
	b.do(chromedp.Click(`#events a[href^="/aggregate"]`, chromedp.ByQuery))
	b.at("/aggregate")
	step := func() string { return b.text("#now-h") }
	first := step()
	if !strings.HasPrefix(first, "1. OrderPlaced") {
		b.t.Errorf("it begins with %q", first)
	}
	b.press("After →")
	b.wait("the second step", `document.querySelector("#now-h").innerText.startsWith("2. ")`)
	b.shoot("aggregate")
	b.key(kb.ArrowLeft)
	b.wait("the first step again", `document.querySelector("#now-h").innerText === `+quote(first))
	b.key(kb.ArrowRight)
	b.wait("the second step again", `document.querySelector("#now-h").innerText.startsWith("2. ")`)
	var at string
	b.ask("location.search", &at)
	if v, err := url.ParseQuery(strings.TrimPrefix(at, "?")); err != nil || v.Get("step") != "2" {
		b.t.Errorf("the step has no address: %q", at)
	}
}
