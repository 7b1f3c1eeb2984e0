package projection

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/shopspring/decimal"
)

// converter makes what the client takes for a column of what people give. It is total
// when the column takes whatever comes out of it.
type converter struct {
	convert func(any) (any, error)
	total   bool
}

// newConverter returns the converter of a type.
func newConverter(text string) (converter, error) {
	t := parseType(text)
	if c, ok := scalar(t.name); ok {
		return c, nil
	}
	switch t.name {
	case "Enum8", "Enum16":
		return enums(t.args), nil
	case "LowCardinality", "SimpleAggregateFunction":
		return newConverter(bareType(text))
	case "Nullable":
		inner, err := newConverter(strings.Join(t.args, ", "))
		return nullable(inner), err
	case "Array":
		inner, err := newConverter(strings.Join(t.args, ", "))
		return arrays(inner), err
	case "Tuple":
		return tuples(t.args)
	case "Nested":
		inner, err := tuples(t.args)
		return arrays(inner), err
	case "Map":
		return mapsOf(t.args)
	case "Decimal", "Decimal32", "Decimal64", "Decimal128", "Decimal256":
		return decimals(t)
	case "AggregateFunction":
		return converter{}, fmt.Errorf("there are no values of %s in Go", text)
	default:
		return converter{convert: func(v any) (any, error) { return v, nil }}, nil
	}
}

// scalar returns the converter of a type without others in it.
func scalar(name string) (converter, bool) {
	if f, ok := integers(name); ok {
		return converter{f, true}, true
	}
	switch name {
	case "Float32":
		return converter{func(v any) (any, error) { f, err := float(v); return float32(f), err }, true}, true
	case "Float64":
		return converter{func(v any) (any, error) { return float(v) }, true}, true
	case "Bool":
		return converter{func(v any) (any, error) { return typed[bool](v, name) }, true}, true
	case "String":
		return converter{func(v any) (any, error) { return text(v) }, true}, true
	case "FixedString", "UUID", "IPv4", "IPv6":
		return texts(map[string]string{"UUID": "00000000-0000-0000-0000-000000000000", "IPv4": "0.0.0.0", "IPv6": "::"}[name]), true
	case "Date", "Date32", "DateTime", "DateTime64":
		return converter{convert: func(v any) (any, error) {
			if v == nil {
				return time.Unix(0, 0).UTC(), nil
			}
			return typed[time.Time](v, name)
		}, total: true}, true
	default:
		return converter{}, false
	}
}

// texts returns the converter of a type whose values are given as texts.
func texts(zero string) converter {
	return converter{convert: func(v any) (any, error) {
		if v == nil {
			return zero, nil
		}
		return text(v)
	}}
}

