package archive

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/reservoirhq/reservoir/objectstore"
)

// hole looks for commits beyond the end of a log, up to which it was read. As
// commits are made one after the other and never deleted, one that is there
// while the one before it is not tells that the store has lost that one. It
// returns the number of the lost commit, and of one beyond it; 0 when there is
// no hole. A commit that has been made since is none.
func (a *Archive) hole(ctx context.Context, dir string, end uint64) (lost, beyond uint64, err error) {
	opts := objectstore.ListOptions{Delimited: true, After: dir + commitKey(end)}
	for info, err := range a.store.List(ctx, dir+logDir, opts) {
		if err != nil {
			return 0, 0, fmt.Errorf("list commits: %w", err)
		}
		n, ok := parseCommit(strings.TrimPrefix(info.Key, dir+logDir))
		if info.Prefix || !ok {
			continue
		}
		for ; end < n; end++ {
			_, err := a.store.Head(ctx, dir+commitKey(end+1))
			if errors.Is(err, objectstore.ErrNotFound) {
				return end + 1, n, nil
			}
			if err != nil {
				return 0, 0, fmt.Errorf("look for commit %d: %w", end+1, err)
			}
		}
	}
	return 0, 0, nil
}

// parseCommit reads the last element of a commit's key.
func parseCommit(element string) (uint64, bool) {
	digits, ok := strings.CutSuffix(element, commitExt)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil && n > 0 && len(digits) == 20
}

// checkWhole finds commits and incarnations that the log, which was read up to
// end, does not lead to.
func (v *incarnationCheck) checkWhole(ctx context.Context, end uint64) error {
	lost, beyond, err := v.a.hole(ctx, v.dir, end)
	if err != nil {
		return err
	}
	if lost > 0 {
		v.found(Problem, FindingLog, commitKey(lost), "the commit is missing, and the log goes on up to %d at least", beyond)
	}
	return nil
}

// whole refuses to collect garbage by a log that lacks commits: what the lost
// ones name would be taken for garbage.
func (g *collection) whole(ctx context.Context, v *view) error {
	end := uint64(0)
	if v.last != nil {
		end = v.last.Number
	}
	lost, beyond, err := g.a.hole(ctx, g.dir, end)
	if err == nil && lost > 0 {
		err = fmt.Errorf("commit %d of %s is missing, and the log goes on up to %d at least: %w", lost, g.dir, beyond, ErrDamaged)
	}
	return err
}
