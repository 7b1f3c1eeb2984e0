// Package jobs keeps long-running work — replays, rebuilds — as documents on the
// object store, and runs it: any number of workers in any number of processes
// share it, and whatever dies, another worker takes over. A document is changed
// only by conditional writes, so two workers never both hold a job; a worker
// that lost its job learns so from its next write, and what it does meanwhile is
// fenced by the job's epoch, which every acquisition counts up.
//
// The package knows nothing of what a job does but its kind, its JSON spec and
// an Engine that runs it.
package jobs
