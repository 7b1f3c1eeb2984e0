package parquet

import "github.com/reservoirhq/reservoir/event"

// ReadSpec says which events of a file are wanted.
type ReadSpec struct {
	// From and To bound the IDs, both inclusive. A zero To is no bound.
	From, To event.ID
}

func (s *ReadSpec) contains(id event.ID) bool {
	return !id.Less(s.From) && (s.To.IsZero() || !s.To.Less(id))
}

// overlaps reports whether there may be wanted IDs with milliseconds in
// [low, high].
func (s *ReadSpec) overlaps(low, high uint64) bool {
	return high >= s.From.Ms && (s.To.IsZero() || low <= s.To.Ms)
}

// covers reports whether all IDs with milliseconds in [low, high] are wanted.
func (s *ReadSpec) covers(low, high uint64) bool {
	return s.contains(event.ID{Ms: low}) && s.contains(event.ID{Ms: high, Seq: ^uint64(0)})
}

// Reader returns a Reader of the wanted events.
func (f *File) Reader(spec ReadSpec) *Reader {
	return &Reader{file: f, spec: spec}
}
