package replay

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/objectstore"
)

// frozenFile is where a job keeps its Frozen, among its files.
const frozenFile = "plan.json"

// writeFrozen keeps what a replay reads. It is written before the job can run, and
// once: a repeat of the request that made the job changes nothing.
func writeFrozen(ctx context.Context, files objectstore.Store, f *Frozen) error {
	f.Version = FrozenVersion
	for i := range f.Streams {
		if s := &f.Streams[i]; !utf8.ValidString(s.Stream) {
			s.StreamBase64 = base64.StdEncoding.EncodeToString([]byte(s.Stream))
		}
	}
	text, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("write the plan of a replay: %w", err)
	}
	if _, err := files.Put(ctx, frozenFile, bytes.NewReader(text), objectstore.IfAbsent); err != nil && !errors.Is(err, objectstore.ErrPrecondition) {
		return fmt.Errorf("write the plan of a replay: %w", err)
	}
	return nil
}

// readFrozen reads what writeFrozen wrote.
func readFrozen(ctx context.Context, files objectstore.Reader) (f *Frozen, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("read the plan of a replay: %w", err)
		}
	}()
	body, _, err := files.Get(ctx, frozenFile, objectstore.ByteRange{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	text, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	f = &Frozen{}
	if err := json.Unmarshal(text, f); err != nil {
		return nil, err
	}
	for i := range f.Streams {
		s := &f.Streams[i]
		if s.StreamBase64 == "" {
			continue
		}
		name, err := base64.StdEncoding.DecodeString(s.StreamBase64)
		if err != nil {
			return nil, err
		}
		s.Stream = string(name)
	}
	if f.Version > FrozenVersion {
		return nil, remedy.Wrapf(fmt.Errorf("it has version %d, and this program reads up to %d", f.Version, FrozenVersion),
			"Run it with the version of reservoir that created it, or a newer one.")
	}
	return f, nil
}