// enums returns the converter of an Enum: its zero value is the element with the
// lowest number, as ClickHouse has it.
func enums(elements []string) converter {
	zero, lowest := "", int64(math.MaxInt64)
	for i, text := range elements {
		name, digits := text, ""
		if at := strings.LastIndexByte(text, '='); at >= 0 && strings.LastIndexByte(text, '\'') < at {
			name, digits = strings.TrimSpace(text[:at]), strings.TrimSpace(text[at+1:])
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil {
			n = int64(i) + 1 // where numbers are left out they count from 1
		}
		if n < lowest {
			zero, lowest = strings.NewReplacer(`\\`, `\`, `\'`, `'`).Replace(strings.Trim(name, "'")), n
		}
	}
	return texts(zero)
}

// typed gives a value its type back; nil is the zero value.
func typed[T any](v any, name string) (T, error) {
	t, ok := v.(T)
	if !ok && v != nil {
		return t, fmt.Errorf("want a %T for %s, not %s", t, name, shownValue(v))
	}
	return t, nil
}

// shownValue shows a value in an error, in few bytes.
func shownValue(v any) string { return fmt.Sprintf("%.60q (%T)", fmt.Sprint(v), v) }

func text(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	case []byte:
		return string(v), nil
	}
	if r := reflect.ValueOf(v); r.Kind() == reflect.String {
		return r.String(), nil
	}
	return "", fmt.Errorf("want a text, not %s", shownValue(v))
}

func float(v any) (float64, error) {
	switch r := reflect.ValueOf(v); {
	case v == nil:
		return 0, nil
	case r.CanFloat():
		return r.Float(), nil
	case r.CanInt():
		return float64(r.Int()), nil
	case r.CanUint():
		return float64(r.Uint()), nil
	default:
		return 0, fmt.Errorf("want a number, not %s", shownValue(v))
	}
}

// integers returns what makes integers of a type of that name.
func integers(name string) (func(any) (any, error), bool) {
	digits, signed := strings.CutPrefix(name, "Int")
	if !signed {
		var ok bool
		if digits, ok = strings.CutPrefix(name, "UInt"); !ok {
			return nil, false
		}
	}
	bits, err := strconv.ParseUint(digits, 10, 16)
	if err != nil {
		return nil, false
	}
	if bits > 64 {
		return func(v any) (any, error) { return bigInteger(v, uint(bits), signed, name) }, true
	}
	if signed {
		return func(v any) (any, error) { return signedInteger(v, uint(bits), name) }, true
	}
	return func(v any) (any, error) { return unsignedInteger(v, uint(bits), name) }, true
}

func signedInteger(v any, bits uint, name string) (any, error) {
	var n int64
	switch r := reflect.ValueOf(v); {
	case v == nil:
	case r.CanInt():
		n = r.Int()
	case r.CanUint() && r.Uint() <= math.MaxInt64:
		n = int64(r.Uint())
	default:
		return nil, notInteger(v, name)
	}
	if limit := int64(1) << (bits - 1); bits < 64 && (n < -limit || n >= limit) {
		return nil, notInteger(v, name)
	}
	switch bits {
	case 8:
		return int8(n), nil
	case 16:
		return int16(n), nil
	case 32:
		return int32(n), nil
	default:
		return n, nil
	}
}

func unsignedInteger(v any, bits uint, name string) (any, error) {
	var n uint64
	switch r := reflect.ValueOf(v); {
	case v == nil:
	case r.CanUint():
		n = r.Uint()
	case r.CanInt() && r.Int() >= 0:
		n = uint64(r.Int())
	default:
		return nil, notInteger(v, name)
	}
	if bits < 64 && n >= 1<<bits {
		return nil, notInteger(v, name)
	}
	switch bits {
	case 8:
		return uint8(n), nil
	case 16:
		return uint16(n), nil
	case 32:
		return uint32(n), nil
	default:
		return n, nil
	}
}

func bigInteger(v any, bits uint, signed bool, name string) (any, error) {
	n := new(big.Int)
	switch r := reflect.ValueOf(v); {
	case v == nil:
	case r.CanInt():
		n.SetInt64(r.Int())
	case r.CanUint():
		n.SetUint64(r.Uint())
	default:
		given, ok := v.(*big.Int)
		if !ok || given == nil {
			return nil, notInteger(v, name)
		}
		n = given
	}
	low, high := new(big.Int), new(big.Int).Lsh(big.NewInt(1), bits)
	if signed {
		high.Rsh(high, 1)
		low.Neg(high)
	}
	if n.Cmp(low) < 0 || n.Cmp(high) >= 0 {
		return nil, notInteger(v, name)
	}
	return n, nil
}

func notInteger(v any, name string) error {
	return fmt.Errorf("want a whole number that fits %s, not %s", name, shownValue(v))
}

// decimals returns the converter of a Decimal.
func decimals(t typeTree) (converter, error) {
	digits, inName := map[string]int64{"Decimal32": 9, "Decimal64": 18, "Decimal128": 38, "Decimal256": 76}[t.name]
	args := t.args
	if !inName {
		if len(args) == 0 {
			args = []string{"10"}
		}
		var err error
		if digits, err = strconv.ParseInt(args[0], 10, 32); err != nil {
			return converter{}, fmt.Errorf("precision of %s: %w", t.name, err)
		}
		args = args[1:]
	}
	scale := int64(0)
	if len(args) > 0 {
		var err error
		if scale, err = strconv.ParseInt(args[0], 10, 32); err != nil {
			return converter{}, fmt.Errorf("scale of %s: %w", t.name, err)
		}
	}
	limit := decimal.New(1, int32(digits-scale))
	return converter{convert: func(v any) (any, error) {
		d, err := toDecimal(v)
		switch {
		case err != nil:
			return nil, err
		case int64(d.Exponent()) >= -scale && int64(d.NumDigits())+int64(d.Exponent()) <= digits-scale: // as most are
			return d, nil
		case !d.Equal(d.Truncate(int32(scale))) || d.Abs().Cmp(limit) >= 0:
			return nil, fmt.Errorf("%s does not fit %s with %d digits, %d of them after the point", shownValue(v), t.name, digits, scale)
		}
		return d, nil
	}, total: true}, nil
}

// maxDecimal bounds the texts that are read as decimals.
const maxDecimal = 100

func toDecimal(v any) (decimal.Decimal, error) {
	switch v := v.(type) {
	case nil:
		return decimal.Zero, nil
	case decimal.Decimal:
		return v, nil
	case *big.Int:
		return decimal.NewFromBigInt(v, 0), nil
	case string:
		if len(v) > maxDecimal || strings.ContainsAny(v, "eE") {
			return decimal.Zero, fmt.Errorf("want a decimal number, not %s", shownValue(v))
		}
		d, err := decimal.NewFromString(v)
		if err != nil {
			return decimal.Zero, fmt.Errorf("want a decimal number, not %s", shownValue(v))
		}
		return d, nil
	}
	switch r := reflect.ValueOf(v); {
	case r.CanInt():
		return decimal.NewFromInt(r.Int()), nil
	case r.CanUint():
		return decimal.NewFromUint64(r.Uint()), nil
	case r.Kind() == reflect.String:
		return toDecimal(r.String())
	default:
		return decimal.Zero, fmt.Errorf("want a whole number or a text for a Decimal, not %s", shownValue(v))
	}
}

func nullable(inner converter) converter {
	return converter{func(v any) (any, error) {
		if r := reflect.ValueOf(v); v == nil || r.Kind() == reflect.Pointer && r.IsNil() {
			return nil, nil //nolint:nilnil // NULL
		} else if _, isBig := v.(*big.Int); r.Kind() == reflect.Pointer && !isBig {
			v = r.Elem().Interface()
		}
		return inner.convert(v)
	}, inner.total}
}

func arrays(inner converter) converter {
	return converter{func(v any) (any, error) {
		r := reflect.ValueOf(v)
		switch {
		case v == nil:
			return []any{}, nil
		case r.Kind() != reflect.Slice && r.Kind() != reflect.Array:
			return nil, fmt.Errorf("want a slice, not %s", shownValue(v))
		}
		out := make([]any, r.Len())
		for i := range out {
			element, err := inner.convert(r.Index(i).Interface())
			if err != nil {
				return nil, fmt.Errorf("element %d: %w", i, err)
			}
			out[i] = element
		}
		return out, nil
	}, inner.total}
}

// tuples returns the converter of a Tuple with these elements.
func tuples(elements []string) (converter, error) {
	names := make([]string, len(elements))
	inner := make([]converter, len(elements))
	total := true
	for i, text := range elements {
		name, typ := element(text)
		c, err := newConverter(typ)
		if err != nil {
			return converter{}, err
		}
		names[i], inner[i], total = name, c, total && c.total
	}
	return converter{func(v any) (any, error) {
		given, err := tupleValues(v, names)
		if err != nil {
			return nil, err
		}
		out := make([]any, len(inner))
		for i, c := range inner {
			if out[i], err = c.convert(given[i]); err != nil {
				return nil, fmt.Errorf("element %s: %w", cmp.Or(names[i], strconv.Itoa(i+1)), err)
			}
		}
		return out, nil
	}, total}, nil
}

// tupleValues gives the elements of a Tuple in their order.
func tupleValues(v any, names []string) ([]any, error) {
	out := make([]any, len(names))
	switch r := reflect.ValueOf(v); {
	case v == nil:
	case r.Kind() == reflect.Slice || r.Kind() == reflect.Array:
		if r.Len() != len(names) {
			return nil, fmt.Errorf("want %d elements, not %d", len(names), r.Len())
		}
		for i := range out {
			out[i] = r.Index(i).Interface()
		}
	case r.Kind() == reflect.Map && r.Type().Key().Kind() == reflect.String:
		for iter := r.MapRange(); iter.Next(); {
			i := slices.Index(names, iter.Key().String())
			if i < 0 || iter.Key().String() == "" {
				return nil, fmt.Errorf("the tuple has no element %q", iter.Key().String())
			}
			out[i] = iter.Value().Interface()
		}
	default:
		return nil, fmt.Errorf("want a slice or a map by the names of the elements, not %s", shownValue(v))
	}
	return out, nil
}

// mapsOf returns the converter of a Map.
func mapsOf(args []string) (converter, error) {
	if len(args) != 2 {
		return converter{}, errors.New("a Map has a type for keys and one for values")
	}
	key, keyErr := newConverter(args[0])
	value, valueErr := newConverter(args[1])
	return converter{func(v any) (any, error) {
		m := &sortedMap{at: -1}
		r := reflect.ValueOf(v)
		switch {
		case v == nil:
			return m, nil
		case r.Kind() != reflect.Map:
			return nil, fmt.Errorf("want a map, not %s", shownValue(v))
		}
		keys := r.MapKeys()
		slices.SortFunc(keys, compareKeys)
		for _, k := range keys {
			converted, err := key.convert(k.Interface())
			if err != nil {
				return nil, fmt.Errorf("key %s: %w", shownValue(k.Interface()), err)
			}
			element, err := value.convert(r.MapIndex(k).Interface())
			if err != nil {
				return nil, fmt.Errorf("value of key %s: %w", shownValue(k.Interface()), err)
			}
			m.keys, m.values = append(m.keys, converted), append(m.values, element)
		}
		return m, nil
	}, key.total && value.total}, errors.Join(keyErr, valueErr)
}

// compareKeys orders the keys of a map: the same map is sent in the same way always.
func compareKeys(a, b reflect.Value) int {
	switch {
	case a.CanInt():
		return cmp.Compare(a.Int(), b.Int())
	case a.CanUint():
		return cmp.Compare(a.Uint(), b.Uint())
	case a.Kind() == reflect.String:
		return strings.Compare(a.String(), b.String())
	default:
		return strings.Compare(fmt.Sprint(a.Interface()), fmt.Sprint(b.Interface()))
	}
}

// sortedMap is a map whose keys come in order.
type sortedMap struct {
	keys, values []any
	at           int
}

// Iterator implements column.IterableOrderedMap.
func (m *sortedMap) Iterator() column.MapIterator {
	m.at = -1
	return m
}

// Put implements column.IterableOrderedMap.
func (m *sortedMap) Put(key, value any) {
	m.keys, m.values = append(m.keys, key), append(m.values, value)
}

// Next implements column.MapIterator.
func (m *sortedMap) Next() bool {
	m.at++
	return m.at < len(m.keys)
}

// Key implements column.MapIterator.
func (m *sortedMap) Key() any { return m.keys[m.at] }

// Value implements column.MapIterator.
func (m *sortedMap) Value() any { return m.values[m.at] }
