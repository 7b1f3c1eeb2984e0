// Package consumer reads Redis Streams and calls handlers, once for every event:
// live events and those that a replay sends again.
//
// A Consumer is a name, some streams, a Mux of handlers and a Store. The Store
// keeps where the consumer is in each stream, in the database that the handlers
// write to, and both change in one transaction: SQLStore for PostgreSQL, MySQL and
// MariaDB, RedisStore for Redis. A handler that writes elsewhere gets each event
// at least once: see AtLeastOnce.
//
// Any number of processes may run a consumer of the same name. They share its
// streams, and each stream has one worker at a time, so that its events are
// handled in order. A worker has a lease with an epoch, which fences it: once
// another has taken its stream over, no transaction of the old one commits.
package consumer
