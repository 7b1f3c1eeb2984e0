package web

import (
	"context"
	"errors"
	"slices"

	"github.com/reservoirhq/reservoir/archiver"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/redisstream"
)

// names gives the streams that a caller may see, by name: what is archived, and with
// live what the archiver would archive. patterns, if any, narrow it. off says why Redis
// was not asked although it was to be.
func (s *Server) names(ctx context.Context, caller Caller, patterns []string, live bool) (list []string, off error, err error) {
	all := []string{"*"}
	if list, err = archiver.Streams(ctx, nil, s.opts.Archive, all, nil); err != nil {
		return nil, nil, err //nolint:wrapcheck // it says what failed
	}
	if live && s.opts.Redis != nil {
		include := s.opts.Include
		if len(include) == 0 {
			include = all
		}
		for name, found := range s.opts.Redis.Discover(ctx, include, s.opts.Exclude) {
			if found != nil && !errors.Is(found, redisstream.ErrNotStream) {
				off = found
				break
			}
			list = append(list, name)
		}
	}
	slices.Sort(list)
	list = slices.Compact(list)
	return slices.DeleteFunc(list, func(name string) bool {
		fits := len(patterns) == 0 || slices.ContainsFunc(patterns, func(p string) bool { return event.MatchPattern(p, name) })
		return !fits || !caller.Stream(name)
	}), off, nil
}
