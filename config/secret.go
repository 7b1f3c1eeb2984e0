package config

import (
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"strings"
)

// hidden is what is printed in place of a secret.
const hidden = "***"

// Secret is text that is never printed: however it is formatted, logged or
// marshalled, it gives "***", or nothing when it is empty.
type Secret struct{ text string }

// NewSecret hides text.
func NewSecret(text string) Secret { return Secret{text} }

// Reveal gives the text itself, for whoever needs to present it.
func (s Secret) Reveal() string { return s.text }

// IsZero reports whether there is no secret.
func (s Secret) IsZero() bool { return s.text == "" }

// String implements fmt.Stringer.
func (s Secret) String() string {
	if s.text == "" {
		return ""
	}
	return hidden
}

// Format implements fmt.Formatter: no verb shows the text.
func (s Secret) Format(f fmt.State, _ rune) {
	// A fmt.State remembers a failed write itself.
	io.WriteString(f, s.String()) //nolint:errcheck // see above
}

// MarshalText implements encoding.TextMarshaler, and with it JSON and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Secret) UnmarshalText(text []byte) error {
	s.text = string(text)
	return nil
}

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// URL is a URL that may hold a password: printed, its password is "***".
type URL struct{ text string }

// NewURL wraps text, which is not checked: whoever opens the URL does that.
func NewURL(text string) URL { return URL{text} }

// Reveal gives the URL with its password.
func (u URL) Reveal() string { return u.text }

// IsZero reports whether the URL is empty.
func (u URL) IsZero() bool { return u.text == "" }

var secretParam = regexp.MustCompile(`(?i)([?&][^=&]*(?:password|passwd|secret|token)[^=&]*=)[^&#]*`)

// String implements fmt.Stringer.
func (u URL) String() string {
	text := u.text
	if from, to := u.password(); from < to {
		text = text[:from] + hidden + text[to:]
	}
	return secretParam.ReplaceAllString(text, "${1}"+hidden)
}

// password gives the part of the text that is the userinfo's password. It works
// on text and not on a parsed URL, since the password that breaks the parser
// must be hidden too. A userinfo without a colon counts as a password: it is a
// common mistake.
func (u URL) password() (from, to int) {
	start := strings.Index(u.text, "://")
	at := strings.LastIndexByte(u.text, '@')
	if start < 0 || at < start+3 {
		return 0, 0
	}
	start += 3
	user, _, found := strings.Cut(u.text[start:at], ":")
	switch {
	case found:
		return start + len(user) + 1, at
	case strings.Contains(user, "/"):
		return 0, 0 // the @ belongs to the path
	default:
		return start, at
	}
}

// Format implements fmt.Formatter: no verb shows the password.
func (u URL) Format(f fmt.State, _ rune) {
	io.WriteString(f, u.String()) //nolint:errcheck // a fmt.State remembers a failed write
}

// MarshalText implements encoding.TextMarshaler, and with it JSON and YAML.
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (u *URL) UnmarshalText(text []byte) error {
	u.text = string(text)
	return nil
}

// LogValue implements slog.LogValuer.
func (u URL) LogValue() slog.Value { return slog.StringValue(u.String()) }
