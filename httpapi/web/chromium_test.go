package web_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/reservoirhq/reservoir/internal/stack"
)

// patience is how long a browser is waited for: long enough for a machine that is busy
// with everything else.
const patience = 90 * time.Second

// chromium is a headless Chromium.
type chromium struct {
	ctx context.Context //nolint:containedctx // chromedp keeps the browser in it
}

// startChromium starts one, which lives as long as the test.
func startChromium(t *testing.T) *chromium {
	t.Helper()
	path, err := findChromium()
	if err != nil {
		t.Fatal(err)
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.Flag("hide-scrollbars", true), chromedp.WSURLReadTimeout(patience))
	ctx, cancel := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()), opts...)
	t.Cleanup(cancel)
	ctx, stop := chromedp.NewContext(ctx)
	t.Cleanup(stop)
	if err := chromedp.Run(ctx); err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	return &chromium{ctx}
}

// findChromium finds the browser, by one of its names.
func findChromium() (string, error) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := stack.Binary(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("chromium: %w (run `make tools` or `scripts/install-tools.sh browser`, or set RESERVOIR_TOOL_CHROMIUM to its path)", stack.ErrNoBinary)
}

// tab is a tab of the browser, in which a person works. Tabs share their cookies.
type tab struct {
	t   *testing.T
	url string
	ctx context.Context //nolint:containedctx // chromedp keeps the tab in it

	mu       sync.Mutex
	problems []string // what the browser complained of
}

// newTab opens a tab.
func newTab(t *testing.T, browser *chromium, url string) *tab {
	t.Helper()
	ctx, stop := chromedp.NewContext(browser.ctx)
	t.Cleanup(stop)
	b := &tab{t: t, url: url, ctx: ctx}
	chromedp.ListenTarget(ctx, b.hear)
	b.do(network.Enable(), audits.Enable(), log.Enable(), emulation.SetDeviceMetricsOverride(looks[0].width, 800, 1, false)) //nolint:forbidigo // Chromium's log
	t.Cleanup(func() {
		if t.Failed() {
			b.shoot("failed-" + strings.ReplaceAll(t.Name(), "/", "-"))
		}
		b.quiet("in the end")
	})
	return b
}

// hear notes what should not be: errors of scripts, dialogs, what the content-security
// policy forbade, and answers of a server that failed.
func (b *tab) hear(ev any) {
	switch ev := ev.(type) {
	case *runtime.EventExceptionThrown:
		b.complain(ev.ExceptionDetails.Error())
	case *log.EventEntryAdded: //nolint:forbidigo // Chromium's log
		if entry := ev.Entry; entry.Level == log.LevelError && entry.Source != log.SourceNetwork { //nolint:forbidigo // as above
			b.complain(entry.Text + " " + entry.URL) //nolint:forbidigo // as above
		}
	case *audits.EventIssueAdded:
		if d := ev.Issue.Details.ContentSecurityPolicyIssueDetails; d != nil {
			b.complain(fmt.Sprintf("the policy %s forbids %q", d.ViolatedDirective, d.BlockedURL))
		}
	case *page.EventJavascriptDialogOpening:
		b.complain("a dialog: " + ev.Message)
		go func() {
			if err := chromedp.Run(b.ctx, page.HandleJavaScriptDialog(false)); err != nil {
				b.complain("close the dialog: " + err.Error())
			}
		}()
	case *network.EventResponseReceived:
		if ev.Response.Status >= http.StatusInternalServerError || ev.Response.Status == http.StatusNotFound && ev.Type != network.ResourceTypeDocument {
			b.complain(fmt.Sprintf("%d of %s", ev.Response.Status, ev.Response.URL))
		}
	}
}

func (b *tab) complain(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.problems = append(b.problems, text)
}

// heard gives what the browser complained of since it was last asked.
func (b *tab) heard() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := b.problems
	b.problems = nil
	return list
}

// quiet checks that the browser has complained of nothing.
func (b *tab) quiet(where string) {
	b.t.Helper()
	for _, p := range b.heard() {
		b.t.Errorf("%s: %s", where, p)
	}
}

// do does something in the tab.
func (b *tab) do(actions ...chromedp.Action) {
	b.t.Helper()
	if err := b.try(actions...); err != nil {
		b.t.Fatal(err)
	}
}

func (b *tab) try(actions ...chromedp.Action) error {
	c := chromedp.FromContext(b.ctx)
	if c.Target == nil { // the first run opens the tab, which lives as long as its context
		if err := chromedp.Run(b.ctx); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	return chromedp.Run(ctx, actions...)
}

// open goes to an address.
func (b *tab) open(path string) {
	b.t.Helper()
	b.do(chromedp.Navigate(b.url + path))
}

// ask evaluates an expression in the page.
func (b *tab) ask(expression string, into any) {
	b.t.Helper()
	if err := b.try(chromedp.Evaluate(expression, into)); err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
}

// wait waits until an expression holds in whatever page is there by then.
func (b *tab) wait(what, expression string) {
	b.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		var holds bool
		err := b.try(chromedp.Evaluate("!!("+expression+")", &holds))
		if err == nil && holds {
			return
		}
		select {
		case <-tick.C: // also after an error: the page may be on its way out
		case <-late.C:
			var at, text string
			if err := b.try(chromedp.Location(&at), chromedp.Evaluate(`document.body.innerText`, &text)); err != nil {
				b.t.Error(err)
			}
			b.t.Fatalf("%s: waited for %s: %s (%v) at %s:\n%s", what, patience, expression, err, at, text)
		}
	}
}

