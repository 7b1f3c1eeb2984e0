// Package chstore is everything that speaks to ClickHouse: it makes tables, loads
// chunks of events into them and proves that they are there, compares tables, and
// exchanges them under their readers. It decides nothing: what to load, in which
// order, and when to swap is the business of those who call it.
//
// Three ideas carry it. A chunk is one statement that makes one block, and every row
// remembers its chunk, so what was in doubt can be counted, deleted and loaded again
// (see Load). A table remembers in its comment which generation of what it is (see
// Mark), so a swap that may have happened can be looked at before it is issued. And
// every statement has a query ID that begins with its job, so that whatever a dead
// process left running can be found and killed (see Store.Kill).
package chstore
