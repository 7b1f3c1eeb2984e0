package replay

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/event"
)

const (
	maxNames       = 10_000 // distinct types or tenants that are counted apart
	sampleSegments = 32     // segments that a sample looks into
)

// counter counts the events that a filter selects, by what segments say of
// themselves. What they do not say is bounded, and noted for a sample.
type counter struct {
	spec    *event.Filter
	filter  *event.Matcher // nil: all
	mapping string
	others  bool // the filter looks at more than types and tenants

	stream string // the present one
	total  tally
	byDim  [numDims]tally

	// unsure are some of the segments that leave something open: a uniform
	// sample of the unsureSeen ones.
	unsure      []unsureSegment
	unsureSeen  uint64
	unsureUpper [numDims + 1]uint64 // their upper bounds, by dim and of the total
	random      *rand.Rand
	sampled     *sampleResult // nil: none was taken
}

// dim is what events are counted by.
type dim int

const (
	byStream dim = iota
	byDay
	byType
	byTenant
	numDims
)

// unsureSegment is a segment of which not everything is known.
type unsureSegment struct {
	archive.PlannedSegment
	name   string      // of the stream
	within event.Range // what the replay reads of the incarnation
	upper  uint64
	sure   [numDims + 1]bool // by dim, and of the total
}

const ofTotal = numDims // index of the total in sure

func newCounter(spec *event.Filter, filter *event.Matcher, mapping string) *counter {
	c := &counter{
		spec: spec, filter: filter, mapping: mapping,
		others: len(spec.AggregateTypes)+len(spec.Aggregates)+len(spec.EventIDs) > 0 || spec.Where != "",
		random: rand.New(rand.NewPCG(1, 2)), // the same sample every time
	}
	for d := range c.byDim {
		c.byDim[d].limit = maxNames
	}
	c.byDim[byStream].limit, c.byDim[byDay].limit = math.MaxInt, math.MaxInt
	return c
}

// beginStream says which stream the next segments are of.
func (c *counter) beginStream(name string) { c.stream = name }

// add counts a segment of the present stream, of which within is read.
func (c *counter) add(seg *archive.PlannedSegment, within event.Range) {
	known := seg.Mapping == c.mapping
	types, tenants := known && seg.Types != nil, known && seg.Tenants != nil
	ofTypes, ofTenants := seg.Count, seg.Count // upper bounds
	typesSure, tenantsSure := len(c.spec.Types) == 0, len(c.spec.Tenants) == 0
	if !typesSure && types {
		ofTypes, typesSure = c.filter.CountTypes(seg.Types), true
	}
	if !tenantsSure && tenants {
		ofTenants, tenantsSure = c.filter.CountTenants(seg.Tenants), true
	}
	upper := min(seg.Count, ofTypes, ofTenants)
	if upper == 0 {
		return
	}
	// Of the events with a right type and those with a right tenant, at least so
	// many are the same.
	lower := ofTypes + ofTenants - min(ofTypes+ofTenants, seg.Count)
	base := seg.Whole && !c.others && typesSure && tenantsSure
	u := unsureSegment{PlannedSegment: *seg, name: c.stream, within: within, upper: upper}
	u.sure[ofTotal] = base && lower == upper
	u.sure[byStream], u.sure[byDay] = u.sure[ofTotal], u.sure[ofTotal]
	u.sure[byType] = base && types && ofTenants == seg.Count
	u.sure[byTenant] = base && tenants && ofTypes == seg.Count

	c.total.add("", upper, u.sure[ofTotal])
	c.byDim[byStream].add(c.stream, upper, u.sure[byStream])
	c.byDim[byDay].add(dayOf(seg.First), upper, u.sure[byDay])
	c.byDim[byType].addAll(seg.Types, types, upper, u.sure[byType], c.matchType)
	c.byDim[byTenant].addAll(seg.Tenants, tenants, upper, u.sure[byTenant], c.matchTenant)
	if u.sure[ofTotal] && u.sure[byType] && u.sure[byTenant] {
		return
	}
	for d, sure := range u.sure {
		if !sure {
			c.unsureUpper[d] += upper
		}
	}
	c.unsureSeen++
	if len(c.unsure) < sampleSegments {
		c.unsure = append(c.unsure, u)
	} else if i := c.random.Uint64N(c.unsureSeen); i < sampleSegments {
		c.unsure[i] = u
	}
}

func (c *counter) matchType(name string) bool {
	return c.filter == nil || c.filter.MatchType([]byte(name))
}

