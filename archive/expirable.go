package archive

import (
	"context"
	"fmt"
	"time"
)

// Expirable returns what Expire would drop now.
func (a *Archive) Expirable(ctx context.Context, stream string, before time.Time) (Removed, error) {
	var found Removed
	err := a.eachIncarnation(ctx, stream, func(l *Log) error {
		v, err := l.a.view(ctx, l.dir(), l.number())
		if err != nil {
			return err
		}
		for s, err := range v.spans(ctx) {
			if err != nil {
				return err
			}
			if before.UnixMilli() <= 0 || s.Last.Ms >= uint64(before.UnixMilli()) {
				break
			}
			found.Events += s.Count()
			found.Segments += uint64(len(s.Segments))
			for _, seg := range s.Segments {
				found.Bytes += seg.Bytes
			}
		}
		return nil
	})
	if err != nil {
		return found, fmt.Errorf("look for expired segments of stream %q: %w", stream, err)
	}
	return found, nil
}
