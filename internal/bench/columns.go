package main

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
)

// columnCosts are those of the Parquet writer and of its floor: the same
// columns written with the library alone.
type columnCosts struct {
	segmentCPU, floorCPU   float64 // ns/row
	segmentSize, floorSize float64 // B/row
}

// parquetWriter runs the benchmark of package parquet.
func parquetWriter(ctx context.Context, rounds int) (columnCosts, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^BenchmarkWriter$", "-count", strconv.Itoa(rounds),
		"github.com/reservoirhq/reservoir/archive/parquet")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return columnCosts{}, fmt.Errorf("benchmark of the parquet writer: %w: %s", err, out)
	}
	metric := func(name, unit string) float64 {
		var values []float64
		pattern := regexp.MustCompile(`([0-9.]+) ` + regexp.QuoteMeta(unit))
		for line := range strings.Lines(string(out)) {
			if found := pattern.FindStringSubmatch(line); found != nil && strings.HasPrefix(line, "BenchmarkWriter/"+name) {
				if v, err := strconv.ParseFloat(found[1], 64); err == nil {
					values = append(values, v)
				}
			}
		}
		return median(values)
	}
	return columnCosts{
		segmentCPU: metric("segment", "cpu-ns/row"), floorCPU: metric("floor", "cpu-ns/row"),
		segmentSize: metric("segment", "B/row"), floorSize: metric("floor", "B/row"),
	}, nil
}
