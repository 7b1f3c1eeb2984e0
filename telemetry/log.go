// Package telemetry is what a running Reservoir tells about itself: its logs,
// and its Prometheus metrics and health over HTTP.
//
// Metrics are named reservoir_<subsystem>_<what>_<unit> and are registered with
// a registry that is handed down, never with a global one.
package telemetry

import (
	"fmt"
	"io"
	"log/slog"
)

// LogOptions says how logs look.
type LogOptions struct {
	// Level is the least level that is logged: debug, info, warn or error.
	// Empty: info.
	Level string
	// Format is text, json, or auto: text on a terminal and JSON otherwise.
	// Empty: auto.
	Format string
	// Terminal says that the writer is a terminal.
	Terminal bool
}

// NewLogger returns a logger that writes to w. It fails on an unknown level or
// format.
func NewLogger(w io.Writer, opts LogOptions) (*slog.Logger, error) {
	var level slog.Level
	if opts.Level != "" {
		if err := level.UnmarshalText([]byte(opts.Level)); err != nil {
			return nil, fmt.Errorf("log level %q is not debug, info, warn or error", opts.Level)
		}
	}
	text := opts.Terminal
	switch opts.Format {
	case "", "auto":
	case "text":
		text = true
	case "json":
		text = false
	default:
		return nil, fmt.Errorf("log format %q is not auto, text or json", opts.Format)
	}
	handler := slog.HandlerOptions{Level: level}
	if text {
		return slog.New(slog.NewTextHandler(w, &handler)), nil
	}
	return slog.New(slog.NewJSONHandler(w, &handler)), nil
}
