package web

import (
	"context"
	"slices"

	"github.com/reservoirhq/reservoir/archiver"
	"github.com/reservoirhq/reservoir/event"
)

// listing is streams by name.
type listing struct {
	names []string
	off   error // why Redis was not asked although it was to be; nil: it was
}

// names gives the streams that a caller may see: what is archived, and with live what
// the archiver would archive. patterns, if any, narrow it.
func (s *Server) names(ctx context.Context, caller Caller, patterns []string, live bool) (found listing, err error) {
	all := []string{"*"}
	list, err := archiver.Streams(ctx, nil, s.opts.Archive, all, nil)
	if err != nil {
		return found, err //nolint:wrapcheck // it says what failed
	}
	if live && s.opts.Redis != nil {
		include := s.opts.Include
		if len(include) == 0 {
			include = all
		}
		for name, err := range s.opts.Redis.Discover(ctx, include, s.opts.Exclude) {
			if err != nil {
				found.off = err
				break
			}
			list = append(list, name)
		}
	}
	slices.Sort(list)
	list = slices.Compact(list)
	found.names = slices.DeleteFunc(list, func(name string) bool {
		fits := len(patterns) == 0 || slices.ContainsFunc(patterns, func(p string) bool { return event.MatchPattern(p, name) })
		return !fits || !caller.Stream(name)
	})
	return found, nil
}
