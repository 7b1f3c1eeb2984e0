package web

import (
	"context"
	"strings"

	"github.com/reservoirhq/reservoir/archiver"
	"github.com/reservoirhq/reservoir/event"
)

// lastOf gives the last ID that a stream is known to have: Redis's, where it can be
// asked, and else that of the archive's head.
func (s *Server) lastOf(ctx context.Context, stream string) (event.ID, bool) {
	for status, err := range archiver.Statuses(ctx, s.opts.Redis, s.opts.Archive, archiver.StatusSpec{Streams: []string{stream}}) {
		if err != nil || status.Err != nil {
			return event.ID{}, false
		}
		if status.Live != nil && status.Head.Less(status.Live.LastID) {
			return status.Live.LastID, true
		}
		return status.Head, true
	}
	return event.ID{}, false
}

func compareText(a, b string) int { return strings.Compare(a, b) }
