// Package e2e holds proofs about the whole program: the real process against a
// real Redis and a real S3 server, killed, cut off, stopped and given nonsense,
// and its archive compared with an independent record of what was added. It has
// tests only.
package e2e
