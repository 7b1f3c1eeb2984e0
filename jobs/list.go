package jobs

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/reservoirhq/reservoir/objectstore"
)

const (
	// endedPage is how many keys of ended jobs are held at once.
	endedPage = 1000
	// readers is how many documents are read at the same time.
	readers = 16
)

// List gives the jobs that q selects, newest first. Documents of ended jobs are
// read as they are given, a few ahead, and those that States, Kinds and the
// time rule out are not read at all, nor those that have not changed, by the ETags of
// the listing, since they were read for another list a while ago. It is no snapshot,
// but a job that is there all the time is given once.
//
// A job whose document cannot be used is given with nothing but its ID and
// Damaged set, if q selects by nothing but time.
func (s *Store) List(ctx context.Context, q Query) iter.Seq2[*Job, error] {
	return func(yield func(*Job, error) bool) {
		left := q.Limit
		give := func(j *Job) bool {
			left--
			return yield(j, nil) && left != 0
		}
		if err := s.list(ctx, &q, give); err != nil {
			yield(nil, fmt.Errorf("list jobs: %w", err))
		}
	}
}

func (s *Store) list(ctx context.Context, q *Query, give func(*Job) bool) error {
	var batch []entry
	done := false
	flush := func() error {
		found, err := s.readAll(ctx, batch)
		for i, j := range found {
			if q.Looked != nil {
				q.Looked(batch[i].id)
			}
			if done = j != nil && q.matches(j) && !give(j); done {
				return nil
			}
		}
		batch = batch[:0]
		return err
	}
	size := readers
	if q.Limit > 0 {
		size = min(size, q.Limit)
	}
	for e, err := range s.entries(ctx, q) {
		if err != nil {
			return err
		}
		if batch = append(batch, e); len(batch) < size {
			continue
		}
		if err := flush(); err != nil || done {
			return err
		}
	}
	return flush()
}

// readAll reads documents at the same time. Those of jobs that are gone are nil. With an
// error it gives those before the first one that could not be read.
func (s *Store) readAll(ctx context.Context, entries []entry) ([]*Job, error) {
	found, errs := make([]*Job, len(entries)), make([]error, len(entries))
	g, ctx := errgroup.WithContext(ctx)
	for i, e := range entries {
		g.Go(func() error {
			j, err := s.orNotFound(s.readListed(ctx, e))
			if errors.Is(err, ErrNotFound) {
				j, err = s.get(ctx, e.id) // moved to the ended ones meanwhile
			}
			if damaged := (*DocumentError)(nil); errors.As(err, &damaged) {
				j, err = &Job{ID: e.id, Damaged: err}, nil
			}
			if errors.Is(err, ErrNotFound) {
				j, err = nil, nil
			}
			found[i], errs[i] = j, err
			return err
		})
	}
	err := g.Wait()
	if first := slices.IndexFunc(errs, func(err error) bool { return err != nil }); first >= 0 {
		found = found[:first]
	}
	return found, err
}

// readListed reads a document unless it was read before, as it is by the listing.
func (s *Store) readListed(ctx context.Context, e entry) (*Job, error) {
	if j, ok := s.listed.Get(e.key); ok && e.etag != "" && bare(j.ETag) == bare(e.etag) {
		return j.clone(), nil
	}
	j, err := s.read(ctx, e.id, e.key)
	if err == nil && e.etag != "" && j.ETag != "" {
		s.listed.Put(e.key, j.clone(), j.size())
	}
	return j, err
}

// bare is an ETag without the quotes that not every service gives in listings.
func bare(etag string) string { return strings.Trim(etag, `"`) }

// size is about how many bytes of memory a job takes.
func (j *Job) size() int64 {
	const fixed, ofStream, ofEntry = 2 << 10, 256, 128
	n := fixed + len(j.Spec) + len(j.Checkpoint) + len(j.Reason) + len(j.StateReason) + ofStream*len(j.Progress.Streams)
	if j.LastError != nil {
		n += ofEntry + len(j.LastError.Message) + len(j.LastError.Remedy)
	}
	for i := range j.Log {
		n += ofEntry + len(j.Log[i].Message)
	}
	return int64(n)
}

