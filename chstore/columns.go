package chstore

import (
	"fmt"

	"github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/shopspring/decimal"
)

// maxSmall is how many digits a number of 64 bits has room for.
const maxSmall = 18

// decimal64 is a column of decimals of 64 bits. The client's own makes several big
// numbers of each of them.
type decimal64 struct {
	column.Interface // takes what is no decimal.Decimal, or has another exponent
	scale            int32
	values           proto.ColDecimal64
}

// faster returns a column that takes the same values in less time, if there is one.
func faster(c column.Interface) column.Interface {
	if d, ok := c.(*column.Decimal); ok && d.Precision() > 9 && d.Precision() <= maxSmall {
		return &decimal64{Interface: c, scale: int32(d.Scale())} //nolint:gosec // up to 18
	}
	return c
}

func (c *decimal64) Rows() int                   { return c.values.Rows() }
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
