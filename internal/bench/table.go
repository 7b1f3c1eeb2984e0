package main

import (
	"fmt"
	"io"
	"strconv"
)

// table prints a Markdown table: what, value, unit, target.
type table struct{ out io.Writer }

func newTable(out io.Writer) table {
	fmt.Fprintf(out, "\n| %-48s | %12s | %-16s | %-10s |\n|---|---:|---|---|\n", "what", "measured", "unit", "target")
	return table{out}
}

func (t table) row(what, unit string, value float64, target string) {
	fmt.Fprintf(t.out, "| %-48s | %12s | %-16s | %-10s |\n", what, number(value), unit, target)
}

// number shows three significant digits.
func number(v float64) string {
	switch {
	case v >= 1e5:
		return fmt.Sprintf("%.0fk", v/1e3)
	case v >= 1e3:
		return fmt.Sprintf("%.0f", v)
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	default:
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
}
