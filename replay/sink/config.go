package sink

import (
	"github.com/reservoirhq/reservoir/event"
)

// Config is what kinds of sinks take from the process.
type Config struct {
	// Mapping is where envelopes are found.
	Mapping event.Mapping
	// AllowHosts may be connected to.
	AllowHosts Hosts
	// Environ has the secrets that options name.
	Environ Environ
}

// expandAll expands texts in place. Where a variable is not set, missing says
// so, and its text stays as it was; err is about a name that may not be used.
func (e Environ) expandAll(texts ...*string) (missing, err error) {
	known := Environ(func(string) (string, bool) { return "", true })
	for _, text := range texts {
		if _, err := known.Expand(*text); err != nil {
			return nil, err
		}
		expanded, err := e.Expand(*text)
		if err != nil {
			missing = err
			continue
		}
		*text = expanded
	}
	return missing, nil
}
