package parquet

import (
	"bytes"
	"fmt"

	pq "github.com/parquet-go/parquet-go"
)

// test is a condition on an envelope column that every wanted event meets. It
// lets rows be skipped without being put together.
type test struct {
	column int
	// may reports whether an event with that value can be wanted.
	may func(value []byte) bool
	// values are all that may accepts, when it is a list; nil otherwise. An
	// event without the attribute then is not wanted either.
	values [][]byte
}

// listTest returns the test that an attribute is one of values; !ok when the
// column could not tell.
func listTest(column int, values []string) (test, bool) {
	t := test{column: column}
	set := make(map[string]bool, len(values))
	for _, v := range values {
		// An event with such a value may have no value in the column.
		if v == "" || !storable([]byte(v), column) {
			return test{}, false
		}
		set[v] = true
		t.values = append(t.values, []byte(v))
	}
	t.may = func(value []byte) bool { return set[string(value)] }
	return t, len(values) > 0
}

// skipGroup reports whether the row group holds no event that passes all
// tests, as far as its statistics and bloom filters tell.
func (f *File) skipGroup(group int, tests []test) (bool, error) {
	for _, t := range tests {
		if t.values == nil {
			continue
		}
		if f.columnChunk(group, t.column).MetaData.Statistics.NullCount == f.groups[group].Rows {
			return true, nil
		}
		values := t.values
		if lower, upper, ok := f.bounds(group, t.column); ok {
			values = within(values, lower.ByteArray(), upper.ByteArray())
		}
		found, err := f.mayContain(group, t.column, values)
		if err != nil || !found {
			return !found, err
		}
	}
	return false, nil
}

func within(values [][]byte, lower, upper []byte) [][]byte {
	var out [][]byte
	for _, v := range values {
		if bytes.Compare(v, lower) >= 0 && bytes.Compare(v, upper) <= 0 {
			out = append(out, v)
		}
	}
	return out
}

// mayContain asks the column chunk's bloom filter, if it has one, for any of values.
func (f *File) mayContain(group, column int, values [][]byte) (bool, error) {
	if len(values) == 0 {
		return false, nil
	}
	meta := f.columnChunk(group, column).MetaData
	length := int64(meta.BloomFilterLength)
	if meta.BloomFilterOffset == 0 || length <= 0 || length > maxBloomBytes {
		return true, nil
	}
	w := window{file: &f.tail}
	if err := w.load(meta.BloomFilterOffset, meta.BloomFilterOffset+length); err != nil {
		return false, fmt.Errorf("read bloom filter of %s: %w", columnNames[column], err)
	}
	filter, err := f.chunk(group, column).BloomFilterFrom(&w)
	if err != nil {
		return false, fmt.Errorf("%w: bloom filter of %s: %w", ErrInvalid, columnNames[column], err)
	}
	for _, v := range values {
		ok, err := filter.Check(pq.ByteArrayValue(v))
		if err != nil {
			return false, fmt.Errorf("%w: bloom filter of %s: %w", ErrInvalid, columnNames[column], err)
		}
		if ok {
			return true, nil
		}
	}
	return false, nil
}

// maxBloomBytes is the largest bloom filter that is worth reading.
const maxBloomBytes = 4 << 20
