package sink

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/reservoirhq/reservoir/internal/remedy"
)

// SecretPrefix begins the names of the environment variables that options may
// refer to. Others are none of a replay's business.
const SecretPrefix = "RESERVOIR_SINK_"

// Environ gives the value of an environment variable, as os.LookupEnv does; nil
// has none.
type Environ func(name string) (value string, there bool)

// Expand puts the values of environment variables in place of ${RESERVOIR_SINK_…}
// in an option's value. Options are stored and shown as they were written: only
// what a sink connects with is expanded, where it runs. The error names what is
// missing, and never a value.
func (e Environ) Expand(text string) (string, error) {
	var failed error
	out := references().ReplaceAllStringFunc(text, func(ref string) string {
		name := ref[2 : len(ref)-1]
		if !strings.HasPrefix(name, SecretPrefix) {
			failed = remedy.Wrapf(fmt.Errorf("%s: only environment variables that begin with %s can be used", ref, SecretPrefix),
				"Rename the variable to %s… where the worker runs.", SecretPrefix)
			return ""
		}
		if e != nil {
			if value, there := e(name); there {
				return value
			}
		}
		failed = remedy.Wrapf(fmt.Errorf("environment variable %s is not set", name), "Set %s where the worker runs, and where replays are created.", name)
		return ""
	})
	if failed != nil {
		return "", failed
	}
	return out, nil
}

// noPassword refuses a URL that holds a password itself: options are kept with the
// job, and shown.
func noPassword(option, url string) error {
	_, rest, _ := strings.Cut(url, "://")
	user, _, there := cutLast(rest, "@")
	_, password, _ := strings.Cut(user, ":")
	if !there || references().ReplaceAllString(password, "") == "" {
		return nil
	}
	return remedy.Wrapf(fmt.Errorf("%s holds a password: it would be kept with the job, and shown", option),
		"Write ${%sPASSWORD} in its place, and set that variable where workers run and replays are created.", SecretPrefix)
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return "", s, false
}

// references finds what Expand replaces.
func references() *regexp.Regexp { return regexp.MustCompile(`\$\{[^}]*\}`) }
