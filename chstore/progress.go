package chstore

import (
	"context"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
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

// Kill kills the statements of the job that run and do what, and returns when they have
// ended: "" for all, "chunk/7" for the load of a chunk. That of a client that is gone
// runs on for seconds: whoever takes over a job kills first, then looks.
func (s *Store) Kill(ctx context.Context, what string) error {
	return s.exec(ctx, &statement{what: "kill", doing: "kill statements that may still run", text: s.killText(what)})
}

func (s *Store) killText(what string) string {
	return "KILL QUERY" + s.onCluster() + " WHERE " + s.mine(what) + " SYNC"
}
