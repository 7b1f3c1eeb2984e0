package rebuild

import (
	"context"
	"fmt"
	"iter"
	"path"
	"strconv"
	"strings"
	"sync"

	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/projection"
)

// letterDir is where a job keeps its letters, among its files.
const letterDir = "letters/"

// letterBook is how many events were put aside, by the chunk or batch that they are of:
// what is put aside again counts once, whoever did it before. It is safe for concurrent
// use.
type letterBook struct {
	mu     sync.Mutex
	counts map[uint64]int
	total  uint64
}

// readLetterBook counts the letters that are kept below a prefix, of the numbers from
// first and below end.
func readLetterBook(ctx context.Context, files objectstore.Store, prefix string, first, end uint64) (*letterBook, error) {
	book := &letterBook{counts: map[uint64]int{}}
	for info, err := range files.List(ctx, prefix+letterDir, objectstore.ListOptions{}) {
		if err != nil {
			return nil, fmt.Errorf("look for dead letters: %w", err)
		}
		number, ok := letterNumber(info.Key)
		if !ok || number < first || number >= end {
			continue
		}
		var letters []Letter
		if err := readFile(ctx, files, info.Key, &letters); err != nil {
			return nil, fmt.Errorf("read the dead letters: %w", err)
		}
		book.put(number, len(letters))
	}
	return book, nil
}

// put notes how many letters a chunk or batch has, and returns how many there are of all.
func (b *letterBook) put(number uint64, letters int) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.total += uint64(letters) - uint64(b.counts[number]) //nolint:gosec // lengths
	b.counts[number] = letters
	return b.total
}

// letterNumber is of which chunk or batch the letters of a key are.
func letterNumber(key string) (uint64, bool) {
	name, ok := strings.CutSuffix(path.Base(key), ".json")
	number, err := strconv.ParseUint(name, 10, 64)
	return number, ok && err == nil
}

// dropLetters removes the letters of batches that were never announced: those that come in
// their place may be of other events.
func dropLetters(ctx context.Context, files objectstore.Store, prefix string, last, end uint64) error {
	for info, err := range files.List(ctx, prefix+letterDir, objectstore.ListOptions{}) {
		if err == nil {
			if number, ok := letterNumber(info.Key); !ok || number <= last || number >= end {
				continue
			}
			err = files.Delete(ctx, info.Key)
		}
		if err != nil {
			return fmt.Errorf("remove dead letters: %w", err)
		}
	}
	return nil
}

// liveLetters are the letters of a generation that is fed by projectors.
type liveLetters struct {
	files      objectstore.Store
	name       string
	generation uint64
	def        *projection.Definition
	book       *letterBook // nil until there are some
}

// liveLetters keeps the letters of a generation, within the limit that its definition has
// by now: that is no part of the digest, and whoever raises it wants the table to be fed.
func (s *Service) liveLetters(d *projection.Definition, g *projection.Generation) *liveLetters {
	if now, _, digest, err := s.definition(d.Name); err == nil && digest == g.Digest {
		d = now
	}
	return &liveLetters{files: s.opts.Objects, name: d.Name, generation: g.Generation, def: d}
}

func (l *liveLetters) prefix() string { return "definitions/" + l.name + "/" }

// settle forgets what was put aside after the last batch that was announced.
func (l *liveLetters) settle(ctx context.Context, batch uint64, pending *projection.Pending) error {
	if pending != nil {
		batch = pending.Batch
	}
	return dropLetters(ctx, l.files, l.prefix(), max(batch, numberBase(l.generation)), numberBase(l.generation+1))
}

// aside keeps letters, as far as the definition lets it for all batches of the generation.
func (l *liveLetters) aside(ctx context.Context, number uint64, letters []Letter) error {
	if l.book == nil {
		var err error
		if l.book, err = readLetterBook(ctx, l.files, l.prefix(), numberBase(l.generation), numberBase(l.generation+1)); err != nil {
			return err
		}
	}
	if err := allowed(l.def, l.book.put(number, len(letters)), letters); err != nil {
		return err
	}
	return putAnew(ctx, l.files, l.prefix()+letterKey(number), append([]Letter{}, letters...))
}

// readLetters gives the letters among a job's files.
func readLetters(ctx context.Context, files objectstore.Store) iter.Seq2[[]Letter, error] {
	return func(yield func([]Letter, error) bool) {
		for info, err := range files.List(ctx, letterDir, objectstore.ListOptions{}) {
			var letters []Letter
			if err == nil {
				err = readFile(ctx, files, info.Key, &letters)
			}
			if err != nil {
				yield(nil, fmt.Errorf("read the dead letters: %w", err))
				return
			}
			if !yield(letters, nil) {
				return
			}
		}
	}
}

// DeadLetters gives the events that a rebuild has put aside.
func (s *Service) DeadLetters(ctx context.Context, id string) iter.Seq2[*Letter, error] {
	return func(yield func(*Letter, error) bool) {
		for letters, err := range readLetters(ctx, s.opts.Jobs.Files(id)) {
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range letters {
				if !yield(&letters[i], nil) {
					return
				}
			}
		}
	}
}
