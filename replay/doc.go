// Package replay feeds an archived range of streams into a sink again: selected,
// transformed, at a chosen pace, held back while the target is behind. The
// events of a replay have one total order, a Position is a place in it, and a
// sink that keeps the Position of what it has written, atomically with it where
// it can, makes the replay exactly once across any crash.
package replay
