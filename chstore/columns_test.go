package chstore

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/shopspring/decimal"
	"pgregory.net/rapid"
)

// The faster column writes the bytes that the client's own writes, whatever values of
// a Decimal it is given.
func TestDecimalsAreAsTheClients(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		digits := rapid.IntRange(10, maxSmall).Draw(t, "digits")
		scale := rapid.IntRange(0, digits-9).Draw(t, "scale")
		typ := column.Type(fmt.Sprintf("Decimal(%d, %d)", digits, scale))
		own, err := typ.Column("d", &column.ServerContext{})
		if err != nil {
			t.Fatal(err)
		}
		inner, err := typ.Column("d", &column.ServerContext{})
		if err != nil {
			t.Fatal(err)
		}
		fast := faster(inner)
		if _, ok := fast.(*decimal64); !ok {
			t.Fatalf("%s is a %T", typ, fast)
		}
		const limit = 999_999_999
		for range rapid.IntRange(0, 20).Draw(t, "rows") {
			var v any = decimal.New(rapid.Int64Range(-limit, limit).Draw(t, "coefficient"), -int32(rapid.IntRange(0, scale).Draw(t, "exponent")))
			if rapid.Bool().Draw(t, "exact") {
				v = decimal.New(rapid.Int64Range(-limit, limit).Draw(t, "coefficient"), -int32(scale))
			} else if rapid.Bool().Draw(t, "text") {
				v = fmt.Sprint(v)
			}
			if ownErr, fastErr := own.AppendRow(v), fast.AppendRow(v); (ownErr == nil) != (fastErr == nil) {
				t.Fatalf("%v: %v, and %v", v, ownErr, fastErr)
			}
		}
		var want, got proto.Buffer
		own.Encode(&want)
		fast.Encode(&got)
		if own.Rows() != fast.Rows() || !bytes.Equal(want.Buf, got.Buf) {
			t.Fatalf("%d rows %x, want %d rows %x", fast.Rows(), got.Buf, own.Rows(), want.Buf)
		}
	})
}
