package jsonl

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/reservoirhq/reservoir/event"
)

// ErrNewerVersion is what a Reader wraps for a file that a newer version of the
// format made.
var ErrNewerVersion = errors.New("made by a newer version of the JSONL format")

// Header is what a segment says about itself.
type Header struct {
	Version     int    // of the format
	Stream      string // arbitrary bytes, as in Redis
	Incarnation int    // of the stream, from 1
}

const (
	// skippableMagic begins the zstd frames that hold a header or a trailer;
	// zstd tools skip them.
	skippableMagic = 0x184D2A50
	zstdMagic      = 0xFD2FB528
	// maxMeta bounds a header or trailer: a key of Redis may have 512 MiB in
	// theory, no object store takes one as a name.
	maxMeta = 1 << 20

	formatHeader  = "reservoir.jsonl"
	formatTrailer = "reservoir.jsonl.end"
)

// appendHeader appends the frame that a file begins with.
func appendHeader(dst []byte, h Header) []byte {
	content := fmt.Appendf(nil, `{"format":%q,"version":%d,"stream":`, formatHeader, h.Version)
	content = appendBytes(content, []byte(h.Stream))
	content = fmt.Appendf(content, `,"incarnation":%d}`, h.Incarnation)
	return appendSkippable(dst, content)
}

// appendTrailer appends the frame that a file ends with. It proves that nothing
// was cut off.
func appendTrailer(dst []byte, events uint64) []byte {
	return appendSkippable(dst, fmt.Appendf(nil, `{"format":%q,"version":%d,"events":%d}`, formatTrailer, Version, events))
}

func appendSkippable(dst, content []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, skippableMagic)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(content)))
	return append(dst, content...)
}

// meta is the content of a skippable frame of ours.
type meta struct {
	Format      string          `json:"format"`
	Version     int             `json:"version"`
	Stream      json.RawMessage `json:"stream"`
	Incarnation int             `json:"incarnation"`
	Events      uint64          `json:"events"`
}

// parseMeta reads the content of a skippable frame. Frames of other programs
// give an empty Format and no error.
func parseMeta(content []byte) (meta, error) {
	var kind struct {
		Format  string `json:"format"`
		Version int    `json:"version"`
	}
	if err := json.Unmarshal(content, &kind); err != nil {
		return meta{}, nil //nolint:nilerr // no JSON: a frame of another program
	}
	if kind.Format != formatHeader && kind.Format != formatTrailer {
		return meta{}, nil
	}
	if kind.Version > Version {
		return meta{}, fmt.Errorf("%w: it is version %d, this program reads up to %d", ErrNewerVersion, kind.Version, Version)
	}
	var m meta
	if err := json.Unmarshal(content, &m); err != nil {
		return meta{}, fmt.Errorf("read header: %w", err)
	}
	return m, nil
}

// header returns what m says as a file's header.
func (m *meta) header() (Header, error) {
	h := Header{Version: m.Version, Incarnation: m.Incarnation}
	if len(m.Stream) == 0 {
		return h, nil
	}
	stream, err := parseBytes(m.Stream)
	if err != nil {
		return Header{}, fmt.Errorf("read header: stream: %w", err)
	}
	h.Stream = string(stream)
	return h, nil
}

// parseBytes reads one value as a field's value is read.
func parseBytes(value []byte) ([]byte, error) {
	line := append([]byte(`{"fields":[["",`), value...)
	line = append(line, `]]}`...)
	var b event.Batch
	if err := ParseLine(line, &b); err != nil {
		return nil, err
	}
	var e event.Event
	b.Event(0, &e)
	return e.Fields[0].Value, nil
}
