package parquet

import (
	"errors"
	"fmt"
	"io"
	"strconv"

	pq "github.com/parquet-go/parquet-go"

	"github.com/reservoirhq/reservoir/event"
)

// A batch that Read fills holds so many rows or bytes, whichever is reached
// first.
const (
	batchRows  = 1000
	batchBytes = 1 << 20
)

// maxGroupRead is the largest row group that is read at once, compressed. Larger
// ones, of large values, are read in steps, column by column: what they cost is
// the copying, and not the steps.
const maxGroupRead = 8 << 20

// Reader reads the events of a File in order. It holds at most one row group,
// compressed, and one page of each column. It is not safe for concurrent use.
type Reader struct {
	file  *File
	span  event.Range
	tests []test

	group      int // the next row group
	runs       []rows
	cursors    [numColumns]cursor
	row        int // in the row group
	plans      planCache
	times      timeCache
	active     [numColumns]bool    // columns that are read; the others stay where they are
	partial    bool                // not all of the row group is wanted
	uneven     [numColumns]*cursor // scratch of build
	generation uint64              // the batch that is being filled
	window     window
	sliding    [numColumns]slidingWindow
	pages      [numColumns]*pq.FileOffsetIndex // of the row group, if not all of it is wanted
	memory     *Memory
	err        error
}

// rows are the rows [from, to) of a row group.
type rows struct{ from, to int }

// Close frees what the Reader holds. It does not close the file.
func (r *Reader) Close() error {
	if r.err == nil {
		r.err = errors.New("parquet reader is closed")
	}
	r.memory.take(r)
	r.memory = nil
	r.window, r.sliding, r.cursors = window{}, [numColumns]slidingWindow{}, [numColumns]cursor{}
	return nil
}

// Read resets b and fills it with the next run of events, at least one and
// about 1000 or 1 MiB. It returns io.EOF after the last one, and only then.
// After another error the Reader is of no use; b may hold events then.
func (r *Reader) Read(b *event.Batch) (err error) {
	if r.err != nil {
		return r.err
	}
	defer func() { r.err = err }()
	defer recoverInvalid(&err)
	b.Reset()
	r.generation++
	for i := range r.cursors {
		r.cursors[i].copied = false
	}
	for b.Len() == 0 {
		if len(r.runs) == 0 {
			if err := r.nextGroup(); err != nil {
				return err
			}
			continue
		}
		if err := r.fill(b); err != nil {
			return err
		}
	}
	return nil
}

// fill adds events of the current row group to b.
func (r *Reader) fill(b *event.Batch) error {
	for len(r.runs) > 0 && b.Len() < batchRows && len(b.Buf) < batchBytes {
		run := &r.runs[0]
		if r.row < run.from {
			r.row = run.from
			for i := range r.cursors {
				if !r.active[i] {
					continue
				}
				if err := r.seek(i); err != nil {
					return err
				}
			}
		}
		for r.row < run.to && b.Len() < batchRows && len(b.Buf) < batchBytes {
			n, err := r.loaded()
			if err != nil {
				return err
			}
			if err := r.build(b, min(n, run.to-r.row, batchRows-b.Len())); err != nil {
				return err
			}
		}
		if r.row == run.to {
			r.runs = r.runs[1:]
		}
	}
	return nil
}

// loaded returns how many rows all cursors have in their pages, at least one.
func (r *Reader) loaded() (int, error) {
	n := batchRows
	for i := range r.cursors {
		c := &r.cursors[i]
		if !r.active[i] {
			continue
		}
		if err := c.load(); err != nil {
			return 0, err
		}
		n = min(n, c.page.rows-c.row)
	}
	return n, nil
}

// activate reads the columns that a plan needs, from the current row on.
func (r *Reader) activate(p *rowPlan) error {
	for _, column := range p.columns {
		if r.active[column] {
			continue
		}
		r.active[column] = true
		c := &r.cursors[column]
		if r.partial {
			if err := r.seek(column); err != nil {
				return err
			}
		} else if err := c.forward(r.row); err != nil {
			return err
		}
	}
	p.active = true
	return nil
}

