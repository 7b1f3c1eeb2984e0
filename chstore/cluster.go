package chstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/reservoirhq/reservoir/internal/remedy"
)

// ErrMixed is wrapped when the servers of a cluster do not agree on which table is
// live.
var ErrMixed = errors.New("servers of the cluster hold different tables under the name")

// HostTable is a table as one server of the cluster has it.
type HostTable struct {
	Host string
	UUID string
	Mark Mark
}

// Hosts returns the table as each server has it that has one; without a cluster as the
// one server does.
func (s *Store) Hosts(ctx context.Context, table Table) ([]HostTable, error) {
	var hosts []HostTable
	err := s.query(ctx, &statement{what: "hosts", doing: "look at table " + table.Name + " on all servers", text: s.hostsText(table)}, func(rows driver.Rows) error {
		var h HostTable
		var comment string
		if err := rows.Scan(&h.Host, &h.UUID, &comment); err != nil {
			return err
		}
		h.Mark = ParseMark(comment)
		hosts = append(hosts, h)
		return nil
	})
	return hosts, err
}

func (s *Store) hostsText(table Table) string {
	from := "system.tables"
	if s.config.Cluster != "" {
		from = "clusterAllReplicas(" + Literal(s.config.Cluster) + ", system.tables)"
	}
	if table.Database == "" {
		table.Database = s.server.Database
	}
	return "SELECT concat(hostName(), ':', toString(tcpPort())) AS host, toString(uuid), comment FROM " + from +
		" WHERE database = " + Literal(table.Database) + " AND name = " + Literal(table.Name) + " ORDER BY host"
}

// settled waits until every server has the table with the mark under the name. A
// statement ON CLUSTER comes to each of them in its own time.
func (s *Store) settled(ctx context.Context, live Table, want Mark, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		hosts, err := s.Hosts(ctx, live)
		if err != nil {
			return err
		}
		var behind []string
		for _, h := range hosts {
			if h.Mark != want {
				behind = append(behind, h.Host)
			}
		}
		if len(behind) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return remedy.Wrap(fmt.Errorf("make %s live: %w: not on %s", want, ErrMixed, strings.Join(behind, ", ")),
				"Look at system.distributed_ddl_queue. When the statement is not waiting there any more, issue EXCHANGE TABLES without ON CLUSTER on the servers that are behind.")
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// SyncReplica waits until this server's replica of a table has all that the others have.
// It does nothing where tables are not replicated.
func (s *Store) SyncReplica(ctx context.Context, table Table) error {
	if !s.config.Replicated {
		return nil
	}
	return s.exec(ctx, &statement{what: "sync", doing: "synchronise the replicas of " + table.Name, text: s.syncText(table)})
}

func (s *Store) syncText(table Table) string {
	return "SYSTEM SYNC REPLICA" + s.onCluster() + " " + table.String()
}
