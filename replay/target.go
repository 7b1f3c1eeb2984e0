package replay

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// sinkOf gives the type of sink that a URL's scheme names.
func sinkOf(scheme string) string {
	switch scheme {
	case "https":
		return "http"
	case "rediss", "redis+sentinel", "redis+cluster", "unix":
		return "redis"
	default:
		return scheme
	}
}

// ParseTarget is the function of that name for the sinks of the service.
func (s *Service) ParseTarget(target string, options map[string]string) (SinkSpec, error) {
	return ParseTarget(s.opts.Sinks, target, options)
}

// ParseTarget makes the SinkSpec of a target as people write it: "type:target",
// a URL whose scheme tells the type, or "-" for standard output. The options
// win over what the target says. Nothing is reached.
func ParseTarget(kinds []SinkKind, target string, options map[string]string) (SinkSpec, error) {
	kind, rest, colon := strings.Cut(target, ":")
	switch {
	case target == "-":
		kind, rest = "stdout", ""
	case strings.HasPrefix(rest, "//"):
		kind, rest = sinkOf(kind), target // a whole URL
	}
	known := map[string]SinkKind{}
	for _, k := range kinds {
		known[k.Type()] = k
	}
	k := known[kind]
	if k == nil {
		err := &FieldError{Field: "sink.type", Value: string(Redact(strconv.AppendQuote(nil, target))), Err: fmt.Errorf("there is no sink %q here", kind)}
		switch {
		case target == "-":
			err.Want = "Only a replay that runs in the foreground can write to standard output: `reservoir replay run`."
		case !colon:
			err.Err = errors.New("it does not say which sink")
			err.Want = fmt.Sprintf("Write redis:%s for a stream, file:%s for a file, or a URL.", target, target)
		default:
			err.Want = fmt.Sprintf("Begin with one of: %s; redis:%s is a stream of that name.", strings.Join(slices.Sorted(maps.Keys(known)), ", "), target)
		}
		return SinkSpec{}, err
	}
	raw, err := k.Parse(rest, options)
	if err != nil {
		return SinkSpec{}, &FieldError{Field: "sink", Value: string(Redact(strconv.AppendQuote(nil, target))), Err: err}
	}
	return SinkSpec{Type: kind, Options: raw}, nil
}
