package web

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html/template"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/jobs"
)

// funcs are what templates call.
func (s *Server) funcs() template.FuncMap {
	return template.FuncMap{
		"count": count, "bytes": size, "duration": duration, "rate": rate, "percent": percent, "done": done, "pretty": pretty, "query": query,
		"time": moment, "short": short, "idtime": idTime, "join": strings.Join, "plural": plural, "stateClass": stateClass, "dict": dict,
		"ago":        func(t time.Time) string { return ago(s.opts.Clock(), t) },
		"created":    func(j *jobs.Job) time.Time { return jobs.Created(j.ID) },
		"sampleRows": sampleRows, "auditClass": auditClass,
		"add": func(a, b int) int { return a + b },
	}
}

// dict makes a map of names and values, for templates that need several.
func dict(pairs ...any) (map[string]any, error) {
	m := map[string]any{}
	for i := 0; i+1 < len(pairs); i += 2 {
		name, ok := pairs[i].(string)
		if !ok {
			return nil, fmt.Errorf("dict: %v is no name", pairs[i])
		}
		m[name] = pairs[i+1]
	}
	return m, nil
}

// count gives a whole number with its thousands apart.
func count(n any) string {
	text := fmt.Sprint(n)
	sign := ""
	if strings.HasPrefix(text, "-") {
		sign, text = "-", text[1:]
	}
	var b strings.Builder
	for i, digit := range text {
		if i > 0 && (len(text)-i)%3 == 0 {
			b.WriteRune('\u202f') // a narrow space that does not break
		}
		b.WriteRune(digit)
	}
	return sign + b.String()
}

// size gives bytes in the unit that fits.
func size(n any) (string, error) {
	v, err := strconv.ParseFloat(fmt.Sprint(n), 64)
	if err != nil {
		return "", fmt.Errorf("%v is no size: %w", n, err)
	}
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	i := 0
	for ; v >= 1024 && i < len(units)-1; i++ {
		v /= 1024
	}
	if i == 0 || v >= 100 {
		return fmt.Sprintf("%.0f\u00a0%s", v, units[i]), nil
	}
	return fmt.Sprintf("%.1f\u00a0%s", v, units[i]), nil
}

// duration gives the two largest parts of a time.
func duration(d time.Duration) string {
	switch {
	case d < 0:
		return "0 s"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < time.Hour:
		return parts(int(d.Minutes()), "min", int(d.Seconds())%60, "s")
	case d < 48*time.Hour:
		return parts(int(d.Hours()), "h", int(d.Minutes())%60, "min")
	default:
		return parts(int(d.Hours())/24, "d", int(d.Hours())%24, "h")
	}
}

// parts gives two parts of a time, the second one if there is any of it.
func parts(a int, unit string, b int, smaller string) string {
	if b == 0 {
		return fmt.Sprintf("%d %s", a, unit)
	}
	return fmt.Sprintf("%d %s %d %s", a, unit, b, smaller)
}

// ago says how long before now a time was.
func ago(now, t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	d := now.Sub(t)
	switch {
	case d < 0:
		return "in " + largest(-d)
	case d < time.Second:
		return "just now"
	default:
		return largest(d) + " ago"
	}
}

// largest gives the largest part of a time.
func largest(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	default:
		return fmt.Sprintf("%d d", int(d.Hours())/24)
	}
}

// rate gives events a second, or a minute or an hour where they are few.
func rate(v float64) string {
	switch {
	case v >= 10 || v <= 0:
		return count(int64(math.Round(max(v, 0)))) + "/s"
	case v >= 1:
		return fmt.Sprintf("%.1f/s", v)
	case v*60 >= 1:
		return fmt.Sprintf("%.0f/min", v*60)
	default:
		return fmt.Sprintf("%.0f/h", math.Ceil(v*3600))
	}
}

// percent gives a share in whole percents: 100 only of the whole.
func percent(done, total uint64) int {
	if total == 0 {
		return 0
	}
	if done >= total {
		return 100
	}
	return int(min(float64(done)/float64(total)*100, 99))
}

// moment is a time for people, in an element that tells programs too.
func moment(t time.Time) template.HTML {
	if t.IsZero() {
		return "–"
	}
	t = t.UTC()
	return template.HTML(fmt.Sprintf(`<time datetime="%s">%s</time>`, t.Format(time.RFC3339Nano), t.Format("2006-01-02 15:04:05"))) //nolint:gosec // digits
}

// short cuts a text that is for the eye only.
func short(n int, text string) string {
	if runes := []rune(text); len(runes) > n {
		return string(runes[:n-1]) + "…"
	}
	return text
}

// idTime is the time in an ID.
func idTime(id event.ID) time.Time {
	return time.UnixMilli(int64(min(id.Ms, 1<<52))).UTC()
}

func plural(n any, one, many string) string {
	if fmt.Sprint(n) == "1" {
		return "1 " + one
	}
	return count(n) + " " + many
}

// done gives how far a job is, in percents.
func done(job *jobs.Job) int {
	if job.State == jobs.Succeeded || waitsForApproval(job) {
		return 100
	}
	return percent(job.Progress.Done, job.Progress.Total)
}

// pretty indents JSON, up to a length that a page can bear.
func pretty(raw json.RawMessage) string {
	const most = 256 << 10
	var b bytes.Buffer
	text := string(raw)
	if len(raw) <= most && json.Indent(&b, raw, "", "  ") == nil {
		text = b.String()
	}
	if len(text) > most {
		return text[:most] + "\n… " + count(len(text)-most) + " bytes more"
	}
	return text
}

// query makes the query of an address of pairs of names and values; empty values are
// left out.
func query(pairs ...any) template.URL {
	v := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if value := fmt.Sprint(pairs[i+1]); value != "" {
			v.Set(fmt.Sprint(pairs[i]), value)
		}
	}
	return template.URL(v.Encode()) //nolint:gosec // it is escaped
}

// stateClass is how a job's state looks.
func stateClass(state jobs.State) string {
	switch state {
	case jobs.Running:
		return "run"
	case jobs.Succeeded:
		return "ok"
	case jobs.Failed:
		return "bad"
	case jobs.Paused, jobs.Cancelling:
		return "wait"
	default:
		return "idle"
	}
}
