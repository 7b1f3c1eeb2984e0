package web

import (
	"crypto/rand"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// form reads what is in a form, and gathers what cannot be read.
type form struct {
	url.Values
	problems []FieldProblem
}

func (f *form) text(name string) string { return strings.TrimSpace(f.Get(name)) }

// list gives the entries of a field in which commas or lines part them.
func (f *form) list(name string) []string {
	var list []string
	for _, value := range f.Values[name] {
		for _, one := range strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == '\n' || r == '\r' }) {
			if one = strings.TrimSpace(one); one != "" && !slices.Contains(list, one) {
				list = append(list, one)
			}
		}
	}
	return list
}

func (f *form) number(name string) uint64 {
	text := f.text(name)
	if text == "" {
		return 0
	}
	n, err := strconv.ParseUint(strings.ReplaceAll(text, " ", ""), 10, 64)
	if err != nil {
		f.wrong(name, fmt.Sprintf("%q is no whole number", text))
	}
	return n
}

func (f *form) decimal(name string) float64 {
	text := strings.TrimSuffix(f.text(name), "x")
	if text == "" {
		return 0
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || v < 0 {
		f.wrong(name, fmt.Sprintf("%q is no number", text))
	}
	return v
}

func (f *form) duration(name string) time.Duration {
	text := f.text(name)
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		f.wrong(name, fmt.Sprintf("%q is no duration: want 30s, 5m or 1h", text))
	}
	return d
}

func (f *form) wrong(name, message string) {
	f.problems = append(f.problems, FieldProblem{Field: name, Message: message})
}

// err gives what could not be read.
func (f *form) err() error {
	if len(f.problems) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s: %s", errForm, f.problems[0].Field, f.problems[0].Message)
}

// key makes an idempotency key: a form that is sent twice does what it says once.
func key() string { return "web-" + rand.Text() }

// danger is how much a person has to confirm.
type danger int

// The dangers.
const (
	harmless danger = iota // a button
	careful                // a tick
	grave                  // a word to type
)

// confirmation is what a person has to confirm, and why.
type confirmation struct {
	Level   danger
	Reasons []string
	Word    string // to type where Level is grave
}

// Tick and Type say what is asked for.
func (c *confirmation) Tick() bool { return c.Level == careful }

// Type says whether Word must be typed.
func (c *confirmation) Type() bool { return c.Level == grave }

func (c *confirmation) because(level danger, reason string) {
	c.Level = max(c.Level, level)
	c.Reasons = append(c.Reasons, reason)
}

// given says whether a form confirms it.
func (c *confirmation) given(f *form) bool {
	switch c.Level {
	case grave:
		return f.text("word") == c.Word
	case careful:
		return f.Get("sure") != ""
	default:
		return true
	}
}
