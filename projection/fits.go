package projection

import (
	"slices"
	"strconv"
	"strings"
)

// fits reports whether a column of a type holds every value of another one
// unchanged. Where it is not known it says no: a CAST makes it plain.
func fits(from, into string) bool {
	f, i := parseType(unwrapped(from)), parseType(unwrapped(into))
	if i.name == "Nullable" {
		inner := strings.Join(i.args, ", ")
		if f.name == "Nullable" {
			return fits(strings.Join(f.args, ", "), inner)
		}
		return fits(from, inner)
	}
	if f.name == i.name && slices.Contains([]string{"Array", "Map", "Tuple", "Nested"}, f.name) {
		return fitAll(f.args, i.args, f.name)
	}
	switch {
	case strings.HasPrefix(f.name, "Decimal") && strings.HasPrefix(i.name, "Decimal"):
		fd, fs := decimalSize(f)
		id, is := decimalSize(i)
		return fs <= is && fd-fs <= id-is
	case f.name == "DateTime64" && i.name == "DateTime64":
		return digitsOf(f) <= digitsOf(i)
	case f.name == "DateTime" && (i.name == "DateTime" || i.name == "DateTime64"):
		return true
	case f.name == "FixedString" && i.name == "String", f.name == "Date" && i.name == "Date32":
		return true
	case f.name == "Bool" && i.name == "UInt8", f.name == "UInt8" && i.name == "Bool":
		return true
	}
	return sameType(f, i) || numberFits(f.name, i.name)
}

// unwrapped is a type without what only tells how it is stored or merged.
func unwrapped(text string) string { return bareType(text) }

func sameType(a, b typeTree) bool {
	return a.name == b.name && slices.EqualFunc(a.args, b.args, func(x, y string) bool {
		return x == y || sameType(parseType(x), parseType(y)) && len(parseType(x).args) > 0
	})
}

func fitAll(from, into []string, kind string) bool {
	return slices.EqualFunc(from, into, func(f, i string) bool {
		if kind == "Tuple" || kind == "Nested" {
			_, f = element(f)
			_, i = element(i)
		}
		return fits(f, i)
	})
}

// numberFits compares the sizes of two types of numbers.
func numberFits(from, into string) bool {
	fk, fb, ok := numberSize(from)
	ik, ib, known := numberSize(into)
	switch {
	case !ok || !known:
		return false
	case fk == ik:
		return fb <= ib
	case fk == "UInt" && ik == "Int":
		return fb < ib
	case ik == "Float":
		return fb < ib // 32 bits fit the 53 of a Float64
	default:
		return false
	}
}

func numberSize(name string) (kind string, bits int, ok bool) {
	for _, kind := range []string{"UInt", "Int", "Float"} {
		if digits, found := strings.CutPrefix(name, kind); found {
			bits, err := strconv.Atoi(digits)
			return kind, bits, err == nil
		}
	}
	return "", 0, false
}

func decimalSize(t typeTree) (digits, scale int) {
	inName := map[string]int{"Decimal32": 9, "Decimal64": 18, "Decimal128": 38, "Decimal256": 76}[t.name]
	args := make([]int, 0, len(t.args))
	for _, text := range t.args {
		n, err := strconv.Atoi(text)
		if err != nil {
			return 0, 0
		}
		args = append(args, n)
	}
	switch {
	case inName > 0 && len(args) == 1:
		return inName, args[0]
	case inName == 0 && len(args) == 2:
		return args[0], args[1]
	case inName == 0 && len(args) == 1:
		return args[0], 0
	default:
		return 10, 0
	}
}

func digitsOf(t typeTree) int {
	if len(t.args) == 0 {
		return 3
	}
	n, err := strconv.Atoi(t.args[0])
	if err != nil {
		return 3
	}
	return n
}
