package sink

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/replay"
)

// stdoutOptions are the options of the kind "stdout".
type stdoutOptions struct {
	// Format is "raw", "view" or "cloudevents".
	Format string `json:"format,omitempty"`
}

// stdoutKind is the kind "stdout".
type stdoutKind struct {
	out     io.Writer
	mapping event.Mapping
}

// NewStdout returns the kind "stdout": JSON lines to out, at least once. It is
// for a replay in the foreground: a worker has no one who reads its output.
func NewStdout(out io.Writer, mapping event.Mapping) replay.SinkKind {
	return &stdoutKind{out, mapping}
}

// Type implements replay.SinkKind.
func (*stdoutKind) Type() string { return "stdout" }

// Parse implements replay.SinkKind. The target is "-" or nothing.
func (k *stdoutKind) Parse(target string, options map[string]string) (json.RawMessage, error) {
	if target != "" && target != "-" {
		return nil, fmt.Errorf("target %q: standard output is just -", target)
	}
	return parseOptions(k.Type(), stdoutOptions{}, options)
}

func (k *stdoutKind) options(raw json.RawMessage) (stdoutOptions, error) {
	o, err := decodeOptions[stdoutOptions](k.Type(), raw)
	if err != nil {
		return o, err
	}
	if err := oneOf("format", &o.Format, formatRaw, formatView, formatCloudEvents); err != nil {
		return o, fmt.Errorf("sink %s: %w", k.Type(), err)
	}
	return o, nil
}

// Check implements replay.SinkKind.
func (k *stdoutKind) Check(_ context.Context, opening replay.Opening) (replay.Target, error) {
	o, err := k.options(opening.Options)
	if err == nil {
		err = noPressure(k.Type(), &opening)
	}
	if err != nil {
		return replay.Target{}, err
	}
	return replay.Target{Key: "stdout", Description: "JSON lines (" + o.Format + ") on standard output", Guarantee: replay.AtLeastOnce}, nil
}

// Open implements replay.SinkKind.
func (k *stdoutKind) Open(_ context.Context, opening replay.Opening) (replay.Sink, error) {
	o, err := k.options(opening.Options)
	if err != nil {
		return nil, err
	}
	return &stdoutSink{out: k.out, encoder: newEncoder(o.Format, opening.Replay, k.mapping)}, nil
}

// Clean implements replay.SinkKind: nothing is kept.
func (*stdoutKind) Clean(context.Context, replay.Opening) error { return nil }

type stdoutSink struct {
	out     io.Writer
	encoder *encoder
	buf     []byte
}

// Position implements replay.Sink: what was printed is not remembered.
func (*stdoutSink) Position(context.Context) (replay.Position, error) { return replay.Position{}, nil }

// Write implements replay.Sink.
func (s *stdoutSink) Write(ctx context.Context, b *replay.Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.buf = s.buf[:0]
	var last replay.Position
	rejected, err := appendLines(&s.buf, s.encoder, b, replay.Position{}, &last)
	if err != nil {
		return err
	}
	if _, err := s.out.Write(s.buf); err != nil {
		return fmt.Errorf("write to standard output: %w", err)
	}
	if len(rejected) > 0 {
		return &replay.RejectedError{Events: rejected}
	}
	return nil
}

// Close implements replay.Sink.
func (*stdoutSink) Close() error { return nil }
