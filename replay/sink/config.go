package sink

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

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

// inTheClear warns of secrets that options hold themselves, and not by the name
// of a variable: the options are kept with the job, and shown.
func inTheClear(raw json.RawMessage, names ...string) (warnings []string) {
	var options map[string]any
	if err := json.Unmarshal(raw, &options); err != nil {
		return nil // decodeOptions says so
	}
	if headers, ok := options["headers"].(map[string]any); ok {
		for name, value := range headers {
			options["headers."+name] = value
		}
	}
	for _, name := range slices.Sorted(maps.Keys(options)) {
		secret := slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) })
		if text, ok := options[name].(string); ok && secret && text != "" && !strings.Contains(text, "${"+SecretPrefix) {
			warnings = append(warnings, fmt.Sprintf("%s is kept with the job, in the clear: give it as ${%s…}", name, SecretPrefix))
		}
	}
	return warnings
}