// entries gives what is selected as far as keys tell, newest first: the active
// jobs, which are listed first so that none is missed that is moved meanwhile,
// merged with the ended ones.
func (s *Store) entries(ctx context.Context, q *Query) iter.Seq2[entry, error] {
	return func(yield func(entry, error) bool) {
		active, err := s.activeEntries(ctx, q)
		if err != nil {
			yield(entry{}, err)
			return
		}
		if q.ended() {
			for e, err := range s.endedEntries(ctx, q) {
				for err == nil && len(active) > 0 && active[0].id > e.id {
					if !yield(active[0], nil) {
						return
					}
					active = active[1:]
				}
				if err == nil && len(active) > 0 && active[0].id == e.id {
					active = active[1:]
				}
				if !yield(e, err) || err != nil {
					return
				}
			}
		}
		for _, e := range active {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// activeEntries gives the active jobs, newest first. There are as many in memory
// as there are jobs that have not ended.
func (s *Store) activeEntries(ctx context.Context, q *Query) ([]entry, error) {
	var found []entry
	for info, err := range s.objects.List(ctx, activeDir, objectstore.ListOptions{}) {
		if err != nil {
			return nil, err
		}
		if e := (entry{id: activeID(info.Key), key: info.Key, etag: info.ETag}); e.id != "" && q.wants(e) {
			found = append(found, e)
		}
	}
	slices.SortFunc(found, newestFirst)
	return found, nil
}

func newestFirst(a, b entry) int { return strings.Compare(b.id, a.id) }

// endedEntries gives the ended jobs, newest first, month by month.
func (s *Store) endedEntries(ctx context.Context, q *Query) iter.Seq2[entry, error] {
	return func(yield func(entry, error) bool) {
		months, err := s.months(ctx, q)
		if err != nil {
			yield(entry{}, err)
			return
		}
		for _, month := range months {
			rest := *q
			for more := true; more; {
				var page []entry
				page, more, err = s.endedEntriesOf(ctx, month, &rest)
				if err != nil {
					yield(entry{}, err)
					return
				}
				for _, e := range page {
					if !yield(e, nil) {
						return
					}
					rest.After = e.id
				}
			}
		}
	}
}

// months gives the prefixes of the months that can hold what is selected, the
// newest first.
func (s *Store) months(ctx context.Context, q *Query) ([]string, error) {
	var months []string
	for info, err := range s.objects.List(ctx, endedDir, objectstore.ListOptions{Delimited: true}) {
		if err != nil {
			return nil, err
		}
		month, err := time.Parse(monthLayout, strings.TrimSuffix(strings.TrimPrefix(info.Key, endedDir), "/"))
		if !info.Prefix || err != nil {
			continue // not ours
		}
		end := month.AddDate(0, 1, 0)
		switch {
		case q.After != "" && month.After(Created(q.After)),
			!q.Until.IsZero() && !month.Before(q.Until),
			!q.Since.IsZero() && !end.After(q.Since):
		default:
			months = append(months, info.Key)
		}
	}
	slices.Sort(months)
	slices.Reverse(months)
	return months, nil
}

// endedEntriesOf gives the newest selected jobs of a month, and whether there
// may be more. Listings go up and pages go down, so it takes all the month's keys
// from Since on, and holds a page or two of them.
func (s *Store) endedEntriesOf(ctx context.Context, month string, q *Query) (page []entry, more bool, err error) {
	for info, err := range s.objects.List(ctx, month, objectstore.ListOptions{After: month + oldestID(q.Since)}) {
		if err != nil {
			return nil, false, err
		}
		if e, ok := parseEnded(info.Key); ok && q.wants(e) {
			e.etag = info.ETag
			page = append(page, e)
		}
		if len(page) >= 2*endedPage {
			slices.SortFunc(page, newestFirst)
			page, more = page[:endedPage], true
		}
	}
	slices.SortFunc(page, newestFirst)
	if len(page) > endedPage {
		page, more = page[:endedPage], true
	}
	return page, more, nil
}
