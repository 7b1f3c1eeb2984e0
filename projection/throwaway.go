package projection

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/reservoirhq/reservoir/chstore"
)

const (
	throwAwayPrefix = "_reservoir_test_"
	throwAwayTime   = "20060102t150405"
	throwAwayRole   = "test"
	// throwAwayLife is how long a throw-away table may be used, and leftAfter when it is
	// sure that nobody uses it any more.
	throwAwayLife = 12 * time.Hour
	leftAfter     = 2 * throwAwayLife
	// dropWithin is how long it may take to drop one when its user is gone.
	dropWithin = time.Minute
)

// InThrowAway makes an empty table of a definition under a name of its own, calls do with
// it, and drops it again: also when do fails, and when ctx ends. Rows do not expire in it.
// It may be used for twelve hours: then the context of do ends. What a process that died has
// left is dropped by DropLeft.
func (d *Definition) InThrowAway(ctx context.Context, db *chstore.Store, do func(context.Context, chstore.Table) error) (err error) {
	table := db.Table(throwAwayPrefix + time.Now().UTC().Format(throwAwayTime) + "_" + strings.ToLower(rand.Text()[:10]))
	spec := d.Table.Spec()
	spec.TTL = ""
	defer func() {
		drop, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropWithin)
		defer cancel()
		err = errors.Join(err, db.DropTable(drop, table))
	}()
	if err := db.CreateTable(ctx, table, spec, chstore.Mark{Projection: d.Name, Role: throwAwayRole}); err != nil {
		return err //nolint:wrapcheck // it says what
	}
	bounded, cancel := context.WithTimeout(ctx, throwAwayLife)
	defer cancel()
	return do(bounded, table)
}

// DropLeft drops those of some tables that InThrowAway has made a day or longer ago.
func DropLeft(ctx context.Context, db *chstore.Store, tables []chstore.Info) error {
	for _, t := range tables {
		rest, ours := strings.CutPrefix(t.Table.Name, throwAwayPrefix)
		made, _, _ := strings.Cut(rest, "_")
		when, err := time.Parse(throwAwayTime, made)
		if !ours || t.Mark.Role != throwAwayRole || err != nil || time.Since(when) < leftAfter {
			continue
		}
		if err := db.DropTable(ctx, t.Table); err != nil {
			return fmt.Errorf("drop a table that a trial has left: %w", err)
		}
	}
	return nil
}
