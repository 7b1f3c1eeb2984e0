package event_test

import (
	"regexp"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/reservoirhq/reservoir/event"
)

func TestParseTime(t *testing.T) {
	tests := []struct {
		text string
		want string // RFC 3339; empty: not a time
		form string
	}{
		{"2026-11-21T07:30:00Z", "2026-11-21T07:30:00Z", "rfc3339.0"},
		{"2026-11-21T07:30:00.5Z", "2026-11-21T07:30:00.5Z", "rfc3339.1"},
		{"2026-11-21T07:30:00.120Z", "2026-11-21T07:30:00.12Z", "rfc3339.3"},
		{"2026-11-21T07:30:00.123456+00:00", "2026-11-21T07:30:00.123456Z", "rfc3339.6+00:00"},
		{"2026-11-21T07:30:00.123456000Z", "2026-11-21T07:30:00.123456Z", "rfc3339.9"},
		{"2026-11-21T07:30:00.123456789Z", "2026-11-21T07:30:00.123456Z", "none"},
		{"1969-12-31T23:59:59.999999999Z", "1969-12-31T23:59:59.999999Z", "none"},
		{"2026-11-21T07:30:00+02:30", "2026-11-21T05:00:00Z", "none"},
		{"2026-11-21T07:30:00-00:00", "2026-11-21T07:30:00Z", "none"},
		{"0000-01-01T00:00:00Z", "0000-01-01T00:00:00Z", "rfc3339.0"},
		{"9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z", "rfc3339.6"},
		{"2000-02-29T00:00:00Z", "2000-02-29T00:00:00Z", "rfc3339.0"},
		{"100000000", "1973-03-03T09:46:40Z", "unix_s"},
		{"1700000000", "2023-11-14T22:13:20Z", "unix_s"},
		{"1700000000123", "2023-11-14T22:13:20.123Z", "unix_ms"},
		{"1700000000123456", "2023-11-14T22:13:20.123456Z", "unix_us"},
		{"1700000000123456789", "2023-11-14T22:13:20.123456Z", "none"},
		{"1700000000.5", "2023-11-14T22:13:20.5Z", "none"},
		{"1700000000.123456789", "2023-11-14T22:13:20.123456Z", "none"},

		{text: ""}, {text: "now"}, {text: "12345678"}, {text: "0700000000"}, {text: "-1700000000"}, {text: "+1700000000"},
		{text: "1700000000."}, {text: "1700000000.1234567890"}, {text: "1700000000123.5"}, {text: "17000000001234567890"},
		{text: "9999999999999999999"}, {text: "1700000000 "}, {text: "1.7e9"},
		{text: "2026-11-21"}, {text: "2026-11-21T07:30:00"}, {text: "2026-11-21T07:30Z"}, {text: "2026-11-21 07:30:00Z"},
		{text: "2026-11-21t07:30:00Z"}, {text: "2026-11-21T07:30:00z"}, {text: "2026-11-21T07:30:00.Z"},
		{text: "2026-11-21T07:30:00,5Z"}, {text: "2026-11-21T07:30:00.1234567890Z"}, {text: "2026-11-21T7:30:00Z"},
		{text: "2026-11-21T24:00:00Z"}, {text: "2026-11-21T07:60:00Z"}, {text: "2026-12-31T23:59:60Z"},
		{text: "2026-02-29T00:00:00Z"}, {text: "1900-02-29T00:00:00Z"}, {text: "2026-13-01T00:00:00Z"},
		{text: "2026-00-01T00:00:00Z"}, {text: "2026-01-00T00:00:00Z"}, {text: "2026-11-31T00:00:00Z"},
		{text: "2026-11-21T07:30:00+0200"}, {text: "2026-11-21T07:30:00+02"}, {text: "2026-11-21T07:30:00+24:00"},
		{text: "2026-11-21T07:30:00Zx"}, {text: "9999-12-31T23:59:59-00:01"}, {text: "0000-01-01T00:00:00+00:01"},
		{text: "12026-11-21T07:30:00Z"}, {text: "२०२६-11-21T07:30:00Z"},
	}
	for _, tt := range tests {
		micros, form, ok := event.ParseTime([]byte(tt.text))
		if tt.want == "" {
			if ok {
				t.Errorf("%q is %v", tt.text, time.UnixMicro(micros).UTC())
			}
			continue
		}
		if got := time.UnixMicro(micros).UTC().Format(time.RFC3339Nano); !ok || got != tt.want || form.String() != tt.form {
			t.Errorf("%q: got %s as %s, %t; want %s as %s", tt.text, got, form, ok, tt.want, tt.form)
		}
	}
}

