package event

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
)

// Digest returns the SHA-256 of the event's fields, in hex. Two events have
// the same digest exactly when they have the same names and values in the same
// order; the ID is not part of it.
//
// What is hashed is the number of fields, then for each field, in order, the
// length of its name, its name, the length of its value and its value. Numbers
// are 8 bytes, big-endian; lengths count bytes.
func Digest(e *Event) string {
	d := NewDigester(len(e.Fields))
	for i := range e.Fields {
		d.text(e.Fields[i].Name)
		d.text(e.Fields[i].Value)
	}
	return d.Digest()
}

// Digester makes the Digest of an event that comes in pieces.
type Digester struct {
	hash   hash.Hash
	number [8]byte
}

// NewDigester begins the digest of an event with so many fields. For each of them, in
// order, Begin and Write take the name and then the value.
func NewDigester(fields int) *Digester {
	d := &Digester{hash: sha256.New()}
	d.Begin(fields)
	return d
}

// Begin begins a name or a value of so many bytes; Write takes them.
func (d *Digester) Begin(size int) {
	binary.BigEndian.PutUint64(d.number[:], uint64(size))
	d.hash.Write(d.number[:])
}

// Write implements io.Writer; it cannot fail.
func (d *Digester) Write(p []byte) (int, error) { return d.hash.Write(p) }

// Digest returns the digest, once all fields have been written.
func (d *Digester) Digest() string { return hex.EncodeToString(d.hash.Sum(nil)) }

func (d *Digester) text(b []byte) {
	d.Begin(len(b))
	d.hash.Write(b)
}
