package app

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/reservoirhq/reservoir/config"
)

// isTerminal reports whether w is a terminal.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// isTerminalReader reports whether r is a terminal.
func isTerminalReader(r io.Reader) bool {
	f, ok := r.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// printJSON writes v to stdout as one indented document.
func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

// printf writes to stdout.
func (a *app) printf(format string, args ...any) error {
	if _, err := fmt.Fprintf(a.stdout, format, args...); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

// table writes aligned columns to stdout.
type table struct{ w *tabwriter.Writer }

// table begins one with a header, if there is one; its caller flushes it.
func (a *app) table(header ...string) *table {
	t := &table{tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)}
	if len(header) > 0 {
		t.row(header...)
	}
	return t
}

// row adds a line; what would break the table or the terminal is escaped.
func (t *table) row(cells ...string) {
	for i, cell := range cells {
		cells[i] = cellText.Replace(cell)
	}
	line := strings.TrimRight(strings.Join(cells, "\t"), "\t") + "\n"
	// A tabwriter remembers a failed write until flush.
	io.WriteString(t.w, line) //nolint:errcheck // see above
}

// cellText escapes, as Go does in strings, control characters and what is not
// UTF-8: a terminal or a tabwriter may take both for orders.
var cellText textEscaper

type textEscaper struct{}

// Replace gives s in a form that prints as it is, on one line.
func (textEscaper) Replace(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		if (r == utf8.RuneError && size == 1) || unicode.IsControl(r) {
			quoted := strconv.Quote(s[:size])
			b.WriteString(quoted[1 : len(quoted)-1])
		} else {
			b.WriteString(s[:size])
		}
		s = s[size:]
	}
	return b.String()
}

func (t *table) flush() error {
	if err := t.w.Flush(); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

// humanBytes gives 3 significant digits in powers of 1024: 1.5 GiB.
func humanBytes[N int | int64 | uint64 | float64](n N) string {
	const units = "KMGTPE"
	f, unit := float64(n), -1
	for math.Abs(f) >= 999.5 && unit < len(units)-1 {
		f /= 1024
		unit++
	}
	if unit < 0 {
		return strconv.FormatFloat(f, 'f', 0, 64) + " B"
	}
	return threeDigits(f) + " " + units[unit:unit+1] + "iB"
}

// humanCount gives 3 significant digits in powers of 1000 from 10,000 on: 1.23M.
func humanCount[N int | int64 | uint64 | float64](n N) string {
	const units = "kMGTPE"
	f, unit := float64(n), -1
	if math.Abs(f) < 9999.5 {
		return strconv.FormatFloat(f, 'f', 0, 64)
	}
	for math.Abs(f) >= 999.5 && unit < len(units)-1 {
		f /= 1000
		unit++
	}
	return threeDigits(f) + units[unit:unit+1]
}

func threeDigits(f float64) string {
	switch abs := math.Abs(f); {
	case abs < 9.995:
		return strconv.FormatFloat(f, 'f', 2, 64)
	case abs < 99.95:
		return strconv.FormatFloat(f, 'f', 1, 64)
	default:
		return strconv.FormatFloat(f, 'f', 0, 64)
	}
}

// humanRate gives what happened n times in d per second: 1.23M/s.
func humanRate[N int | int64 | uint64 | float64](n N, d time.Duration) string {
	if d <= 0 {
		return "-"
	}
	return humanCount(float64(n)/d.Seconds()) + "/s"
}

// humanByteRate gives n bytes in d per second: 1.5 MiB/s.
func humanByteRate[N int | int64 | uint64 | float64](n N, d time.Duration) string {
	if d <= 0 {
		return "-"
	}
	return humanBytes(float64(n)/d.Seconds()) + "/s"
}

// humanDuration gives the two largest units: 350ms, 4.2s, 3m20s, 5h10m, 3d4h.
func humanDuration(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 0:
		return "-" + humanDuration(-d)
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d < time.Hour:
		return d.Round(time.Second).String()
	case d < day:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	default:
		d = d.Round(time.Hour)
		return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
	}
}

// printKeys lists the configuration's keys, those that hold every word.
func (a *app) printKeys(words ...string) error {
	t := a.table("KEY", "ENVIRONMENT", "DEFAULT", "MEANING")
	for _, k := range config.Keys() {
		meaning := k.Doc
		if len(k.Enum) > 0 {
			meaning += " One of: " + strings.Join(k.Enum, ", ") + "."
		}
		matches := true
		for _, word := range words {
			matches = matches && strings.Contains(k.Name+" "+strings.ToLower(meaning), strings.ToLower(word))
		}
		if matches {
			t.row(k.Name, k.Env(), k.Default, meaning)
		}
	}
	return t.flush()
}