func TestTimeFormNames(t *testing.T) {
	seen := 0
	for f := range event.TimeForm(255) {
		name := f.String()
		if name == "none" {
			continue
		}
		seen++
		if event.ParseTimeForm(name) != f {
			t.Errorf("%q is not the name of one form", name)
		}
	}
	if seen != 23 {
		t.Errorf("%d forms, want 23", seen)
	}
	for _, name := range []string{"", "none", "rfc3339", "rfc3339.10", "unix"} {
		if f := event.ParseTimeForm(name); f != event.NoTimeForm {
			t.Errorf("%q is form %d", name, f)
		}
	}
}

// strictRFC3339 is what ParseTime takes of what time.Parse does.
var strictRFC3339 = regexp.MustCompile(`^\d{4}-\d\d-\d\dT([01]\d|2[0-3]):\d\d:\d\d(\.\d{1,9})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

// checkTime holds ParseTime to time.Parse, and forms to being invertible.
func checkTime(t interface{ Fatalf(string, ...any) }, text string) {
	micros, form, ok := event.ParseTime([]byte(text))
	if ok && form != event.NoTimeForm {
		if back := string(form.Append([]byte("x"), micros)); back != "x"+text {
			t.Fatalf("%q is given back as %q", text, back)
		}
	}
	if !ok && (form != event.NoTimeForm || micros != 0) {
		t.Fatalf("%q: more than false", text)
	}
	if !strictRFC3339.MatchString(text) {
		if ok && regexp.MustCompile(`[^0-9.]`).MatchString(text) {
			t.Fatalf("%q is no time", text)
		}
		return
	}
	want, err := time.Parse(time.RFC3339Nano, text)
	inYears := err == nil && want.UTC().Year() >= 0 && want.UTC().Year() <= 9999
	if ok != inYears || ok && micros != want.UnixMicro() {
		t.Fatalf("%q: got %d, %t; want %v, %v", text, micros, ok, want, err)
	}
}

func TestTimeProperties(t *testing.T) {
	const minSeconds, maxSeconds = -62167219200, 253402300799
	rapid.Check(t, func(t *rapid.T) {
		at := time.Unix(rapid.Int64Range(minSeconds, maxSeconds).Draw(t, "seconds"),
			rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds")).UTC()
		offset := rapid.IntRange(-23*60, 23*60).Draw(t, "offset")
		digits := rapid.IntRange(0, 9).Draw(t, "digits")
		layout := "2006-01-02T15:04:05"
		if digits > 0 {
			layout += ".000000000"[:digits+1]
		}
		checkTime(t, at.Format(layout+"Z"))
		checkTime(t, at.Format(layout)+"+00:00")
		checkTime(t, at.In(time.FixedZone("", offset*60)).Format(layout+"-07:00"))
		checkTime(t, strconv.FormatInt(rapid.Int64Range(0, 1<<62).Draw(t, "number"), 10))

		// Every form writes every time that it can hold so that it is read back.
		form := event.ParseTimeForm(rapid.SampledFrom([]string{"rfc3339.6", "rfc3339.9+00:00", "unix_us"}).Draw(t, "form"))
		micros := at.UnixMicro()
		if form == event.TimeUnixMicro {
			micros = rapid.Int64Range(1e14, 1e17-1).Draw(t, "micros")
		}
		got, gotForm, ok := event.ParseTime(form.Append(nil, micros))
		if !ok || got != micros || gotForm != form {
			t.Fatalf("%s of %d is read as %d in %s", form, micros, got, gotForm)
		}
	})
}

func FuzzParseTime(f *testing.F) {
	for _, seed := range []string{
		"2026-11-21T07:30:00Z", "2026-11-21T07:30:00.123456789-12:34", "1700000000", "1700000000.5", "1700000000123",
		"9999-12-31T23:59:59-00:01", "0000-02-29T00:00:00.000+00:00", "1700000000123456789",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) { checkTime(t, text) })
}
