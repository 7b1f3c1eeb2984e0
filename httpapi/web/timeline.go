package web

import (
	"fmt"
	"html/template"
	"math"
	"strings"
	"time"

	"github.com/reservoirhq/reservoir/event"
)

// timeline is a picture of a stream's coverage: a line of the rate above a strip that
// says what is archived, what is in Redis only and what is lost. Its units are those of
// a box of width 1000, which is stretched to where it is shown.
type timeline struct {
	From, To time.Time
	Label    string // what it shows, for who does not see it
	Line     string // points of a polyline
	Area     string
	Peak     float64 // the highest rate, events a second
	Strips   []strip
	Tall     bool
}

// strip is a part of a timeline's strip.
type strip struct {
	X, W        float64
	Class, Text string
}

// FromMs and ToMs are the bounds in milliseconds since 1970, for the script by which a
// range is dragged.
func (t *timeline) FromMs() int64 { return t.From.UnixMilli() }

// ToMs is the end of FromMs.
func (t *timeline) ToMs() int64 { return t.To.UnixMilli() }

// width is that of the box.
const width = 1000.0

// lineHeight is that of the box's part that the line is in.
const lineHeight = 30.0

// draw makes the picture of a coverage. head is the archive's and last the highest ID in
// Redis, zero where that is not known.
func draw(c *coverage, head, last event.ID) *timeline {
	t := &timeline{From: c.From, To: c.To}
	rates := c.rates()
	for _, r := range rates {
		t.Peak = max(t.Peak, r)
	}
	t.Line = points(rates, t.Peak)
	t.Area = fmt.Sprintf("0,%.0f %s %.0f,%.0f", lineHeight, t.Line, width, lineHeight)
	if !head.IsZero() && !c.First.IsZero() {
		t.strip("archived", c.First, head, "archived")
	}
	if !last.IsZero() && head.Less(last) {
		after := head
		if after.IsZero() {
			after = event.ID{Ms: uint64(max(c.From.UnixMilli(), 0))}
		}
		t.strip("live", after, last, "in Redis only, not archived yet")
	}
	for _, g := range c.Gaps {
		t.strip("gap", g.After, g.UpTo, fmt.Sprintf("gap: %s lost", lost(g.Lost, g.Exact)))
	}
	t.Label = t.describe(c)
	return t
}

func (t *timeline) describe(c *coverage) string {
	label := fmt.Sprintf("%s archived from %s to %s, at most %s.", plural(c.Events, "event", "events"),
		t.From.UTC().Format(time.DateTime), t.To.UTC().Format(time.DateTime), rate(t.Peak))
	if len(c.Gaps) > 0 {
		label += " " + plural(len(c.Gaps), "gap.", "gaps.")
	}
	return label
}

// strip adds a part, at least as wide as can be seen.
func (t *timeline) strip(class string, first, last event.ID, text string) {
	span := float64(t.To.Sub(t.From))
	a := float64(idTime(first).Sub(t.From)) / span * width
	b := float64(idTime(last).Sub(t.From)) / span * width
	if b < 0 || a > width {
		return
	}
	a, b = max(a, 0), min(b, width)
	if b-a < 5 {
		a = max(0, min(a, width-5))
		b = a + 5
	}
	t.Strips = append(t.Strips, strip{X: round(a), W: round(b - a), Class: class, Text: text})
}

func round(v float64) float64 { return math.Round(v*10) / 10 }

// points gives the points of a line through values, of which most is at the top.
func points(values []float64, most float64) string {
	var b strings.Builder
	step := width / float64(max(len(values)-1, 1))
	for i, v := range values {
		y := lineHeight
		if most > 0 {
			y -= v / most * (lineHeight - 2)
		}
		fmt.Fprintf(&b, "%.1f,%.1f ", float64(i)*step, y)
	}
	return strings.TrimSpace(b.String())
}

// lost says how many entries a gap has.
func lost(n uint64, exact bool) string {
	if exact {
		return count(n)
	}
	return "at least " + count(n)
}

// ticks are the times below a timeline.
func (t *timeline) Ticks() []template.HTML {
	layout := "15:04"
	switch span := t.To.Sub(t.From); {
	case span > 60*24*time.Hour:
		layout = "2006-01-02"
	case span > 3*24*time.Hour:
		layout = "01-02"
	case span > 23*time.Hour:
		layout = "01-02 15:04"
	}
	var list []template.HTML
	const n = 4
	for i := range n + 1 {
		at := t.From.Add(t.To.Sub(t.From) * time.Duration(i) / n).UTC()
		list = append(list, template.HTML(fmt.Sprintf(`<time datetime="%s">%s</time>`, at.Format(time.RFC3339), at.Format(layout)))) //nolint:gosec // digits
	}
	return list
}
