package chstore

import (
	"encoding/binary"
	"strings"

	"github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
)

// lowColumn is a column of type LowCardinality(String): the texts that there are, and of each
// row which of them it has. The server then need not find that out itself.
type lowColumn struct {
	column.Interface // says what it is; it has no rows
	texts            textColumn
	index            map[string]uint32
	recent           [256]recentText // by a hash
	keys             []byte          // width bytes each
	width            int
	rows             int
}

type recentText struct {
	text string
	key  uint32
	is   bool
}

// newLowColumn returns a column in the place of one of type LowCardinality(String).
func newLowColumn(c column.Interface) (column.Interface, error) {
	texts, err := column.Type("String").Column(c.Name(), &column.ServerContext{})
	if err != nil {
		return nil, err //nolint:wrapcheck // the caller names the column
	}
	low := &lowColumn{Interface: c, texts: textColumn{Interface: texts}, index: map[string]uint32{}}
	low.Reset()
	return low, nil
}

func (c *lowColumn) Rows() int { return c.rows }

func (c *lowColumn) size() int {
	const each = 64 // of an entry of the index
	return len(c.keys) + len(c.texts.encoded) + each*c.texts.rows
}

func (c *lowColumn) Reset() {
	clear(c.index)
	c.recent = [256]recentText{}
	c.texts.Reset()
	c.keys, c.width, c.rows = c.keys[:0], 1, 0
	c.texts.append("") // the first is the type's zero value
	c.index[""] = 0
}

// AppendRow adds a value of any type that the client takes for a String.
func (c *lowColumn) AppendRow(v any) error {
	switch v := v.(type) {
	case string:
		c.append(v)
		return nil
	case *string:
		if v != nil {
			c.append(*v)
			return nil
		}
	}
	text, err := c.texts.asText(v)
	if err != nil {
		return err
	}
	c.append(text)
	return nil
}

func (c *lowColumn) adder(from any) (add func(), try func() error) { //nolint:unparam // decimals have one
	p, ok := from.(*string)
	if !ok {
		return nil, nil
	}
	return func() { c.append(*p) }, nil
}

func (c *lowColumn) append(text string) {
	recent := &c.recent[hashText(text)]
	if !recent.is || recent.text != text {
		key, ok := c.index[text]
		if !ok {
			text = strings.Clone(text) // it may be a part of much more
			key = uint32(c.texts.rows) //nolint:gosec // fewer than rows
			c.texts.append(text)
			c.index[text] = key
			if c.texts.rows == 1<<8+1 || c.texts.rows == 1<<16+1 {
				c.widen()
			}
		}
		*recent = recentText{text, key, true}
	}
	c.addKey(recent.key)
	c.rows++
}

func (c *lowColumn) addKey(key uint32) {
	switch c.width {
	case 1:
		c.keys = append(c.keys, byte(key))
	case 2:
		c.keys = binary.LittleEndian.AppendUint16(c.keys, uint16(key)) //nolint:gosec // it fits
	default:
		c.keys = binary.LittleEndian.AppendUint32(c.keys, key)
	}
}

// widen makes room for larger keys.
func (c *lowColumn) widen() {
	before, width := c.keys, c.width
	c.keys, c.width = make([]byte, 0, 4*len(before)), 2*width
	for i := 0; i < len(before); i += width {
		key := uint32(before[i])
		if width > 1 {
			key = uint32(binary.LittleEndian.Uint16(before[i:]))
		}
		c.addKey(key)
	}
}

// hashText is one of 256 numbers, by the end of a text.
func hashText(s string) uint8 {
	h := uint64(len(s))
	if n := len(s); n >= 8 {
		s = s[n-8:]
		h ^= uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 | uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
	} else {
		for i := range n {
			h = h<<8 | uint64(s[i])
		}
	}
	return uint8(h * 0x9e3779b97f4a7c15 >> 56)
}

// WriteStatePrefix implements column.CustomSerialization: each block has its own texts.
func (c *lowColumn) WriteStatePrefix(buffer *proto.Buffer) error {
	const sharedDictionariesWithAdditionalKeys = 1
	buffer.PutUInt64(sharedDictionariesWithAdditionalKeys)
	return nil
}

// ReadStatePrefix implements column.CustomSerialization. Nothing is read.
func (c *lowColumn) ReadStatePrefix(*proto.Reader) error { return nil }

// Encode writes the texts and the keys.
func (c *lowColumn) Encode(buffer *proto.Buffer) {
	if c.rows == 0 {
		return
	}
	const hasAdditionalKeys, needsUpdate = 1 << 9, 1 << 10
	kind := map[int]uint64{1: 0, 2: 1, 4: 2}[c.width]
	buffer.PutUInt64(hasAdditionalKeys | needsUpdate | kind)
	buffer.PutInt64(int64(c.texts.rows))
	c.texts.Encode(buffer)
	buffer.PutInt64(int64(c.rows))
	buffer.Buf = append(buffer.Buf, c.keys...)
}
