package sink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/replay"
)

// fileOptions are the options of the kind "file". docs/replay.md describes them.
type fileOptions struct {
	Path string `json:"path"`
	// Format is "raw", "view" or "cloudevents".
	Format    string `json:"format,omitempty"`
	Append    bool   `json:"append,omitempty"`    // go on after what a file holds already
	Overwrite bool   `json:"overwrite,omitempty"` // throw away what a file holds already
}

func (o *fileOptions) validate() error {
	if o.Path == "" {
		return remedy.Wrap(errors.New("there is no path"), "Name a file: file:events.jsonl")
	}
	if o.Append && o.Overwrite {
		return errors.New("append and overwrite exclude each other")
	}
	return oneOf("format", &o.Format, formatRaw, formatView, formatCloudEvents)
}

// FileConfig is what the kind "file" takes from the process.
type FileConfig struct {
	// Mapping is where envelopes are found.
	Mapping event.Mapping
	// Dir is the directory that files may be in, whatever symbolic links say;
	// relative paths begin there. Empty: there are no files but with Anywhere.
	Dir string
	// Anywhere lets files be anywhere, as is right for a person's own process.
	// Relative paths then begin in the working directory.
	Anywhere bool
}

// fileKind is the kind "file".
type fileKind struct{ config FileConfig }

// NewFile returns the kind "file": JSON lines, exactly once. Beside the file
// lies PATH.reservoir-replay.json, which says up to where the file holds whole
// batches and which event is the last; what is beyond is cut off by the next
// attempt.
func NewFile(config FileConfig) replay.SinkKind { return &fileKind{config} }

// Type implements replay.SinkKind.
func (*fileKind) Type() string { return "file" }

// Parse implements replay.SinkKind. The target is a path, or a URL file:///path.
func (k *fileKind) Parse(target string, options map[string]string) (json.RawMessage, error) {
	target = strings.TrimPrefix(target, "file:")
	if strings.HasPrefix(target, "///") {
		target = target[2:]
	}
	return parseOptions(k.Type(), fileOptions{Path: target}, options)
}

// options reads an Opening's options.
func (k *fileKind) options(raw json.RawMessage) (fileOptions, error) {
	o, err := decodeOptions[fileOptions](k.Type(), raw)
	if err != nil {
		return o, err
	}
	if err := o.validate(); err != nil {
		return o, fmt.Errorf("sink %s: %w", k.Type(), err)
	}
	return o, nil
}

// Check implements replay.SinkKind.
func (k *fileKind) Check(_ context.Context, opening replay.Opening) (t replay.Target, err error) {
	o, err := k.options(opening.Options)
	if err == nil {
		err = noPressure(k.Type(), &opening)
	}
	if err != nil {
		return t, err
	}
	place, err := k.config.place(o.Path)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, place.root.Close()) }()
	t = replay.Target{Key: "file:" + place.path, Description: "JSON lines (" + o.Format + ") in file " + place.path, Guarantee: replay.ExactlyOnce}
	if o.Format == formatRaw && len(opening.Streams) > 1 {
		t.Warnings = append(t.Warnings, "raw lines do not tell of which stream an event is: use format=view, or a replay for each stream")
	}
	switch mark, err := place.readMark(); {
	case err != nil:
		return t, err
	case mark != nil && mark.Job != opening.Replay:
		return t, place.foreign(mark)
	case mark != nil:
		return t, nil
	}
	stat, err := place.root.Stat(place.name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return t, nil
	case err != nil:
		return t, fmt.Errorf("look at file %s: %w", place.path, err)
	}
	return t, place.mayBegin(stat, &o)
}

// Open implements replay.SinkKind.
func (k *fileKind) Open(ctx context.Context, opening replay.Opening) (replay.Sink, error) {
	o, err := k.options(opening.Options)
	if err != nil {
		return nil, err
	}
	place, err := k.config.place(o.Path)
	if err != nil {
		return nil, err
	}
	s := &fileSink{place: place, encoder: newEncoder(o.Format, opening.Replay, k.config.Mapping)}
	if err := s.takeOver(ctx, &o, &opening); err != nil {
		return nil, errors.Join(fmt.Errorf("open file %s: %w", place.path, err), s.Close())
	}
	return s, nil
}

// Clean implements replay.SinkKind: it removes the mark beside the file.
func (k *fileKind) Clean(_ context.Context, opening replay.Opening) (err error) {
	o, err := k.options(opening.Options)
	if err != nil {
		return err
	}
	place, err := k.config.place(o.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // with its directory
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, place.root.Close()) }()
	mark, err := place.readMark()
	if err != nil || mark == nil || mark.Job != opening.Replay || mark.Epoch > opening.Epoch {
		return err
	}
	return place.removeMark()
}
