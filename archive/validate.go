package archive

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/reservoirhq/reservoir/event"
)

// extends reports whether commits of this kind end an unsealed log: only one of
// them can follow a head.
func (k Kind) extends() bool { return k == KindAppend || k == KindGap || k == KindSeal }

// movesHead reports whether commits of this kind may move the head.
func (k Kind) movesHead() bool { return k == KindAppend || k == KindGap }

// validate checks what a commit says against itself and the commit before it;
// Prev is the head before it.
func (c *Commit) validate(incarnation int, added uint64) error {
	var err error
	switch c.Kind {
	case KindAppend:
		err = c.validateAppend()
	case KindGap:
		err = c.validateGap()
	case KindSeal:
		err = c.validateSeal(incarnation)
	case KindCompact, KindErase, KindExpire:
		err = c.validateReplace()
	default:
		err = errors.New("unknown kind")
	}
	switch {
	case err != nil:
	case (c.Gap != nil) != (c.Kind == KindGap):
		err = errors.New("a gap belongs in a commit of kind gap, and nowhere else")
	case c.Seal != nil && c.Kind.movesHead():
		err = errors.New("the incarnation is sealed")
	case c.EntriesAdded < added:
		err = fmt.Errorf("entries added go back from %d to %d: that is another history, which needs a new incarnation", added, c.EntriesAdded)
	}
	if err != nil {
		return fmt.Errorf("invalid %s commit %d: %w", c.Kind, c.Number, err)
	}
	return nil
}

func (c *Commit) validateAppend() error {
	spans, err := spansOf(c.Adds)
	switch {
	case err != nil:
		return err
	case len(spans) == 0:
		return errors.New("it adds no segment")
	case len(c.Removes) > 0:
		return errors.New("it removes segments")
	case !c.Prev.Less(spans[0].First):
		return fmt.Errorf("segment %s begins at %s, which is not after the head %s", spans[0].Segments[0].Key, spans[0].First, c.Prev)
	case spans[len(spans)-1].Last != c.Head:
		return fmt.Errorf("the last segment ends at %s, not at the new head %s", spans[len(spans)-1].Last, c.Head)
	}
	return nil
}

func (c *Commit) validateGap() error {
	g := c.Gap
	switch {
	case g == nil:
		return errors.New("it has no gap")
	case len(c.Adds)+len(c.Removes) > 0:
		return errors.New("it adds or removes segments")
	case g.UpTo.Less(g.After):
		return fmt.Errorf("the gap after %s ends before it, at %s", g.After, g.UpTo)
	case c.Head.Less(c.Prev):
		return fmt.Errorf("the head goes back from %s to %s", c.Prev, c.Head)
	case c.Head != c.Prev && g.UpTo.Less(c.Head):
		return fmt.Errorf("the head moves to %s, beyond the gap's end %s", c.Head, g.UpTo)
	}
	return nil
}

func (c *Commit) validateSeal(incarnation int) error {
	s := c.Seal
	switch {
	case s == nil:
		return errors.New("it has no seal")
	case len(c.Adds)+len(c.Removes) > 0:
		return errors.New("it adds or removes segments")
	case s.Next != incarnation+1:
		return fmt.Errorf("the next incarnation is %d, not %d", incarnation+1, s.Next)
	case c.Head.Less(s.Base):
		return fmt.Errorf("the base %s lies beyond the head %s", s.Base, c.Head)
	}
	return nil
}

func (c *Commit) validateReplace() error {
	spans, err := spansOf(c.Adds)
	switch {
	case err != nil:
		return err
	case len(c.Removes) == 0:
		return errors.New("it removes no segment")
	case c.Kind == KindExpire && len(spans) > 0:
		return errors.New("it adds segments")
	case len(spans) > 0 && c.Head.Less(spans[len(spans)-1].Last):
		return fmt.Errorf("segment %s ends beyond the head %s", spans[len(spans)-1].Segments[0].Key, c.Head)
	}
	return nil
}

// Span is a contiguous run of events of one incarnation as the archive holds
// it: one segment in each of its formats, with the same events.
type Span struct {
	First, Last event.ID
	Segments    []Segment // by Format
}

// Count returns the number of the span's events.
func (s *Span) Count() uint64 { return s.Segments[0].Count }

// Raw returns the bytes of all names and values of the span's events.
func (s *Span) Raw() int64 { return s.Segments[0].Raw }