// build puts up to n events together that are in the cursors' pages. They are fewer, maybe
// none, where one needs a column that was not read so far.
func (r *Reader) build(b *event.Batch, n int) error {
	ms, seq, layout := &r.cursors[colIDMs], &r.cursors[colIDSeq], &r.cursors[colLayout]
	uneven := r.uneven[:0]
	for i := range r.cursors {
		if c := &r.cursors[i]; c.uneven && r.active[i] {
			uneven = append(uneven, c)
		}
	}
	for k := range n {
		id := event.ID{Ms: uint64(ms.page.numbers[ms.at+k]), Seq: uint64(seq.page.numbers[seq.at+k])}
		plan, err := r.plans.get(layout, k)
		if err != nil {
			return fmt.Errorf("%w: event %s: %w", ErrInvalid, id, err)
		}
		if !plan.active {
			if k > 0 {
				n = k
				break
			}
			return r.activate(plan)
		}
		r.assemble(b, plan, id, k, n)
		for _, c := range uneven {
			c.next()
		}
	}
	for i := range r.cursors {
		c := &r.cursors[i]
		if !r.active[i] {
			continue
		}
		if !c.uneven {
			c.skip(n)
		}
		c.copied = c.copied && c.indexes != nil
	}
	r.row += n
	return nil
}

// assemble appends an event to b, the one k rows after the even cursors' and in
// the row of the uneven ones. It may copy values of up to n rows at once.
func (r *Reader) assemble(b *event.Batch, p *rowPlan, id event.ID, k, n int) {
	if p.generation != r.generation {
		p.generation = r.generation
		p.copyNames(b)
	}
	rest := &r.cursors[colRest]
	restAt := rest.at
	for i := range p.slots {
		s, span := &p.slots[i], &p.spans[i]
		restAt += s.skip
		c := &r.cursors[s.column]
		at := len(b.Buf)
		switch s.source {
		case fromText:
			c.place(b, span, c.at+k*c.stride, n-k)
			continue
		case fromRest:
			rest.place(b, span, restAt, n-k)
			restAt++
			continue
		case fromNumber:
			b.Buf = strconv.AppendInt(b.Buf, c.page.numbers[c.at+k*c.stride], 10)
		case fromTime:
			b.Buf = r.times.append(b.Buf, s.form, c.page.numbers[c.at+k*c.stride])
		case fromPayload:
			b.Buf = append(b.Buf, rest.texts.value(restAt)...)
			b.Buf = append(b.Buf, c.value(c.at+k*c.stride)...)
			b.Buf = append(b.Buf, rest.texts.value(restAt+1)...)
			restAt += 2
		}
		span.Value, span.ValueLen = uint32(at), uint32(len(b.Buf)-at)
	}
	b.AddSpans(id, p.spans)
}

// nextGroup opens the next row group that may hold wanted events; io.EOF when
// there is none.
func (r *Reader) nextGroup() error {
	for ; r.group < len(r.file.groups); r.group++ {
		runs, err := r.wanted(r.group)
		if err != nil {
			return err
		}
		if len(runs) == 0 {
			continue
		}
		if err := r.openGroup(runs); err != nil {
			return err
		}
		r.group++
		return nil
	}
	return io.EOF
}

// wanted returns the rows of a row group that may be wanted.
func (r *Reader) wanted(group int) ([]rows, error) {
	g := &r.file.groups[group]
	if !overlaps(r.span, g.MinMs, g.MaxMs) || g.Rows == 0 {
		return nil, nil
	}
	skip, err := r.file.skipGroup(group, r.tests)
	if skip || err != nil {
		return nil, err
	}
	whole := covers(r.span, g.MinMs, g.MaxMs)
	if len(r.tests) == 0 && whole {
		return []rows{{0, int(g.Rows)}}, nil
	}
	return r.scan(group, whole)
}

// scan looks at the columns that the tests are about and, unless the row group
// lies as a whole in the range, at every row's ID.
func (r *Reader) scan(group int, whole bool) (runs []rows, err error) {
	var columns []int
	for _, t := range r.tests {
		columns = append(columns, t.column)
	}
	if !whole {
		columns = append(columns, colIDMs, colIDSeq)
	}
	cursors := make([]cursor, len(columns))
	for i, column := range columns {
		if err := r.openColumn(&cursors[i], group, column); err != nil {
			return nil, err
		}
	}
	verdicts := make([]verdicts, len(r.tests))
	for row := range int(r.file.groups[group].Rows) {
		for i := range cursors {
			if err := cursors[i].load(); err != nil {
				return nil, err
			}
		}
		want := true
		for i := range r.tests {
			want = want && verdicts[i].passes(&r.tests[i], &cursors[i])
		}
		if !whole && want {
			ms, seq := &cursors[len(r.tests)], &cursors[len(r.tests)+1]
			want = r.span.Contains(event.ID{Ms: uint64(ms.page.numbers[ms.at]), Seq: uint64(seq.page.numbers[seq.at])})
		}
		for i := range cursors {
			cursors[i].next()
		}
		switch {
		case !want:
		case len(runs) > 0 && runs[len(runs)-1].to == row:
			runs[len(runs)-1].to = row + 1
		default:
			runs = append(runs, rows{row, row + 1})
		}
	}
	return runs, nil
}

