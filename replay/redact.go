package replay

import (
	"bytes"
	"regexp"
)

var (
	urlPassword  = regexp.MustCompile(`(://[^/?#@\s":]*:)([^@\s"]+)(@)`)
	secretMember = regexp.MustCompile(`(?i)("(?:password|secret|token|jwt|seed|authorization)"\s*:\s*")((?:[^"\\]|\\.)+)(")`)
	secretParam  = regexp.MustCompile(`(?i)((?:[?&]|\\u0026)(?:password|secret|(?:access_|auth_)?token|api_?key|key|sig|signature)=)([^&\s"\\#]+)()`)
)

// Redact takes secrets out of a text, which may be the JSON of a Spec, for it to be
// shown: passwords in URLs, and the values of options, headers and parameters that
// are called as secrets are. References to variables stay.
func Redact(text []byte) []byte {
	for _, secret := range []*regexp.Regexp{urlPassword, secretMember, secretParam} {
		text = secret.ReplaceAllFunc(text, func(found []byte) []byte {
			parts := secret.FindSubmatch(found)
			if bytes.Contains(parts[2], []byte("${")) {
				return found
			}
			return bytes.Join([][]byte{parts[1], []byte("***"), parts[3]}, nil)
		})
	}
	return text
}
