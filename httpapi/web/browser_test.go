package web_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browser is a headless Chromium that is logged in.
type browser struct {
	t   testing.TB
	w   *world
	ctx context.Context //nolint:containedctx // chromedp keeps the browser in it

	mu       sync.Mutex
	problems []string // what the console complained of
}

// newBrowser starts one, as a caller of the world.
func newBrowser(t testing.TB, w *world, who string) *browser {
	t.Helper()
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.Flag("hide-scrollbars", true))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), opts...)
	t.Cleanup(cancel)
	ctx, stop := chromedp.NewContext(ctx)
	t.Cleanup(stop)
	ctx, late := context.WithTimeout(ctx, 10*time.Minute)
	t.Cleanup(late)
	b := &browser{t: t, w: w, ctx: ctx}
	chromedp.ListenTarget(ctx, func(ev any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		switch ev := ev.(type) {
		case *runtime.EventExceptionThrown:
			b.problems = append(b.problems, ev.ExceptionDetails.Error())
		case *log.EventEntryAdded: //nolint:forbidigo // Chromium's log, by its own package
			if entry := ev.Entry; entry.Level == log.LevelError { //nolint:forbidigo // as above
				b.problems = append(b.problems, entry.Text+" "+entry.URL) //nolint:forbidigo // as above
			}
		case *page.EventJavascriptDialogOpening:
			b.problems = append(b.problems, "a dialog: "+ev.Message)
		}
	})
	b.do(network.SetCookie("who", who).WithURL(w.url))
	return b
}

// do does something in the browser.
func (b *browser) do(actions ...chromedp.Action) {
	b.t.Helper()
	if err := chromedp.Run(b.ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// open goes to an address.
func (b *browser) open(path string) {
	b.t.Helper()
	b.do(chromedp.Navigate(b.w.url + path))
}

// quiet checks that the console has complained of nothing.
func (b *browser) quiet(where string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.problems {
		b.t.Errorf("%s: %s", where, p)
	}
	b.problems = nil
}

// looks are how pages are looked at.
var looks = []struct {
	name  string
	width int64
	dark  bool
}{{"desktop", 1280, false}, {"phone", 390, false}, {"dark", 1280, true}, {"phone-dark", 390, true}} //nolint:gochecknoglobals // a constant list

// shoot keeps pictures of where the browser is in the build folder, which git ignores,
// and checks that nothing is wider than the window.
func (b *browser) shoot(name string) {
	b.t.Helper()
	dir := filepath.Join("..", "..", "build", "screens")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.t.Fatal(err)
	}
	for _, look := range looks {
		scheme := "light"
		if look.dark {
			scheme = "dark"
		}
		var picture []byte
		var wide int64
		b.do(
			emulation.SetDeviceMetricsOverride(look.width, 800, 1, look.width < 500),
			emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}),
			chromedp.Evaluate(`document.documentElement.scrollWidth`, &wide),
			chromedp.FullScreenshot(&picture, 100),
		)
		if wide > look.width {
			b.t.Errorf("%s: %d pixels wide at %d", name, wide, look.width)
		}
		if err := os.WriteFile(filepath.Join(dir, name+"-"+look.name+".png"), picture, 0o600); err != nil {
			b.t.Fatal(err)
		}
	}
	b.do(emulation.SetDeviceMetricsOverride(1280, 800, 1, false))
	b.quiet(name)
}
