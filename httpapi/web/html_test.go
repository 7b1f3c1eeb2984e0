package web_test

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// wellFormed checks what every page has to keep: elements that are closed in their
// order, IDs that are there once, no script and no style inside of the page, and a
// label for every control.
func wellFormed(t testing.TB, where, text string) {
	t.Helper()
	balanced(t, where, text)
	root, err := html.Parse(strings.NewReader(text))
	if err != nil {
		t.Errorf("%s: %v", where, err)
		return
	}
	c := &checker{t: t, where: where, ids: map[string]bool{}, labels: map[string]bool{}}
	c.gather(root)
	c.check(root, nil)
	if c.mains != 1 || c.titles != 1 {
		t.Errorf("%s: %d main, %d title: want one of each", where, c.mains, c.titles)
	}
	if c.ones != 1 {
		t.Errorf("%s: %d h1: want one", where, c.ones)
	}
	for _, id := range c.refs {
		if !c.ids[id] {
			t.Errorf("%s: refers to id %q, which is not there", where, id)
		}
	}
}

// balanced checks that what is opened is closed in its order, which a parser would
// silently repair.
func balanced(t testing.TB, where, text string) {
	t.Helper()
	void := []string{"meta", "link", "input", "br", "hr", "img"}
	var open []string
	z := html.NewTokenizer(strings.NewReader(text))
	for {
		switch z.Next() {
		case html.ErrorToken:
			if len(open) > 0 {
				t.Errorf("%s: not closed: %v", where, open)
			}
			return
		case html.StartTagToken:
			if name := z.Token().Data; !slices.Contains(void, name) {
				open = append(open, name)
			}
		case html.EndTagToken:
			name := z.Token().Data
			if len(open) == 0 || open[len(open)-1] != name {
				t.Errorf("%s: </%s> within %v", where, name, open)
				return
			}
			open = open[:len(open)-1]
		}
	}
}

// checker looks through a page.
type checker struct {
	t                   testing.TB
	where               string
	ids, labels         map[string]bool
	refs                []string
	mains, titles, ones int
}

func attr(n *html.Node, name string) (string, bool) {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val, true
		}
	}
	return "", false
}

func (c *checker) gather(n *html.Node) {
	if n.Type == html.ElementNode {
		if id, ok := attr(n, "id"); ok {
			if c.ids[id] {
				c.t.Errorf("%s: id %q is there twice", c.where, id)
			}
			c.ids[id] = true
		}
		if id, ok := attr(n, "for"); ok {
			c.labels[id] = true
		}
		for _, name := range []string{"aria-labelledby", "aria-describedby", "list", "for"} {
			if id, ok := attr(n, name); ok {
				c.refs = append(c.refs, id)
			}
		}
	}
	for child := n.FirstChild; child != nil; child = child.NextSibling {
		c.gather(child)
	}
}

func (c *checker) check(n *html.Node, above []string) {
	if n.Type == html.ElementNode {
		c.element(n, above)
		above = append(slices.Clone(above), n.Data)
	}
	for child := n.FirstChild; child != nil; child = child.NextSibling {
		c.check(child, above)
	}
}

func (c *checker) element(n *html.Node, above []string) {
	for _, a := range n.Attr {
		if a.Key == "style" || strings.HasPrefix(a.Key, "on") || strings.HasPrefix(strings.TrimSpace(strings.ToLower(a.Val)), "javascript:") {
			c.t.Errorf("%s: <%s %s=%q>", c.where, n.Data, a.Key, a.Val)
		}
	}
	switch n.Data {
	case "main":
		c.mains++
	case "title":
		if !slices.Contains(above, "svg") {
			c.titles++
		}
	case "h1":
		c.ones++
	case "style":
		c.t.Errorf("%s: a style in the page", c.where)
	case "script":
		if src, _ := attr(n, "src"); !strings.HasPrefix(src, "/static/") || n.FirstChild != nil {
			c.t.Errorf("%s: a script in the page", c.where)
		}
	case "img", "iframe", "object", "embed":
		c.t.Errorf("%s: <%s>", c.where, n.Data)
	case "input", "select", "textarea", "progress", "meter":
		c.control(n, above)
	case "table":
		if n.FirstChild == nil || n.FirstChild.Data != "caption" {
			c.t.Errorf("%s: a table without a caption", c.where)
		}
	}
}

func (c *checker) control(n *html.Node, above []string) {
	kind, _ := attr(n, "type")
	id, _ := attr(n, "id")
	_, named := attr(n, "aria-label")
	inCell := n.Data == "meter" && slices.Contains(above, "td") // its row says what it measures
	if kind != "hidden" && !named && !inCell && !slices.Contains(above, "label") && !c.labels[id] {
		c.t.Errorf("%s: <%s> without a label: %v", c.where, n.Data, n.Attr)
	}
}
