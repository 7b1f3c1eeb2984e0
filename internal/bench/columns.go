package main

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// columnCosts are those of the Parquet writer and of its floor: the same
// columns written with the library alone.
type columnCosts struct {
	segmentCPU, floorCPU   float64 // ns/row
	segmentSize, floorSize float64 // B/row
	readerCPU              float64 // ns/row
}

// parquetColumns runs the benchmarks of package parquet on one core, and takes the
// best of the rounds: other work on the machine only adds to them.
func parquetColumns(ctx context.Context, rounds int) (columnCosts, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^Benchmark(Writer|Reader)$", "-cpu", "1", "-count", strconv.Itoa(rounds),
		"github.com/reservoirhq/reservoir/archive/parquet")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return columnCosts{}, fmt.Errorf("benchmarks of parquet: %w: %s", err, out)
	}
	metric := func(name, unit string) float64 {
		var values []float64
		pattern := regexp.MustCompile(`([0-9.]+) ` + regexp.QuoteMeta(unit))
		for line := range strings.Lines(string(out)) {
			if found := pattern.FindStringSubmatch(line); found != nil && strings.HasPrefix(line, "Benchmark"+name) {
				if v, err := strconv.ParseFloat(found[1], 64); err == nil {
					values = append(values, v)
				}
			}
		}
		if len(values) == 0 {
			return 0
		}
		return slices.Min(values)
	}
	return columnCosts{
		segmentCPU: metric("Writer/segment", "cpu-ns/row"), floorCPU: metric("Writer/floor", "cpu-ns/row"),
		segmentSize: metric("Writer/segment", "B/row"), floorSize: metric("Writer/floor", "B/row"),
		readerCPU: metric("Reader/segment", "cpu-ns/row"),
	}, nil
}
