package chstore

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/shopspring/decimal"
)

// pointedColumn is a column that adds the value that a pointer of some type points to, without
// looking at what it is each time.
type pointedColumn interface {
	// adder returns what adds the value, and what says whether that can be done; nil: always.
	// It is nil for pointers of other types.
	adder(from any) (add func(), try func() error)
}

// sizedColumn is a column that knows about how many bytes it takes.
type sizedColumn interface{ size() int }

// lowTexts is a type that takes texts, and that the server keeps as few texts.
const lowTexts = "LowCardinality(String)"

// faster returns a column that takes the same values in less time, if there is one.
func faster(c column.Interface) column.Interface {
	if c.Type() == lowTexts {
		if low, err := newLowColumn(c); err == nil {
			return low
		}
	}
	switch c := c.(type) {
	case *column.String:
		return &textColumn{Interface: c}
	case *column.DateTime64:
		if precision, ok := precisionOf(c.Type()); ok {
			t := &timeColumn{Interface: c}
			t.values.WithPrecision(precision)
			return t
		}
	case *column.Decimal:
		if c.Precision() > 9 && c.Precision() <= maxSmall {
			return &decimal64{Interface: c, precision: int(c.Precision()), scale: int32(c.Scale())} //nolint:gosec // up to 18
		}
	}
	return c
}

// textColumn is a column of texts, which are kept as they are sent. The client's own writes
// all of them anew for that.
type textColumn struct {
	column.Interface // takes what is no text
	encoded          []byte
	rows             int
}

func (c *textColumn) Rows() int                   { return c.rows }
func (c *textColumn) size() int                   { return len(c.encoded) }
func (c *textColumn) Encode(buffer *proto.Buffer) { buffer.Buf = append(buffer.Buf, c.encoded...) }

func (c *textColumn) Reset() {
	c.encoded, c.rows = c.encoded[:0], 0
	c.Interface.Reset()
}

func (c *textColumn) append(text string) {
	c.encoded = binary.AppendUvarint(c.encoded, uint64(len(text)))
	c.encoded = append(c.encoded, text...)
	c.rows++
}

// AppendRow adds a value of any type that the client takes for a String.
func (c *textColumn) AppendRow(v any) error {
	switch v := v.(type) {
	case string:
		c.append(v)
		return nil
	case *string:
		if v != nil {
			c.append(*v)
			return nil
		}
	case *[]byte:
		if v != nil {
			c.encoded = append(binary.AppendUvarint(c.encoded, uint64(len(*v))), *v...)
			c.rows++
			return nil
		}
	}
	text, err := c.asText(v)
	if err != nil {
		return err
	}
	c.append(text)
	return nil
}

// asText gives a value as the client sends it.
func (c *textColumn) asText(v any) (string, error) {
	c.Interface.Reset()
	if err := c.Interface.AppendRow(v); err != nil {
		return "", err //nolint:wrapcheck // the caller names the column
	}
	text, ok := c.Row(0, false).(string)
	if !ok {
		return "", fmt.Errorf("%v is no text", v)
	}
	return text, nil
}

func (c *textColumn) adder(from any) (add func(), try func() error) { //nolint:unparam // decimals have one
	p, ok := from.(*string)
	if !ok {
		return nil, nil
	}
	return func() { c.append(*p) }, nil
}

// timeColumn is a column of times.
type timeColumn struct {
	column.Interface // takes what is no time
	values           proto.ColDateTime64
}

// precisionOf is how many digits after the seconds a type has, such as DateTime64(3, 'UTC').
func precisionOf(typ column.Type) (proto.Precision, bool) {
	rest, ok := strings.CutPrefix(string(typ), "DateTime64(")
	if !ok || rest == "" || rest[0] < '0' || rest[0] > '9' {
		return 0, false
	}
	return proto.Precision(rest[0] - '0'), true
}

func (c *timeColumn) Rows() int                   { return c.values.Rows() }
func (c *timeColumn) size() int                   { return 8 * c.values.Rows() }
func (c *timeColumn) Encode(buffer *proto.Buffer) { c.values.EncodeColumn(buffer) }

func (c *timeColumn) Reset() {
	c.values.Reset()
	c.Interface.Reset()
}

// AppendRow adds a value of any type that the client takes for a DateTime64.
func (c *timeColumn) AppendRow(v any) error {
	switch v := v.(type) {
	case time.Time:
		c.values.Append(v)
		return nil
	case *time.Time:
		if v != nil {
			c.values.Append(*v)
			return nil
		}
	}
	c.Interface.Reset()
	if err := c.Interface.AppendRow(v); err != nil {
		return err //nolint:wrapcheck // the caller names the column
	}
	t, ok := c.Row(0, false).(time.Time)
	if !ok {
		return fmt.Errorf("%v is no time", v)
	}
	c.values.Append(t)
	return nil
}

func (c *timeColumn) adder(from any) (add func(), try func() error) { //nolint:unparam // decimals have one
	p, ok := from.(*time.Time)
	if !ok {
		return nil, nil
	}
	return func() { c.values.Append(*p) }, nil
}

// maxSmall is how many digits a number of 64 bits has room for.
const maxSmall = 18

// decimal64 is a column of decimals of 64 bits. The client's own makes several big
// numbers of each of them.
type decimal64 struct {
	column.Interface // takes what is no decimal.Decimal, or has another exponent
	precision        int
	scale            int32
	values           proto.ColDecimal64
}

func (c *decimal64) Rows() int                   { return c.values.Rows() }
func (c *decimal64) size() int                   { return 8 * c.values.Rows() }
func (c *decimal64) Encode(buffer *proto.Buffer) { c.values.EncodeColumn(buffer) }

func (c *decimal64) Reset() {
	c.values.Reset()
	c.Interface.Reset()
}

// AppendRow adds a value of any type that the client takes for a Decimal.
func (c *decimal64) AppendRow(v any) error {
	d, ok := v.(decimal.Decimal)
	if !ok || d.Exponent() != -c.scale {
		c.Interface.Reset()
		if err := c.Interface.AppendRow(v); err != nil {
			return err //nolint:wrapcheck // the caller names the column
		}
		if d, ok = c.Row(0, false).(decimal.Decimal); !ok || d.Exponent() != -c.scale {
			return fmt.Errorf("%v is no decimal with %d digits after the point", v, c.scale)
		}
	}
	if d.NumDigits() > maxSmall {
		return fmt.Errorf("%s has more than %d digits", d, maxSmall)
	}
	c.values.Append(proto.Decimal64(d.CoefficientInt64()))
	return nil
}

func (c *decimal64) adder(from any) (add func(), try func() error) {
	p, ok := from.(*decimal.Decimal)
	if !ok {
		return nil, nil
	}
	return func() {
			d := *p
			if d.Exponent() != -c.scale {
				d = d.Truncate(c.scale) // nothing is cut off, as was tried
				d = d.Add(decimal.New(0, -c.scale))
			}
			c.values.Append(proto.Decimal64(d.CoefficientInt64()))
		}, func() error {
			d := *p
			if d.Exponent() == -c.scale && d.NumDigits() <= c.precision { // as most are
				return nil
			}
			if !d.Equal(d.Truncate(c.scale)) || d.Abs().Cmp(decimal.New(1, int32(c.precision)-c.scale)) >= 0 { //nolint:gosec // up to 18
				return fmt.Errorf("%.60s does not fit Decimal(%d, %d): it has too many digits", d, c.precision, c.scale)
			}
			return nil
		}
}
