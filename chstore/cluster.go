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

// HostTable is a table as one server of the cluster has it; all but Host is zero if it
// has none of that name.
type HostTable struct {
	Host string
	UUID string
	Mark Mark
}

// Hosts returns the table as each server of the cluster has it; without a cluster as the
// one server does. Servers that do not answer are an error.
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
	this := s.of(table, "name")
	// With a table that every server has, one that lacks ours is seen, too.
	return "SELECT concat(hostName(), ':', toString(tcpPort())) AS host, maxIf(toString(uuid), " + this + ") AS id, maxIf(comment, " + this + ") AS text FROM " + from +
		" WHERE " + this + " OR (database = 'system' AND name = 'one') GROUP BY host, serverUUID() ORDER BY host" // names may be the same
}

// settled waits until every server has the table with the mark under the name. A
// statement ON CLUSTER comes to each of them in its own time.
func (s *Store) settled(ctx context.Context, live Table, want Mark, within time.Duration) error {
	bounded, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	var behind []string
	for {
		hosts, err := s.Hosts(bounded, live)
		if err != nil && (len(behind) == 0 || bounded.Err() == nil || ctx.Err() != nil) {
			return err
		}
		if err == nil {
			if behind = lacking(hosts, want); len(behind) == 0 {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until %s is live on all servers: %w", want, ctx.Err())
		case <-bounded.Done():
			return remedy.Wrap(fmt.Errorf("make %s live: %w: not on %s", want, ErrMixed, strings.Join(behind, ", ")),
				"Look at system.distributed_ddl_queue. When the statement is not waiting there any more, issue EXCHANGE TABLES without ON CLUSTER on the servers that are behind.")
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// lacking names the servers whose table bears another mark, or that have none.
func lacking(hosts []HostTable, want Mark) []string {
	var names []string
	for _, h := range hosts {
		if h.Mark != want {
			names = append(names, h.Host)
		}
	}
	return names
}

// Synced waits until every replica has all parts of the table that bears a mark, whatever
// its name is: on a server without them, readers would see less after an exchange. Merges
// are not waited for. A replica that does not get there is ErrBusy. It does nothing where
// tables are not replicated.
func (s *Store) Synced(ctx context.Context, live Table, mark Mark) error {
	if !s.config.Replicated {
		return nil
	}
	table, err := s.Bearing(ctx, live.Database, mark)
	if err != nil {
		return err
	}
	info, err := s.Inspect(ctx, table)
	if err != nil || !strings.HasPrefix(info.Engine, "Replicated") { // made when tables were not
		return err
	}
	err = s.exec(ctx, &statement{what: "sync", doing: "wait for the replicas of " + table.Name, text: s.syncText(table)})
	var said *Error
	if errors.As(err, &said) && (said.Code == 159 || said.Code == 160) { // its time was up
		err = remedy.Wrap(fmt.Errorf("%w: a replica is behind, or down: %w", ErrBusy, err), "Start the replica, or take it out of the cluster: system.replicas and system.distributed_ddl_queue say which one it is.")
	}
	return err
}

func (s *Store) syncText(table Table) string {
	return "SYSTEM SYNC REPLICA" + s.onCluster() + " " + table.String() + " LIGHTWEIGHT"
}
