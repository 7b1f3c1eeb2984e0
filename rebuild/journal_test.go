package rebuild

import (
	"testing"

	"pgregory.net/rapid"
)

func TestJournalIsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 200).Draw(t, "chunks")
		j, rows := newJournal(n), map[int]uint64{}
		for i := range n {
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0:
			case 1:
				j.finish(i, 5)
				j.forget(i)
			default:
				rows[i] = rapid.Uint64Range(0, 1<<40).Draw(t, "rows")
				j.finish(i, rows[i])
			}
		}
		got, err := decodeJournal(j.encode(), n)
		if err != nil {
			t.Fatal(err)
		}
		if got.done != len(rows) || j.done != len(rows) {
			t.Fatalf("%d chunks are loaded, want %d", got.done, len(rows))
		}
		for i := range n {
			want, loaded := rows[i]
			if r, ok := got.loaded(i); ok != loaded || r != want {
				t.Fatalf("chunk %d is %d, %t, want %d, %t", i, r, ok, want, loaded)
			}
		}
		if n > 0 && len(rows) > 0 {
			if _, err := decodeJournal(j.encode(), 0); err == nil {
				t.Fatal("the journal of another plan was read")
			}
		}
	})
}
