// Package redisstream reads and writes Redis Streams; nothing else in Reservoir
// issues a stream command.
//
// Ordinary commands go through go-redis, which also knows where the master is
// (a single server, Sentinel, Cluster), TLS and ACL users. What carries entries
// goes over connections of the package's own, dialled with the same options,
// because a client library's types lose the order of fields and repeated names
// and cost ten times as much: a Reader parses replies in place, into the arena
// of an event.Batch, without a copy or an allocation per entry.
//
// Entries are read together with the stream's counters in one transaction, so
// that a Ledger can tell exactly how many entries were lost before they could
// be read. Redis 7.0 or later is required: older versions do not count.
//
// An ACL user needs +multi +exec +xrange +xinfo|stream to read, +scan to
// discover, +xgroup|setid +xgroup|create to mirror the head in a group, and
// +eval +evalsha +time +xinfo|groups +xpending +xtrim to trim; +select where the
// database is not 0. With +info a failover is told from a mere reconnection
// (see Snapshot.Epoch), and old servers are refused at once.
package redisstream
