package rebuild

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
)

// journal is which chunks are loaded, and how many rows each of them gave. In
// JSON it is a text: for every chunk a varint, 0 where it is not loaded, else
// its rows plus one; and a run of chunks that are not loaded at the end is left
// out.
type journal struct {
	rows []uint64 // plus one
	done int
}

func newJournal(chunks int) *journal { return &journal{rows: make([]uint64, chunks)} }

// finish notes that a chunk is loaded.
func (j *journal) finish(chunk int, rows uint64) {
	if j.rows[chunk] == 0 {
		j.done++
	}
	j.rows[chunk] = rows + 1
}

// forget notes that a chunk is not loaded.
func (j *journal) forget(chunk int) {
	if j.rows[chunk] != 0 {
		j.done--
	}
	j.rows[chunk] = 0
}

// loaded returns how many rows a chunk gave; !ok while it is not loaded.
func (j *journal) loaded(chunk int) (rows uint64, ok bool) {
	if n := j.rows[chunk]; n > 0 {
		return n - 1, true
	}
	return 0, false
}

// total returns the rows of all chunks that are loaded.
func (j *journal) total() (n uint64) {
	for i := range j.rows {
		rows, _ := j.loaded(i)
		n += rows
	}
	return n
}

// encode returns the text.
func (j *journal) encode() string {
	end := len(j.rows)
	for end > 0 && j.rows[end-1] == 0 {
		end--
	}
	var b []byte
	for _, n := range j.rows[:end] {
		b = binary.AppendUvarint(b, n)
	}
	return base64.RawStdEncoding.EncodeToString(b)
}

// decodeJournal reads the text for a plan of so many chunks.
func decodeJournal(text string, chunks int) (*journal, error) {
	b, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("read the journal of chunks: %w", err)
	}
	j := newJournal(chunks)
	for i := 0; len(b) > 0; i++ {
		n, size := binary.Uvarint(b)
		if size <= 0 || i >= chunks {
			return nil, errors.New("read the journal of chunks: it is not one of this plan")
		}
		b = b[size:]
		if n > 0 {
			j.finish(i, n-1)
		}
	}
	return j, nil
}
