package chstore

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/reservoirhq/reservoir/internal/remedy"
)

// Running is a statement of the job that runs.
type Running struct {
	QueryID string
	Elapsed time.Duration
	Progress
	Memory int64 // bytes
}

// Running returns the statements of the job that run now and do what: "" for all, else
// as for Kill.
func (s *Store) Running(ctx context.Context, what string) ([]Running, error) {
	var list []Running
	err := s.query(ctx, &statement{
		what: "running", doing: "look for running statements",
		text: "SELECT query_id, elapsed, read_rows, read_bytes, written_rows, memory_usage FROM " + s.processes() +
			" WHERE " + s.mine(what) + " ORDER BY query_id",
	}, func(rows driver.Rows) error {
		var r Running
		var seconds float64
		if err := rows.Scan(&r.QueryID, &seconds, &r.ReadRows, &r.ReadBytes, &r.WrittenRows, &r.Memory); err != nil {
			return err
		}
		r.Elapsed = time.Duration(seconds * float64(time.Second))
		list = append(list, r)
		return nil
	})
	return list, err
}

// processes is where the statements of all servers are listed.
func (s *Store) processes() string {
	if s.config.Cluster == "" {
		return "system.processes"
	}
	return "clusterAllReplicas(" + Literal(s.config.Cluster) + ", system.processes)"
}

// mine is the condition for statements of the job, but for those that look for some.
func (s *Store) mine(what string) string {
	return "startsWith(query_id, " + Literal(s.prefix(what)) + ") AND NOT startsWith(query_id, " + Literal(s.prefix("running")) +
		") AND NOT startsWith(query_id, " + Literal(s.prefix("kill")) + ")"
}

// killWithin is how long a statement may go on that was killed: ClickHouse looks between
// blocks, and at some waits not at all.
const killWithin = 30 * time.Second

// killEvery is how often it is looked at what was killed, at first and after a while.
const (
	killEvery = 10 * time.Millisecond
	killMost  = 300 * time.Millisecond
)

// Kill kills the statements of the job that run and do what, and returns when they have
// ended: "" for all, "chunk/7" for the load of a chunk. What begins meanwhile is left
// alone. That of a client that is gone runs on for seconds: whoever takes over a job kills
// first, then looks. A statement that does not end within half a minute is ErrBusy, and
// named: then it may still have its effect, and to call Kill again waits on.
func (s *Store) Kill(ctx context.Context, what string) error { return s.kill(ctx, what, killWithin) }

func (s *Store) kill(ctx context.Context, what string, within time.Duration) error {
	began := time.Now()
	condition := s.mine(what)
	var left []Running
	for delay := killEvery; ; delay = min(2*delay, killMost) {
		if err := s.exec(ctx, &statement{what: "kill", doing: "kill statements that may still run", text: s.killText(condition)}); err != nil {
			return err
		}
		now, err := s.Running(ctx, what)
		if err != nil {
			return err
		}
		if delay == killEvery {
			left = now
		} else { // what has come since is not waited for
			left = slices.DeleteFunc(now, func(r Running) bool {
				return !slices.ContainsFunc(left, func(l Running) bool { return l.QueryID == r.QueryID })
			})
		}
		if len(left) == 0 {
			return nil
		}
		// Again, for what came between the kill and the look after it, and nothing else: what
		// came later may be of one who has taken this one's place.
		condition = "query_id IN (" + queryIDs(left) + ")"
		if time.Since(began) > within {
			return stubborn(left, within)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for statements that were killed: %w", ctx.Err())
		case <-time.After(delay):
		}
	}
}

// stubborn names statements that do not end.
func stubborn(left []Running, within time.Duration) error {
	return remedy.Wrapf(fmt.Errorf("statement %s runs for %v by now, and did not end within %v after it was killed (%d of them): %w",
		left[0].QueryID, left[0].Elapsed.Round(time.Millisecond), within, len(left), ErrBusy),
		"Look for it in system.processes. What cannot be killed ends when that server is started again.")
}

func (s *Store) killText(condition string) string {
	return "KILL QUERY" + s.onCluster() + " WHERE " + condition + " ASYNC"
}

// queryIDs lists statements as literals.
func queryIDs(list []Running) string {
	ids := make([]string, len(list))
	for i := range list {
		ids[i] = Literal(list[i].QueryID)
	}
	return strings.Join(ids, ", ")
}
