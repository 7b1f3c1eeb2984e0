// Package migrations keeps what analysts find at ClickHouse beside the tables of
// projections: the history of jobs, and views over the archive where it lies.
//
// The tables are made by versioned migrations in SQL, which are part of the binary and
// which goose applies (Migrator.Up, Down, Status). What is in them is copied from the
// documents of jobs and the commit logs of the archive, which stay what counts
// (Migrator.SyncJobs, SyncArchive): a copy can be made again at any time, and copying
// what is there already changes nothing. Roles and policies are a step of their own
// (Roles), for whoever may do that.
//
// Everything may be done by several processes at once, and again after a crash: there
// is no lock, but every statement does nothing where its work is done already.
package migrations
