package demo

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/reservoirhq/reservoir/internal/stack"
)

// askEvery is how often an analyst asks.
const askEvery = 100 * time.Millisecond

// salesQuery is what an analyst asks: cents, for the comparison to be exact.
const salesQuery = "SELECT tenant, sum(orders), toInt64(sum(revenue) * 100) FROM revenue_by_day GROUP BY tenant"

// analyst asks ClickHouse about a table again and again, whatever is done to it.
type analyst struct {
	engine *stack.ClickHouse

	stop func()
	wg   sync.WaitGroup
	mu   sync.Mutex
	n    int
	bad  []string // answers that must not be
}

// begin asks until end.
func (a *analyst) begin(ctx context.Context) {
	ctx, a.stop = context.WithCancel(context.WithoutCancel(ctx))
	a.wg.Go(func() {
		tick := time.NewTicker(askEvery)
		defer tick.Stop()
		for {
			sales, err := a.sales(ctx)
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				a.count(err.Error())
			case len(sales) == 0:
				a.count("the table was empty")
			default:
				a.count("")
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
}

const mostBad = 3

func (a *analyst) count(bad string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case bad == "":
		a.n++
	case len(a.bad) < mostBad:
		a.bad = append(a.bad, "an analyst asked about revenue_by_day: "+bad)
	}
}

func (a *analyst) answered() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.n
}

// end stops asking, and gives what was wrong. It can be called more than once.
func (a *analyst) end() []string {
	if a.stop != nil {
		a.stop()
		a.wg.Wait()
	}
	return a.bad
}

// sales gives what each tenant has sold as the table has it.
func (a *analyst) sales(ctx context.Context) (map[string]Sales, error) {
	text, err := a.engine.Query(ctx, salesQuery)
	if err != nil {
		return nil, err
	}
	sales := map[string]Sales{}
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(cells) != 3 {
			return nil, fmt.Errorf("ClickHouse answered %q", line)
		}
		orders, err := strconv.ParseUint(cells[1], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("ClickHouse answered %q: %w", line, err)
		}
		cents, err := strconv.ParseInt(cells[2], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("ClickHouse answered %q: %w", line, err)
		}
		sales[cells[0]] = Sales{orders, cents}
	}
	return sales, nil
}

// number asks for one number.
func (a *analyst) number(ctx context.Context, query string) (uint64, error) {
	text, err := a.engine.Query(ctx, query)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(text), 10, 64)
}

// differences says where the tables are not what the books say.
func (a *analyst) differences(ctx context.Context, b *books) (found []string, err error) {
	table, err := a.sales(ctx)
	if err != nil {
		return nil, err
	}
	if sold := b.sales(); !maps.Equal(table, sold) {
		for _, tenant := range slices.Sorted(maps.Keys(sold)) {
			if table[tenant] != sold[tenant] {
				found = append(found, fmt.Sprintf("revenue_by_day: %s has %+v, and sold %+v", tenant, table[tenant], sold[tenant]))
			}
		}
	}
	orders, steps, spans := b.totals()
	for _, c := range []struct {
		what, query string
		want        uint64
	}{
		{"orders", "SELECT count() FROM orders FINAL", orders},
		{"order_timeline", "SELECT count() FROM order_timeline", steps},
		{"traces", "SELECT sum(span_count) FROM traces FINAL", spans},
	} {
		got, err := a.number(ctx, c.query)
		if err != nil {
			return nil, err
		}
		if got != c.want {
			found = append(found, fmt.Sprintf("%s: %d, and %d were published", c.what, got, c.want))
		}
	}
	return found, nil
}
