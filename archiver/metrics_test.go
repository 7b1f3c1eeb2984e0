package archiver_test

import (
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/reservoirhq/reservoir/archiver"
	"github.com/reservoirhq/reservoir/internal/stack"
)

// TestMetricsOfBinaryNames: a stream's name may be any bytes, a label may not.
func TestMetricsOfBinaryNames(t *testing.T) {
	const name = "orders:\xff\xfe\n"
	h := newHarness(t, stack.RedisOptions{})
	h.add(t, name, 3)
	registry := prometheus.NewRegistry()
	a, err := archiver.New(h.client, h.archive(t), archiver.Options{Include: []string{"*"}}, slog.New(slog.DiscardHandler), registry)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.check(t, name)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "reservoir_archiver_lag_entries" {
			if got, want := f.GetMetric()[0].GetLabel()[0].GetValue(), `orders:\xff\xfe\n`; got != want {
				t.Errorf("label %q, want %q", got, want)
			}
			return
		}
	}
	t.Error("the lag is not shown")
}