func (c *counter) matchTenant(name string) bool {
	return c.filter == nil || c.filter.MatchTenant([]byte(name))
}

// fill puts the counts into an Estimate.
func (c *counter) fill(est *Estimate) {
	r := c.sampled
	if r != nil {
		est.Sampled = r.read
	}
	totals := c.total.buckets(r.of(ofTotal))
	est.Total = Count{Precision: Exact}
	if len(totals) > 0 {
		est.Total = totals[0].Count
	}
	streams := map[string]Count{}
	for _, b := range c.byDim[byStream].buckets(r.of(byStream)) {
		streams[b.Name] = b.Count
	}
	for i := range est.Streams {
		est.Streams[i].Count = Count{Precision: Exact}
		if n, ok := streams[est.Streams[i].Stream]; ok {
			est.Streams[i].Count = n
		}
	}
	est.Days.Buckets = c.byDim[byDay].buckets(r.of(byDay))
	slices.SortFunc(est.Days.Buckets, func(a, b Bucket) int { return cmp.Compare(a.Name, b.Name) })
	est.Types = c.byDim[byType].breakdown(r.of(byType))
	est.Tenants = c.byDim[byTenant].breakdown(r.of(byTenant))
}

// tally counts by name.
type tally struct {
	limit int // names that are counted apart; 0: one
	cells map[string]*cell
	other cell // of unknown names, and those beyond the limit
}

// cell is a count: so many are sure, and at most so many more.
type cell struct{ sure, more uint64 }

func (c *cell) add(n uint64, sure bool) {
	if sure {
		c.sure += n
	} else {
		c.more += n
	}
}

func (t *tally) add(name string, n uint64, sure bool) {
	if n == 0 {
		return
	}
	if found := t.cells[name]; found != nil {
		found.add(n, sure)
		return
	}
	if t.cells == nil {
		t.cells = map[string]*cell{}
	}
	if len(t.cells) >= max(t.limit, 1) {
		t.other.add(n, sure)
		return
	}
	t.cells[name] = &cell{}
	t.cells[name].add(n, sure)
}

// addAll adds the counts of a summary, those that match and up to upper each.
func (t *tally) addAll(counts map[string]uint64, known bool, upper uint64, sure bool, match func(string) bool) {
	if !known {
		t.other.add(upper, false)
		return
	}
	for name, n := range counts {
		if match(name) {
			t.add(name, min(n, upper), sure)
		}
	}
}

// buckets gives all that is counted by name, the largest first. r says what a
// sample found; nil: none was taken.
func (t *tally) buckets(r *sampledDim) []Bucket {
	var out []Bucket
	for name, c := range t.cells {
		if n := r.count(name, *c); n.Events > 0 {
			out = append(out, Bucket{name, n})
		}
	}
	if r != nil {
		for name := range r.found { // names that no summary has
			if t.cells[name] == nil {
				if n := r.count(name, cell{more: math.MaxUint64}); n.Events > 0 {
					out = append(out, Bucket{name, n})
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b Bucket) int {
		return cmp.Or(cmp.Compare(b.Events, a.Events), cmp.Compare(a.Name, b.Name))
	})
	return out
}

func (t *tally) breakdown(r *sampledDim) Breakdown {
	all := t.buckets(r)
	b := Breakdown{Buckets: all[:min(len(all), MaxBuckets)]}
	rest := Count{Precision: Exact}
	for _, bucket := range all[len(b.Buckets):] {
		rest = rest.plus(bucket.Count)
	}
	if t.other.sure > 0 || t.other.more > 0 {
		n := Count{t.other.sure, Exact}
		if r == nil && t.other.more > 0 { // else they are among the sample's names
			n = Count{t.other.sure + t.other.more, AtMost}
		}
		rest = rest.plus(n)
	}
	if rest.Events > 0 {
		b.Other = &rest
	}
	return b
}

// plus adds two counts; the sum is as precise as the worse of them.
func (c Count) plus(o Count) Count {
	c.Events += o.Events
	if c.Precision == Exact || o.Precision == AtMost {
		c.Precision = o.Precision
	}
	return c
}

// dayOf gives the day of an ID.
func dayOf(id event.ID) string {
	if id.Ms > lastMs {
		return "after 9999"
	}
	return time.UnixMilli(int64(id.Ms)).UTC().Format(time.DateOnly)
}

// mappingDigest gives what archive.Summary.Mapping says of a mapping.
func mappingDigest(m event.Mapping) (string, error) {
	text, err := json.Marshal(m)
	if err != nil {
		return "", fmt.Errorf("encode envelope mapping: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8]), nil
}
