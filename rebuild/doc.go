// Package rebuild builds the tables of projections anew from the archive, beside
// the live ones and without pausing them, and swaps them in at an exact position;
// and it keeps them live.
//
// A rebuild is a job. It plans which segments it reads, loads them chunk by chunk
// into a shadow table, catches up with what has come since, verifies the table and
// compares it with the live one, waits for approval, takes the projection over
// from its projector, exchanges the tables, and gives it back. Every step can be
// done again after a crash: what was in doubt is looked at before it is repeated.
package rebuild
