package chstore

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"
	"time"

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

// What is added by pointers, or is no text or time, is sent as the client sends it.
func TestTextsAndTimesAreAsTheClients(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text, moment := rapid.StringN(0, 40, 300), rapid.Int64Range(-1<<40, 1<<40)
		for typ, value := range map[column.Type]*rapid.Generator[any]{
			"String": rapid.OneOf(
				rapid.Map(text, func(s string) any { return s }), rapid.Map(text, func(s string) any { return &s }),
				rapid.Map(text, func(s string) any { b := []byte(s); return &b }), rapid.Map(text, func(s string) any { return []byte(s) }),
				rapid.SampledFrom([]any{nil, (*string)(nil), 5}),
			),
			"LowCardinality(String)": rapid.OneOf(
				rapid.Map(text, func(s string) any { return s }), rapid.Map(text, func(s string) any { return &s }),
				rapid.SampledFrom([]any{"", "few", "few texts", "few other texts", nil, (*string)(nil)}),
			),
			"DateTime64(3, 'UTC')": rapid.OneOf(
				rapid.Map(moment, func(n int64) any { return time.UnixMicro(n).UTC() }), rapid.Map(moment, func(n int64) any { at := time.UnixMicro(n); return &at }),
				rapid.SampledFrom([]any{nil, time.Time{}, (*time.Time)(nil), "2026-01-02 03:04:05", int64(5), 1.5}),
			),
		} {
			own, err := typ.Column("c", &column.ServerContext{})
			if err != nil {
				t.Fatal(err)
			}
			inner, err := typ.Column("c", &column.ServerContext{})
			if err != nil {
				t.Fatal(err)
			}
			fast := faster(inner)
			for _, v := range rapid.SliceOf(value).Draw(t, string(typ)) {
				if add, _ := fast.(pointedColumn).adder(v); add != nil && !reflect.ValueOf(v).IsNil() {
					add()
				} else if fastErr := fast.AppendRow(v); fastErr != nil {
					if ownErr := own.AppendRow(v); ownErr == nil {
						t.Fatalf("%v: %v", v, fastErr)
					}
					continue
				}
				if err := own.AppendRow(v); err != nil {
					t.Fatalf("%v is taken, and the client says: %v", v, err)
				}
			}
			var want, got proto.Buffer
			own.Encode(&want)
			fast.Encode(&got)
			if typ == lowTexts { // pointers are other texts to the client
				got, want = decodedTexts(t, &got, fast.Rows()), decodedTexts(t, &want, own.Rows())
			}
			if own.Rows() != fast.Rows() || !bytes.Equal(want.Buf, got.Buf) {
				t.Fatalf("%s: %d rows %x, want %d rows %x", typ, fast.Rows(), got.Buf, own.Rows(), want.Buf)
			}
		}
	})
}

// decodedTexts are the texts of a column of few texts that was sent.
func decodedTexts(t *rapid.T, sent *proto.Buffer, rows int) (texts proto.Buffer) {
	c, err := column.Type(lowTexts).Column("c", &column.ServerContext{})
	if err == nil && rows > 0 {
		err = c.Decode(proto.NewReader(bytes.NewReader(sent.Buf)), rows)
	}
	if err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		texts.PutString(c.Row(i, false).(string))
	}
	return texts
}

// What try refuses, AppendRow of what was made of it does not take; and what add adds is the same number.
func TestDecimalsByPointers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		inner, err := column.Type("Decimal(18, 2)").Column("d", &column.ServerContext{})
		if err != nil {
			t.Fatal(err)
		}
		c := faster(inner)
		d := decimal.New(rapid.Int64().Draw(t, "coefficient"), int32(rapid.IntRange(-20, 5).Draw(t, "exponent")))
		add, try := c.(pointedColumn).adder(&d)
		fits := d.Equal(d.Truncate(2)) && d.Abs().LessThan(decimal.New(1, 16))
		if err := try(); (err == nil) != fits {
			t.Fatalf("%s: %v", d, err)
		}
		if !fits {
			return
		}
		add()
		if got := int64(c.(*decimal64).values[0]); !decimal.New(got, -2).Equal(d) {
			t.Fatalf("%s is %d cents", d, got)
		}
	})
}

// Keys of few texts become wider as there are more of them.
func TestManyLowTexts(t *testing.T) {
	for _, texts := range []int{1, 254, 255, 256, 257, 65_535, 65_536, 70_000} {
		inner, err := column.Type(lowTexts).Column("c", &column.ServerContext{})
		if err != nil {
			t.Fatal(err)
		}
		low := faster(inner)
		for range 2 {
			low.Reset()
			for i := range texts + 10 {
				if err := low.AppendRow(fmt.Sprint(i % texts)); err != nil {
					t.Fatal(err)
				}
			}
			var sent proto.Buffer
			low.Encode(&sent)
			inner.Reset()
			if err := inner.Decode(proto.NewReader(bytes.NewReader(sent.Buf)), texts+10); err != nil {
				t.Fatal(err)
			}
			for i := range texts + 10 {
				if got := inner.Row(i, false); got != fmt.Sprint(i%texts) {
					t.Fatalf("of %d texts row %d is %v", texts, i, got)
				}
			}
		}
	}
}
