package audit

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/reservoirhq/reservoir/objectstore"
)

// Query selects entries. Every field that is set narrows it; the zero value selects
// all.
type Query struct {
	Since, Until time.Time // begun at or after Since and before Until
	Who          string    // exactly
	Operation    string    // exactly
	// After goes on after the entry of that ID: the last one of the page before.
	After string
}

// List gives the entries that q selects, newest first. The IDs of one day are in
// memory at a time.
func (t *Trail) List(ctx context.Context, q Query) iter.Seq2[*Entry, error] {
	return func(yield func(*Entry, error) bool) {
		for day, err := range t.days(ctx) {
			if err != nil {
				yield(nil, err)
				return
			}
			if q.rulesOut(day) {
				continue
			}
			if !t.listDay(ctx, day, q, yield) {
				return
			}
		}
	}
}

func (t *Trail) listDay(ctx context.Context, day time.Time, q Query, yield func(*Entry, error) bool) bool {
	names, err := t.names(ctx, dayDir(day))
	if err != nil {
		yield(nil, err)
		return false
	}
	for _, name := range names {
		id, ok := strings.CutSuffix(name, ".json")
		if !ok || CheckID(id) != nil || !q.selectsID(id) {
			continue
		}
		e, err := t.get(ctx, id)
		if err != nil {
			yield(nil, err)
			return false
		}
		if q.selects(e) && !yield(e, nil) {
			return false
		}
	}
	return true
}

// days gives the days that have entries, the last one first.
func (t *Trail) days(ctx context.Context) iter.Seq2[time.Time, error] {
	return func(yield func(time.Time, error) bool) {
		years, err := t.names(ctx, dir)
		if err != nil {
			yield(time.Time{}, err)
			return
		}
		for _, year := range years {
			months, err := t.names(ctx, dir+year+"/")
			if err != nil {
				yield(time.Time{}, err)
				return
			}
			for _, month := range months {
				if !t.daysOf(ctx, year+"/"+month+"/", yield) {
					return
				}
			}
		}
	}
}

func (t *Trail) daysOf(ctx context.Context, month string, yield func(time.Time, error) bool) bool {
	days, err := t.names(ctx, dir+month)
	if err != nil {
		yield(time.Time{}, err)
		return false
	}
	for _, name := range days {
		day, err := time.Parse("2006/01/02", month+name)
		if err != nil {
			continue // not ours
		}
		if !yield(day, nil) {
			return false
		}
	}
	return true
}

// names gives what is directly below a prefix, the last one first.
func (t *Trail) names(ctx context.Context, prefix string) ([]string, error) {
	var names []string
	for info, err := range t.objects.List(ctx, prefix, objectstore.ListOptions{Delimited: true}) {
		if err != nil {
			return nil, fmt.Errorf("list the audit trail: %w", err)
		}
		names = append(names, strings.Trim(strings.TrimPrefix(info.Key, prefix), "/"))
	}
	slices.Sort(names)
	slices.Reverse(names)
	return names, nil
}

// rulesOut reports whether a day has nothing that is asked for.
func (q *Query) rulesOut(day time.Time) bool {
	next := day.AddDate(0, 0, 1)
	switch {
	case !q.Since.IsZero() && !next.After(q.Since):
		return true
	case !q.Until.IsZero() && !day.Before(q.Until):
		return true
	default:
		return q.After != "" && day.After(created(q.After))
	}
}

// selectsID goes by what an ID tells: the time, to the millisecond.
func (q *Query) selectsID(id string) bool {
	at := created(id)
	return (q.After == "" || id < q.After) &&
		(q.Since.IsZero() || !at.Before(q.Since.Truncate(time.Millisecond))) && (q.Until.IsZero() || at.Before(q.Until))
}

func (q *Query) selects(e *Entry) bool {
	return (q.Who == "" || e.Who == q.Who) && (q.Operation == "" || e.Operation == q.Operation)
}
