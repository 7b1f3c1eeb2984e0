package projection

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/remedy"
)

// Row is a row of a table: values by column. What is left out, or nil, is NULL
// where the column can be, else the zero value of its type.
//
// Whole numbers are any of Go's integers, or a *big.Int, that fit the column;
// floating-point columns take whole numbers as well. Texts are string or []byte,
// times time.Time. A Decimal is a whole number, or a text with no more digits than
// the column has. A UUID, an address and a value of an Enum is a text. An Array is
// a slice; a Map is a map, whose keys are written in their order; a Tuple is a slice,
// or a map by the names of its elements.
type Row map[string]any

// Mapper makes rows of one event. It must depend on the event alone: the same
// event gives the same rows, whenever and wherever. An error says that the event
// cannot be used.
type Mapper func(e *Event) ([]Row, error)

// Function is a named function of a Registry, made by NewMap or NewFold.
type Function struct {
	name   string
	mapper mapper
	folder Folder
	reads  event.Attributes // 0: all of an event
}

// Reads says that a function for projections of kind map looks at these attributes of an
// event only, beside its stream and ID: all others are empty then, wherever events come from,
// and it has no Fields. What it does not look at need not be read from the archive, which
// makes rebuilds faster.
func (f Function) Reads(attributes ...event.Attribute) Function {
	f.reads = event.AttributesOf(attributes...)
	return f
}

// mapper is a Mapper, or a function that makes structs.
type mapper interface {
	// adder returns what adds the rows that the function makes of an event to Rows: all of
	// them, or none.
	adder(to *Rows) (func(*Event) error, error)
	// check says what of its rows the table does not have.
	check(table *Table) error
}

// NewMap names a function for projections of kind map. Any number of goroutines
// call it at once. Where it panics, the event cannot be used.
func NewMap(name string, f Mapper) Function {
	if f == nil {
		return Function{name: name}
	}
	return Function{name: name, mapper: f}
}

func (f Mapper) adder(to *Rows) (func(*Event) error, error) {
	return func(e *Event) error {
		rows, err := f.call(e)
		if err != nil {
			return err
		}
		return to.Append(rows...)
	}, nil
}

func (f Mapper) check(*Table) error { return nil } // its rows tell

func (f Mapper) call(e *Event) (rows []Row, err error) {
	defer caught(&err)
	return f(e)
}

// caught makes an error of a panic of a function that people wrote.
func caught(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("the function panicked: %v", p)
	}
}

// Folds are the functions of a projection of kind fold: they take the events of
// an aggregate to a state, one after the other, and the state to rows. They must
// depend on their arguments alone. Any number of goroutines call them at once,
// for different aggregates.
type Folds[S any] struct {
	// Key tells which aggregate an event is about; an empty key says that it is
	// about none. Default: (*Event).Aggregate, none without an aggregate ID.
	Key func(e *Event) string
	// Init makes the state before the first event; default: the zero S.
	Init func() S
	// Apply returns the state after an event, which may be the given one, changed.
	// An error, or a panic, says that the event cannot be used; the state it was given
	// must not have been changed then.
	Apply func(state S, e *Event) (S, error)
	// Rows makes the rows of an aggregate. They replace those that were made of
	// its earlier states, by the key of the table: rows that were there once must
	// not be left out later.
	Rows func(key string, state S) ([]Row, error)
	// Encode and Decode write and read a state, exactly; default: as JSON.
	Encode func(state S) ([]byte, error)
	Decode func(text []byte) (S, error)
}

// Folder is a Folds without its type.
type Folder interface {
	Key(e *Event) string
	Init() any
	Apply(state any, e *Event) (any, error)
	Rows(key string, state any) ([]Row, error)
	Codec
}

// Codec writes and reads states.
type Codec interface {
	Encode(state any) ([]byte, error)
	Decode(text []byte) (any, error)
}

// NewFold names functions for projections of kind fold.
func NewFold[S any](name string, f Folds[S]) Function {
	return Function{name: name, folder: &folder[S]{f}}
}

// folder fills in the defaults of a Folds and takes away its type.
type folder[S any] struct{ f Folds[S] }

func (f *folder[S]) Key(e *Event) string {
	switch {
	case f.f.Key != nil:
		return f.f.Key(e)
	case e.AggregateID == "":
		return ""
	default:
		return e.Aggregate()
	}
}