// verdicts are a test's results for a dictionary's entries.
type verdicts struct {
	known []int8 // 0 not known yet, 1 passes, -1 does not
}

func (v *verdicts) passes(t *test, c *cursor) bool {
	if c.null() {
		return t.values == nil
	}
	if c.indexes == nil {
		return t.may(c.value(c.at))
	}
	if c.fresh {
		c.fresh, v.known = false, make([]int8, c.dictionary.len())
	}
	verdict := &v.known[c.indexes[c.at]]
	if *verdict == 0 {
		*verdict = -1
		if t.may(c.value(c.at)) {
			*verdict = 1
		}
	}
	return *verdict > 0
}

// extent returns where the column chunk lies in the file.
func (f *File) extent(group, column int) (from, to int64) {
	meta := &f.columnChunk(group, column).MetaData
	from = meta.DataPageOffset
	if d := meta.DictionaryPageOffset; d != 0 && d < from {
		from = d
	}
	return from, from + meta.TotalCompressedSize
}

// openColumn opens a cursor of its own on a column chunk, read in steps.
func (r *Reader) openColumn(c *cursor, group, column int) error {
	from, to := r.file.extent(group, column)
	w := &r.sliding[column]
	*w = slidingWindow{window: window{file: &r.file.tail, data: w.data[:0]}, end: to, step: stepBytes}
	if to-from <= stepBytes {
		if err := w.load(from, to); err != nil {
			return err
		}
	}
	c.open(w, column, from, to)
	return nil
}

// openGroup opens all columns of a row group.
func (r *Reader) openGroup(runs []rows) error {
	r.runs, r.row = runs, 0
	low, high := r.file.extent(r.group, 0)
	for column := range numColumns {
		from, to := r.file.extent(r.group, column)
		low, high = min(low, from), max(high, to)
	}
	sparse := isSparse(runs, int(r.file.groups[r.group].Rows))
	if !sparse && high-low <= maxGroupRead {
		r.window.file = &r.file.tail
		if err := r.window.load(low, high); err != nil {
			return fmt.Errorf("read row group: %w", err)
		}
		for column := range numColumns {
			from, to := r.file.extent(r.group, column)
			r.cursors[column].open(&r.window, column, from, to)
		}
	} else {
		for column := range numColumns {
			r.openSteps(column, sparse)
		}
	}
	r.partial = runs[0] != rows{0, int(r.file.groups[r.group].Rows)}
	if !r.partial {
		return nil
	}
	for column := range numColumns {
		// Where pages begin: mostly this is in the file's tail, in memory.
		index, err := r.file.chunk(r.group, column).OffsetIndexFrom(&r.file.tail)
		if err != nil {
			return fmt.Errorf("%w: offset index of %s: %w", ErrInvalid, columnNames[column], err)
		}
		r.pages[column] = index
	}
	return nil
}

// seek goes on to r.row in a column. It may read ahead up to the last page that
// this run needs, and such as later runs need that lie near.
func (r *Reader) seek(column int) error {
	c, pages := &r.cursors[column], r.pages[column]
	reach := int64(0)
	for i, run := range r.runs {
		first, last := pageOf(pages, run.from), pageOf(pages, run.to-1)
		if i > 0 && pages.Offset(first) > reach {
			break
		}
		if c.ahead = pages.Offset(last) + pages.CompressedPageSize(last); i == 0 {
			reach = pages.Offset(first) + sparseStepBytes
		}
		if c.ahead > reach {
			break
		}
	}
	return c.seek(r.row, pages)
}

// isSparse reports whether the rows lie in so few places of a row group that
// it is better to read pages than all of it.
func isSparse(runs []rows, all int) bool {
	const pageRows = 1000 // or so, in the columns that weigh most
	pages, next := 0, 0   // pages touched, the first page not counted yet
	for _, run := range runs {
		from, to := max(run.from/pageRows, next), (run.to-1)/pageRows+1
		if from < to {
			pages, next = pages+to-from, to
		}
	}
	return pages*pageRows*4 < all
}

func (r *Reader) openSteps(column int, sparse bool) {
	from, to := r.file.extent(r.group, column)
	w := &r.sliding[column]
	*w = slidingWindow{window: window{file: &r.file.tail, data: w.data[:0]}, end: to, step: stepBytes}
	if sparse {
		w.step = sparseStepBytes
	}
	r.cursors[column].open(w, column, from, to)
}