// says waits until the page has a text.
func (b *tab) says(texts ...string) {
	b.t.Helper()
	for _, text := range texts {
		b.wait("the page says "+text, "document.body && document.body.innerText.includes("+quote(text)+")")
	}
}

// at waits until an address is shown, whole.
func (b *tab) at(prefix string) {
	b.t.Helper()
	b.wait("go to "+prefix, "location.pathname.startsWith("+quote(prefix)+") && document.readyState === 'complete'")
}

// text gives the text of an element.
func (b *tab) text(selector string) (text string) {
	b.t.Helper()
	b.ask(fmt.Sprintf(`(document.querySelector(%s) || {innerText: ""}).innerText`, quote(selector)), &text)
	return text
}

// ready waits until the page is there as a whole: before its scripts have run, keys and
// some buttons do nothing.
func (b *tab) ready() {
	b.t.Helper()
	b.wait("the whole page", "document.readyState === 'complete'")
}

// key presses a key.
func (b *tab) key(key string) {
	b.t.Helper()
	b.ready()
	b.do(chromedp.KeyEvent(key))
}

// press clicks on the button, link or summary that says exactly that, with the mouse.
func (b *tab) press(label string) {
	b.t.Helper()
	b.ready()
	path := fmt.Sprintf(`//*[self::button or self::a or self::summary][normalize-space()=%s]`, quote(label))
	b.do(chromedp.Click(path, chromedp.BySearch, chromedp.NodeVisible))
}

// fill types into the field of a name, after what is there was selected.
func (b *tab) fill(name, text string) {
	b.t.Helper()
	selector := fmt.Sprintf(`[name=%q]:not([type=hidden])`, name)
	b.do(chromedp.WaitVisible(selector, chromedp.ByQuery), chromedp.Focus(selector, chromedp.ByQuery))
	b.ask(`document.activeElement.select()`, nil)
	b.do(chromedp.SendKeys(selector, text, chromedp.ByQuery))
}

// value gives that of a field.
func (b *tab) value(name string) (text string) {
	b.t.Helper()
	b.ask(fmt.Sprintf(`document.querySelector('[name=%q]:not([type=hidden])').value`, name), &text)
	return text
}

// login logs in with a token, by the form.
func (b *tab) login(text string) {
	b.t.Helper()
	b.open("/")
	b.at("/login")
	b.fill("token", text)
	b.press("Log in")
	b.wait("log in", `location.pathname === "/" && document.readyState === "complete"`)
}

func quote(text string) string {
	out, err := json.Marshal(text)
	if err != nil {
		return `""`
	}
	return string(out)
}

// looks are how pages are looked at.
var looks = []struct { //nolint:gochecknoglobals // a constant list
	name   string
	width  int64
	dark   bool
	always bool // every page is looked at so in every run of the tests
}{{"desktop", 1280, false, true}, {"phone", 390, false, false}, {"dark", 1280, true, false}, {"phone-dark", 390, true, true}}

// look has the page shown in one of the looks.
func (b *tab) look(i int) {
	b.t.Helper()
	scheme := "light"
	if looks[i].dark {
		scheme = "dark"
	}
	b.do(
		emulation.SetDeviceMetricsOverride(looks[i].width, 800, 1, looks[i].width < 500),
		emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}}),
	)
}

// shoot keeps pictures of the page in the build folder, which git ignores, on a desktop
// and on a phone, and checks that nothing is wider than the window.
func (b *tab) shoot(name string) {
	b.t.Helper()
	for i := range 2 {
		b.look(i)
		b.picture(name, i)
	}
	b.look(0)
}

func (b *tab) picture(name string, look int) {
	b.t.Helper()
	dir := filepath.Join("..", "..", "build", "screens")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.t.Fatal(err)
	}
	b.narrow(name, look)
	var picture []byte
	b.do(chromedp.FullScreenshot(&picture, 100))
	if err := os.WriteFile(filepath.Join(dir, name+"-"+looks[look].name+".png"), picture, 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// narrow checks that the page is no wider than the window.
func (b *tab) narrow(name string, look int) {
	b.t.Helper()
	var wide int64
	b.ask(`document.documentElement.scrollWidth`, &wide)
	if wide > looks[look].width {
		b.t.Errorf("%s: %d pixels wide at %d", name, wide, looks[look].width)
	}
}
