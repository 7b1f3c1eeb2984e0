package rebuild_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/rebuild"
)

// A window that cuts a day in two is refused where rows are made of whole days.
func TestScopeOfRoundedTimes(t *testing.T) {
	k := newKitchen(t, false)
	daily := strings.Replace(revenueYAML, "name: revenue", "name: revenue_daily", 1)
	k.defs.put("revenue_daily", strings.Replace(daily, "scope: {tenant: tenant}", "scope: {time: day}", 1))
	k.defs.put("windowed", windowedYAML)
	k.must(k.publish(t.Context(), "shop:orders", 5000))
	k.archiveAll(1000)
	for _, name := range []string{"revenue_daily", "windowed"} {
		k.build(rebuild.Spec{Projection: name})
	}
	day := time.Unix(1_760_000_000, 0).UTC().Truncate(24 * time.Hour).Add(24 * time.Hour)
	for _, c := range []struct {
		name     string
		from, to time.Time
		refused  string
	}{
		{"revenue_daily", day, day.Add(24 * time.Hour), ""},
		{"revenue_daily", day, time.Time{}, ""},
		{"revenue_daily", day.Add(time.Hour), day.Add(24 * time.Hour), "whole days"},
		{"revenue_daily", day, day.Add(25 * time.Hour), "whole days"},
		{"windowed", day.Add(time.Hour), day.Add(25*time.Hour + time.Microsecond), ""},
	} {
		want := k.contents("revenue_daily")
		job, err := k.svc.Create(t.Context(), rebuild.Spec{Projection: c.name, Approval: projection.Automatic, Scope: rebuild.Scope{From: c.from, To: c.to}}, rebuild.CreateOptions{})
		if c.refused != "" {
			if !errors.Is(err, rebuild.ErrInvalid) || !strings.Contains(err.Error(), c.refused) {
				t.Errorf("%s from %s to %s: %v", c.name, c.from, c.to, err)
			}
			continue
		}
		k.must(err)
		k.run(job.ID)
		if got := k.contents("revenue_daily"); got != want {
			t.Errorf("%s from %s to %s: %s", c.name, c.from, c.to, firstDifference(c.name, got, want))
		}
	}
}
