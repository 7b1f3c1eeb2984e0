package web_test

import (
	"strings"

	"github.com/chromedp/chromedp"

	"github.com/reservoirhq/reservoir/jobs"
)

// testRebuildByHand changes a definition, rebuilds, looks at the difference, approves it
// and rolls it back, all by hand.
func testRebuildByHand(s *site, b *tab) {
	s.change("type AS state", "if(tenant = 'acme', lower(type), type) AS state")
	b.press("Projections")
	b.at("/projections")
	b.shoot("projections")
	b.press("Start a rebuild")
	b.at("/rebuilds/new")
	b.says("Choose a projection, and what a rebuild would do shows here")
	b.do(chromedp.SendKeys(`[name=projection]`, "orders", chromedp.ByQuery))
	b.says("A new table is built beside", "It waits for a person")
	whole := b.text("#estimate .big")
	b.fill("tenant", "acme")
	b.says("The rows outside of the scope are carried over")
	if part := b.text("#estimate .big"); part == whole {
		b.t.Errorf("the estimate does not follow what is typed: %q", part)
	}
	b.fill("tenant", "\b") // a person thinks again
	b.wait("the estimate of all", `document.querySelector("#estimate .big").innerText === `+quote(whole))
	b.press("More")
	b.fill("rate", "80")
	b.fill("concurrency", "1")
	b.fill("name", "Lower-case states for acme")
	b.wait("the address holds the form", `location.search.includes("rate=80") && location.search.includes("Lower-case")`)
	b.wait("nothing is under way", `!document.querySelector(".htmx-request, .busy")`)
	b.shoot("rebuild-form")
	b.press("Review and start")
	b.says("Check, then start")
	b.shoot("rebuild-review")
	b.press("Start the rebuild")
	id := b.jobAt()
	b.observeBar("load")
	b.wait("the bar has moved", `window.seen && window.seen.some((v) => v > 0 && v < 100)`)
	b.shoot("rebuild-running")
	b.says("waits for approval", "Difference from the live table")
	b.moved(3)
	differs := b.text(".sample.changed .differs")
	if before, after, ok := strings.Cut(strings.TrimPrefix(differs, "state"), `"	"`); !ok || before == after || !strings.EqualFold(strings.TrimSpace(before+`"`), strings.TrimSpace(`"`+after)) {
		b.t.Errorf("a sample of the difference: %q", differs)
	}
	b.says("has orders", "passed")
	b.shoot("rebuild-difference")
	b.press("Overview")
	b.says("What needs a person", "Approval")
	b.shoot("overview-approval")
	b.press("Lower-case states for acme")
	b.at("/jobs/" + id)
	b.press("Approve and swap")
	b.wait("the rebuild has succeeded", `document.querySelector("h1 + .badge") && document.querySelector("h1 + .badge").innerText === "succeeded"`)
	if job := s.ended(id); job.State != jobs.Succeeded {
		b.t.Errorf("%s: %+v", job.State, job.LastError)
	}
	b.shoot("rebuild-done")
	b.press("Projection orders")
	b.at("/projections/orders")
	b.says("Kept generations")
	b.generation("2")
	b.shoot("projection")
	b.press("Roll back…")
	b.do(chromedp.WaitVisible(`[name=word]`, chromedp.ByQuery))
	b.shoot("rollback")
	b.fill("word", "orders")
	b.press("Roll back")
	b.says("rolled_back")
	b.generation("1")
	b.shoot("projection-rolled-back")
	doc, err := s.opts.Rebuilds.Documents().Get(b.t.Context(), "orders")
	s.must(err)
	if doc.Live.Generation != 1 {
		b.t.Errorf("generation %d is live, want 1", doc.Live.Generation)
	}
}

// generation checks which generation the page of a projection says is live.
func (b *tab) generation(want string) {
	b.t.Helper()
	b.wait("generation "+want, `[...document.querySelectorAll(".facts dt")].some((dt) => dt.innerText === "Generation" && dt.nextElementSibling.innerText === `+quote(want)+`)`)
}

// testDependents looks at the difference of a projection of which other tables are made.
func testDependents(s *site, b *tab) {
	s.change("type AS step, event_id AS id FROM events\ndependents", "upper(type) AS step, event_id AS id FROM events\ndependents")
	b.open("/projections/steps")
	b.press("Rebuild")
	b.at("/rebuilds/new")
	b.says("It waits for a person")
	b.press("Review and start")
	b.press("Start the rebuild")
	b.jobAt()
	b.says("waits for approval", "Difference from the live table", "steps_by_tenant")
	var samples int
	b.ask(`document.querySelectorAll(".dependent .sample").length`, &samples)
	if samples == 0 {
		b.t.Error("no sample row of the dependent table")
	}
	b.shoot("rebuild-dependents")
}