// Segment returns the segment in that format, or in another one when there is
// none in that.
func (s *Span) Segment(preferred Format) Segment {
	for _, seg := range s.Segments {
		if seg.Format == preferred {
			return seg
		}
	}
	return s.Segments[0]
}

func (s *Span) formats() string {
	names := make([]string, len(s.Segments))
	for i, seg := range s.Segments {
		names[i] = string(seg.Format)
	}
	return strings.Join(names, "+")
}

func newSpan(seg Segment) *Span {
	return &Span{First: seg.First, Last: seg.Last, Segments: []Segment{seg}}
}

// join makes seg part of the span if it holds the same events in another
// format, or if the span is empty; it reports whether it did.
func (s *Span) join(seg Segment) (bool, error) {
	if len(s.Segments) == 0 {
		*s = *newSpan(seg)
		return true, nil
	}
	if !seg.First.Less(s.First) && s.Last.Less(seg.First) {
		return false, nil
	}
	first := s.Segments[0]
	if seg.First != s.First || seg.Last != s.Last || seg.Count != first.Count || seg.Raw != first.Raw || seg.Format <= s.Segments[len(s.Segments)-1].Format {
		return false, fmt.Errorf("segments %s and %s overlap and are not two formats of the same events", first.Key, seg.Key)
	}
	s.Segments = append(s.Segments, seg)
	return true, nil
}

// spansOf checks segments and groups them by what they hold, in order.
func spansOf(segments []Segment) ([]Span, error) {
	segments = sortedSegments(segments)
	var spans []Span
	for i := range segments {
		seg := segments[i]
		if err := seg.validate(); err != nil {
			return nil, err
		}
		if len(spans) > 0 {
			joined, err := spans[len(spans)-1].join(seg)
			if err != nil {
				return nil, err
			}
			if joined {
				continue
			}
		}
		spans = append(spans, *newSpan(seg))
	}
	return spans, nil
}

func (s *Segment) validate() error {
	var problem string
	switch digest, err := hex.DecodeString(s.SHA256); {
	case formatExts[s.Format] == "":
		problem = fmt.Sprintf("has unknown format %q", s.Format)
	case s.Version != formatVersions[s.Format]:
		problem = fmt.Sprintf("has unknown version %d of its format", s.Version)
	case !strings.HasPrefix(s.Key, hourDir(s.Format, s.First)) || !strings.HasSuffix(s.Key, formatExts[s.Format]):
		problem = "does not have the key that its format and its first ID ask for"
	case s.First.IsZero() || s.Last.Less(s.First):
		problem = fmt.Sprintf("goes from %s to %s", s.First, s.Last)
	case Hour(s.First) != Hour(s.Last):
		problem = "crosses an hour"
	case s.Count == 0 || s.Bytes <= 0 || s.Raw < 0:
		problem = fmt.Sprintf("has %d events, %d bytes, %d raw bytes", s.Count, s.Bytes, s.Raw)
	case err != nil || len(digest) != 32:
		problem = "has no SHA-256"
	default:
		return nil
	}
	return fmt.Errorf("segment %s %s", s.Key, problem)
}

// after returns the totals after commit c, which removes those segments.
func (t Totals) after(c *Commit, removed []Segment) (Totals, error) {
	gone, err := spansOf(removed)
	if err != nil {
		return t, err
	}
	for _, s := range gone {
		if !t.sub(&s) {
			return t, fmt.Errorf("commit %d removes more than there is", c.Number)
		}
	}
	added, err := spansOf(c.Adds)
	if err != nil {
		return t, err
	}
	for _, s := range added {
		t.add(&s)
	}
	if c.Gap != nil {
		t.Gaps++
		t.Lost = saturate(t.Lost, c.Gap.Lost)
	}
	return t, nil
}

func (t *Totals) add(s *Span) {
	t.Events += s.Count()
	t.RawBytes += s.Raw()
	for _, seg := range s.Segments {
		t.Segments++
		t.Bytes += seg.Bytes
	}
}

func (t *Totals) sub(s *Span) bool {
	if t.Events < s.Count() || t.RawBytes < s.Raw() {
		return false
	}
	t.Events -= s.Count()
	t.RawBytes -= s.Raw()
	for _, seg := range s.Segments {
		if t.Segments == 0 || t.Bytes < seg.Bytes {
			return false
		}
		t.Segments--
		t.Bytes -= seg.Bytes
	}
	return true
}

func saturate(a, b uint64) uint64 {
	if a > math.MaxUint64-b {
		return math.MaxUint64
	}
	return a + b
}
