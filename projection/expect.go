package projection

import (
	"errors"
	"fmt"
	"math/big"
	"strings"
)

// Expectation is what a check must give. The zero Expectation is "= " and an
// empty text.
type Expectation struct {
	op    string // =, !=, <, <=, >, >=, or empty
	value string
}

const expectEmpty = "empty"

// ParseExpectation reads "empty" (no rows), a comparison (=, !=, <, <=, >, >=,
// and a value), or a value alone, which must be the same.
func ParseExpectation(text string) (Expectation, error) {
	text = strings.TrimSpace(text)
	if text == expectEmpty {
		return Expectation{op: expectEmpty}, nil
	}
	for _, op := range []string{"!=", "<=", ">=", "==", "=", "<", ">"} {
		value, ok := strings.CutPrefix(text, op)
		if !ok {
			continue
		}
		if value = strings.TrimSpace(value); value == "" {
			return Expectation{}, fmt.Errorf("%q compares with nothing", text)
		}
		if op == "==" {
			op = "="
		}
		if _, isNumber := number(value); op[0] != '=' && op[0] != '!' && !isNumber {
			return Expectation{}, fmt.Errorf("%q compares with a text: want a number", text)
		}
		return Expectation{op, value}, nil
	}
	return Expectation{"=", text}, nil
}

// String gives the text that ParseExpectation reads.
func (x Expectation) String() string {
	if x.op == expectEmpty {
		return expectEmpty
	}
	return x.operator() + " " + x.value
}

// MarshalText implements encoding.TextMarshaler.
func (x Expectation) MarshalText() ([]byte, error) { return []byte(x.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (x *Expectation) UnmarshalText(text []byte) error {
	parsed, err := ParseExpectation(string(text))
	*x = parsed
	return err
}

func (x Expectation) operator() string {
	if x.op == "" {
		return "="
	}
	return x.op
}

// Empty reports whether no rows are expected. Otherwise it is one row with one
// value.
func (x Expectation) Empty() bool { return x.op == expectEmpty }

// Holds reports whether a value is as expected. Numbers are compared as numbers,
// exactly; anything else as text, which has no order. An error says that a value
// cannot be compared at all.
func (x Expectation) Holds(value string) (bool, error) {
	got, isNumber := number(value)
	want, wantNumber := number(x.value)
	if x.Empty() {
		return false, nil
	}
	if isNumber && wantNumber {
		return ordered(x.operator(), got.Cmp(want)), nil
	}
	switch x.operator() {
	case "=":
		return value == x.value, nil
	case "!=":
		return value != x.value, nil
	default:
		return false, fmt.Errorf("%q is no number, and has no order", value)
	}
}

func ordered(op string, c int) bool {
	switch op {
	case "=":
		return c == 0
	case "!=":
		return c != 0
	case "<":
		return c < 0
	case "<=":
		return c <= 0
	case ">":
		return c > 0
	default:
		return c >= 0
	}
}

// maxNumber bounds the texts that are read as numbers: an exponent could make a
// short one huge.
const maxNumber = 100

func number(text string) (*big.Rat, bool) {
	if text == "" || len(text) > maxNumber || strings.ContainsAny(text, "/xXpPbBoO_") {
		return nil, false
	}
	if at := strings.IndexAny(text, "eE"); at >= 0 && len(text)-at > 5 {
		return nil, false
	}
	return new(big.Rat).SetString(text)
}

// errNotOneValue is wrapped where a check gives something else than one value.
var errNotOneValue = errors.New("want one row with one value")
