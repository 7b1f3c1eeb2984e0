package projection

import (
	"errors"
	"fmt"
	"reflect"
	"time"
)

// columnTag is the tag of a field that names its column.
const columnTag = "ch"

// NewMapOf is NewMap for rows that are structs of type T, which takes less time than
// maps do. Fields with a tag ch:"name" hold what the columns of that name get, in
// the types that a Row may have; columns without a field get their zero value. f hands
// its rows to add, in their order; where it returns an error, none of them counts.
func NewMapOf[T any](name string, f func(e *Event, add func(row T)) error) Function {
	if f == nil {
		return Function{name: name}
	}
	return Function{name: name, mapper: structMapper[T](f)}
}

type structMapper[T any] func(e *Event, add func(row T)) error

// tagged gives the fields of T that have columns, by their columns.
func (f structMapper[T]) tagged() (map[string]int, error) {
	t := reflect.TypeFor[T]()
	if t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("its rows are of type %s, and not structs", t)
	}
	fields := map[string]int{}
	for i := range t.NumField() {
		name := t.Field(i).Tag.Get(columnTag)
		if name == "" {
			continue
		}
		if _, twice := fields[name]; twice || !t.Field(i).IsExported() {
			return nil, fmt.Errorf("field %s of %s: its column %q is there twice, or it is not exported", t.Field(i).Name, t, name)
		}
		fields[name] = i
	}
	if len(fields) == 0 {
		return nil, fmt.Errorf("no field of %s has a tag %s:\"column\"", t, columnTag)
	}
	return fields, nil
}

func (f structMapper[T]) complete() error {
	_, err := f.tagged()
	return err
}

func (f structMapper[T]) check(table *Table) error {
	fields, err := f.tagged()
	var errs []error
	for name := range fields {
		if _, ok := table.Column(name); !ok {
			errs = append(errs, fmt.Errorf("the table has no column %.80q", name))
		}
	}
	return errors.Join(append(errs, err)...)
}

func (f structMapper[T]) adder(to *Rows) (func(*Event) error, error) {
	fields, err := f.tagged()
	if err != nil {
		return nil, err
	}
	a := &structAdder[T]{f: f, to: to, row: new(T)}
	a.collect = func(row T) {
		if a.made++; a.made == 1 {
			*a.row = row
		} else {
			a.more = append(a.more, row)
		}
	}
	value := reflect.ValueOf(a.row).Elem()
	for i := range to.columns {
		c := &to.columns[i]
		field := structField{column: c}
		if at, ok := fields[c.name]; ok {
			field.value = value.Field(at)
			pointer := field.value.Addr().Interface()
			if field.add, field.try = to.block.Adder(i, pointer); isSent(c.typ, field.value.Type()) {
				field.pointer = pointer
			}
		}
		a.fields = append(a.fields, field)
	}
	return a.add, nil
}

// structAdder adds rows that are structs to Rows.
type structAdder[T any] struct {
	f       structMapper[T]
	to      *Rows
	collect func(T)
	row     *T // what the fields are of; the first row, to begin with
	more    []T
	made    int // rows
	fields  []structField
	values  []any // of all rows, of the columns that have no adder
}

// structField is where the values of a column come from.
type structField struct {
	column  *rowColumn
	value   reflect.Value // of the field; not valid: there is none
	pointer any           // to it, where the client takes that as it is
	add     func()        // adds the field to the column, after try, if there is one; nil: add what take gives
	try     func() error
}

func (a *structAdder[T]) add(e *Event) error {
	a.made, a.more, a.values = 0, a.more[:0], a.values[:0]
	if err := a.call(e); err != nil || a.made == 0 {
		return err
	}
	if a.made == 1 {
		if err := a.try(0); err != nil {
			return err
		}
		return a.put(a.values)
	}
	first := *a.row
	for i := range a.made {
		if i > 0 {
			*a.row = a.more[i-1]
		}
		if err := a.try(i); err != nil {
			return err
		}
	}
	each := len(a.values) / a.made
	for i := range a.made { // pointers among the values are to the row
		if *a.row = first; i > 0 {
			*a.row = a.more[i-1]
		}
		if err := a.put(a.values[i*each:][:each]); err != nil {
			return err // it was tried before
		}
	}
	return nil
}

// try makes sure that the row can be added, and keeps the values that have to be made for that.
func (a *structAdder[T]) try(row int) (err error) {
	for i := range a.fields {
		f := &a.fields[i]
		switch {
		case f.add == nil:
			var v any
			v, err = f.take()
			a.values = append(a.values, v)
		case f.try != nil:
			err = f.try()
		}
		if err != nil {
			return fmt.Errorf("row %d: column %s: %w", row+1, f.column.name, err)
		}
	}
	return nil
}

// put adds the row, with the values that try has kept of it.
func (a *structAdder[T]) put(values []any) error {
	for i := range a.fields {
		if f := &a.fields[i]; f.add != nil {
			f.add()
			continue
		}
		if err := a.to.block.AppendTo(i, values[0]); err != nil {
			return err //nolint:wrapcheck // it names the column
		}
		a.to.count(i, values[0])
		values = values[1:]
	}
	return nil
}

func (a *structAdder[T]) call(e *Event) (err error) {
	defer caught(&err)
	return a.f(e, a.collect)
}

// take gives what the client takes, and makes sure that it does.
func (f *structField) take() (any, error) {
	switch {
	case f.pointer == nil && !f.value.IsValid():
		return f.column.take(nil)
	case f.pointer == nil:
		return f.column.take(f.value.Interface())
	case f.column.convert.total:
		return f.pointer, nil
	default:
		return f.pointer, f.column.try(f.pointer)
	}
}

// isSent says whether the client takes values of a type in Go for a column as they are,
// and with them pointers to such.
func isSent(column string, t reflect.Type) bool {
	switch name := parseType(bareType(column)).name; name {
	case "String", "Bool", "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64", "Float32", "Float64":
		return map[string]reflect.Type{
			"String": reflect.TypeFor[string](), "Bool": reflect.TypeFor[bool](),
			"Int8": reflect.TypeFor[int8](), "Int16": reflect.TypeFor[int16](), "Int32": reflect.TypeFor[int32](), "Int64": reflect.TypeFor[int64](),
			"UInt8": reflect.TypeFor[uint8](), "UInt16": reflect.TypeFor[uint16](), "UInt32": reflect.TypeFor[uint32](), "UInt64": reflect.TypeFor[uint64](),
			"Float32": reflect.TypeFor[float32](), "Float64": reflect.TypeFor[float64](),
		}[name] == t
	case "Date", "Date32", "DateTime", "DateTime64":
		return t == reflect.TypeFor[time.Time]()
	default:
		return false
	}
}
