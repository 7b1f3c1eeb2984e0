package event

import (
	"fmt"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/vm"
)

// Expression is a compiled computation on events, in the language of Predicate
// and with its names, and with one more:
//
//	item    a part of the payload that whoever evaluates it speaks of, such as
//	        one element of a list, or nil
//
// There is no now(): the same event gives the same result at any time. Whole
// numbers beyond 64 bits and fractions are floating-point numbers in it.
// Any number of goroutines may use an Expression at once.
type Expression struct {
	program *vm.Program
	loads   []func(*subject, *Event, *Envelope)
}

// itemSubject is a subject with a part of the payload.
type itemSubject struct {
	subject

	Item any `expr:"item"`
}

// CompileExpression compiles a computation. Unknown names, wrong types and
// syntax are errors that show the position.
func CompileExpression(text string) (*Expression, error) {
	program, used, err := compile(text, expr.Env(&itemSubject{}), expr.DisableBuiltin("now"))
	if err != nil {
		return nil, fmt.Errorf("compile expression: %w", err)
	}
	return &Expression{program, loadsOf(used)}, nil
}

// Eval computes for an event with that envelope; item is JSON, or nil. The
// result is what the language has: nil, a bool, an int, a float64, a string, a
// time, a slice or a map. An error says what could not be computed, and where.
func (x *Expression) Eval(e *Event, env *Envelope, item []byte) (any, error) {
	s := &itemSubject{Item: decodeJSON(item)}
	for _, load := range x.loads {
		load(&s.subject, e, env)
	}
	result, err := expr.Run(x.program, s)
	if err != nil {
		return nil, fmt.Errorf("evaluate expression: %w", err)
	}
	return result, nil
}