func (f *folder[S]) Init() any {
	if f.f.Init == nil {
		var zero S
		return zero
	}
	return f.f.Init()
}

func (f *folder[S]) Apply(state any, e *Event) (_ any, err error) {
	defer caught(&err)
	s, err := f.typed(state)
	if err != nil {
		return nil, err
	}
	return f.f.Apply(s, e)
}

func (f *folder[S]) Rows(key string, state any) (_ []Row, err error) {
	defer caught(&err)
	s, err := f.typed(state)
	if err != nil {
		return nil, err
	}
	return f.f.Rows(key, s)
}

func (f *folder[S]) Encode(state any) ([]byte, error) {
	s, err := f.typed(state)
	if err != nil {
		return nil, err
	}
	if f.f.Encode != nil {
		return f.f.Encode(s)
	}
	return json.Marshal(s)
}

func (f *folder[S]) Decode(text []byte) (any, error) {
	if f.f.Decode != nil {
		return f.f.Decode(text)
	}
	var s S
	err := json.Unmarshal(text, &s)
	return s, err
}

// typed gives a state its type back. A nil is the zero state of an S that is an
// interface.
func (f *folder[S]) typed(state any) (S, error) {
	s, ok := state.(S)
	if !ok && state != nil {
		return s, fmt.Errorf("a state is a %T, not a %T", state, s)
	}
	return s, nil
}

// Registry holds functions by their names. A nil Registry has none.
type Registry struct{ functions map[string]Function }

// NewRegistry makes a Registry. Its error joins what is wrong: a name that is
// there twice, or cannot be one, and functions that are missing.
func NewRegistry(functions ...Function) (*Registry, error) {
	r := &Registry{make(map[string]Function)}
	var errs []error
	for _, f := range functions {
		if !goodName(f.name) {
			errs = append(errs, fmt.Errorf("function %q: it cannot be a name: %s", f.name, wantName))
		}
		if _, twice := r.functions[f.name]; twice {
			errs = append(errs, fmt.Errorf("function %q: it is there twice", f.name))
		}
		if err := f.complete(); err != nil {
			errs = append(errs, fmt.Errorf("function %q: %w", f.name, err))
		}
		r.functions[f.name] = f
	}
	return r, errors.Join(errs...)
}

// complete says whether everything is there that has no default.
func (f *Function) complete() error {
	if f.folder == nil && f.mapper == nil {
		return errors.New("it is nil")
	}
	if f.folder != nil && f.reads != 0 {
		return errors.New("Reads is for functions of kind map")
	}
	for _, part := range []any{f.folder, f.mapper} {
		if whole, ok := part.(interface{ complete() error }); ok {
			return whole.complete()
		}
	}
	return nil
}

func (f *folder[S]) complete() error {
	switch {
	case f.f.Apply == nil || f.f.Rows == nil:
		return errors.New("a fold needs Apply and Rows")
	case (f.f.Encode == nil) != (f.f.Decode == nil):
		return errors.New("a fold needs both of Encode and Decode, or neither")
	default:
		return nil
	}
}

func (f *Function) kind() Kind {
	if f.folder != nil {
		return Fold
	}
	return Map
}

// check says whether there is the function that a definition names.
func (r *Registry) check(d *Definition, bad func(field, remedy, format string, args ...any)) {
	f, ok := r.functions[d.Function]
	if !ok {
		remedy := didYouMean(d.Function, maps.Keys(r.functions))
		if remedy == "" {
			remedy = "build a binary that has it: docs/projections.md"
		}
		bad("function", remedy, "this program has no function %q", d.Function)
		return
	}
	if f.kind() != d.Kind {
		bad("function", "set kind to "+string(f.kind()), "%q is a function for %s, not for %s", d.Function, f.kind(), d.Kind)
		return
	}
	if f.mapper == nil {
		return
	}
	if err := f.mapper.check(&d.Table); err != nil {
		bad("function", "add it to the table, or take it out of the struct", "function %q: %w", d.Function, err)
	}
}

// function returns the function of a definition.
func (r *Registry) function(d *Definition) (Function, error) {
	f, ok := r.functions[d.Function]
	if !ok || f.kind() != d.Kind {
		return Function{}, remedy.Wrap(fmt.Errorf("projection %s: this program has no function %q for %s", d.Name, d.Function, d.Kind),
			"build a binary that has it: docs/projections.md")
	}
	return f, nil
}
