package event

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
)

// Digest returns the SHA-256 of the event's fields, in hex. Two events have
// the same digest exactly when they have the same names and values in the same
// order; the ID is not part of it.
//
// What is hashed is the number of fields, then for each field, in order, the
// length of its name, its name, the length of its value and its value. Numbers
// are 8 bytes, big-endian; lengths count bytes.
func Digest(e *Event) string {
	h := sha256.New()
	var number [8]byte
	write := func(b []byte) {
		binary.BigEndian.PutUint64(number[:], uint64(len(b)))
		h.Write(number[:])
		h.Write(b)
	}
	binary.BigEndian.PutUint64(number[:], uint64(len(e.Fields)))
	h.Write(number[:])
	for i := range e.Fields {
		write(e.Fields[i].Name)
		write(e.Fields[i].Value)
	}
	return hex.EncodeToString(h.Sum(nil))
}
