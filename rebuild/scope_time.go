package rebuild

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/projection"
)

// rounded refuses a time window whose ends lie within what a rounded column makes one
// value of: such rows are made of events within and outside of the window. The column
// is taken for rounded when all values of the live table are.
func (s *Service) rounded(ctx context.Context, scope *Scope, d *projection.Definition) error {
	var ends []string
	for _, end := range []time.Time{scope.From, scope.To} {
		if !end.IsZero() {
			ends = append(ends, fmt.Sprintf("fromUnixTimestamp64Micro(%d, 'UTC')", end.UnixMicro()))
		}
	}
	if len(ends) == 0 {
		return nil
	}
	// The largest first: it tells people most.
	units := []struct{ name, function string }{
		{"years", "toStartOfYear"}, {"quarters", "toStartOfQuarter"}, {"months", "toStartOfMonth"}, {"weeks", "toMonday"}, {"days", "toStartOfDay"},
		{"hours", "toStartOfHour"}, {"quarters of an hour", "toStartOfFifteenMinutes"}, {"ten minutes", "toStartOfTenMinutes"},
		{"five minutes", "toStartOfFiveMinutes"}, {"minutes", "toStartOfMinute"}, {"seconds", "toStartOfSecond"},
	}
	var columns []string
	for _, u := range units {
		cut := func(x string) string { return "toDateTime64(" + u.function + "(" + x + "), 6, 'UTC') != " + x }
		var torn []string
		for _, end := range ends {
			torn = append(torn, cut(end))
		}
		columns = append(columns, "count() > 0 AND countIf("+cut("c")+") = 0 AND ("+strings.Join(torn, " OR ")+")")
	}
	text := "SELECT [" + strings.Join(columns, ", ") + "] FROM (SELECT assumeNotNull(toDateTime64(" + chstore.Identifier(d.Scope.Time) + ", 6, 'UTC')) AS c FROM " +
		s.opts.ClickHouse.Table(d.Table.Name).String() + " WHERE " + chstore.Identifier(d.Scope.Time) + " IS NOT NULL)"
	rows, err := s.opts.ClickHouse.Query(ctx, text, 1)
	if err != nil {
		return fmt.Errorf("look at the times of %s: %w", d.Name, err)
	}
	var torn []json.Number
	if err := json.Unmarshal(rows.Rows[0][0], &torn); err != nil {
		return fmt.Errorf("look at the times of %s: %w", d.Name, err)
	}
	for i, u := range units {
		if torn[i] != "0" {
			return remedy.Wrapf(fmt.Errorf("%w: column %s of %s holds whole %s, and the time window of the scope does not", ErrInvalid, d.Scope.Time, d.Name, u.name),
				"Begin and end the window at whole %s (UTC).", u.name)
		}
	}
	return nil
}
