package event

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strconv"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/vm/runtime"
)

// nilSafety rewrites an expression so that nil behaves as Predicate says:
// members and operators whose operands have no static type become calls of
// functions that know nil. What has a type stays as it is, and stays checked.
type nilSafety struct{}

// The functions have names that no expression can call.
const (
	memberFunction = "member of"
	truthFunction  = "truth of"
)

var (
	comparisons = map[string]func(a, b any) bool{
		"<": runtime.Less, "<=": runtime.LessOrEqual, ">": runtime.More, ">=": runtime.MoreOrEqual,
	}
	arithmetic = map[string]func(a, b any) any{
		"+": runtime.Add, "-": runtime.Subtract, "*": runtime.Multiply,
		"/":  func(a, b any) any { return runtime.Divide(a, b) },
		"%":  func(a, b any) any { return runtime.Modulo(a, b) },
		"**": func(a, b any) any { return runtime.Exponent(a, b) },
		"^":  func(a, b any) any { return runtime.Exponent(a, b) },
	}
)

type function struct {
	call      func(args ...any) (any, error)
	signature any
}

func nilSafeFunctions() map[string]function {
	out := map[string]function{
		memberFunction: {func(args ...any) (any, error) { return member(args[0], args[1]), nil }, new(func(any, any) any)},
		truthFunction:  {func(args ...any) (any, error) { return truth(args[0]) }, new(func(any) bool)},
	}
	for operator, compare := range comparisons {
		out["nil-safe "+operator] = function{func(args ...any) (any, error) {
			return args[0] != nil && args[1] != nil && compare(args[0], args[1]), nil
		}, new(func(any, any) bool)}
	}
	for operator, compute := range arithmetic {
		out["nil-safe "+operator] = function{func(args ...any) (any, error) {
			if args[0] == nil || args[1] == nil {
				return nil, nil
			}
			return compute(args[0], args[1]), nil
		}, new(func(any, any) any)}
	}
	return out
}

// member returns a member of an object or an element of an array; negative
// indexes count from the end. Nil when there is none.
func member(of, key any) any {
	switch of := of.(type) {
	case map[string]any:
		if name, ok := key.(string); ok {
			return of[name]
		}
	case []any:
		if i, ok := key.(int); ok {
			if i < 0 {
				i += len(of)
			}
			if i >= 0 && i < len(of) {
				return of[i]
			}
		}
	}
	return nil
}

// truth returns whether a value is true. Nil is not; what is neither nil, true
// nor false is an error.
func truth(value any) (bool, error) {
	switch value := value.(type) {
	case nil:
		return false, nil
	case bool:
		return value, nil
	default:
		return false, fmt.Errorf("%v is neither true nor false: compare it with something", value)
	}
}

// Visit implements ast.Visitor.
func (nilSafety) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.MemberNode:
		if untyped(n.Node) && !n.Method {
			replace(node, memberFunction, n.Node, n.Property)
		}
	case *ast.UnaryNode:
		if n.Operator == "not" || n.Operator == "!" {
			asCondition(&n.Node)
		}
	case *ast.ConditionalNode:
		asCondition(&n.Cond)
	case *ast.BinaryNode:
		switch n.Operator {
		case "and", "&&", "or", "||":
			asCondition(&n.Left)
			asCondition(&n.Right)
		default:
			operator(node, n)
		}
	case *ast.BuiltinNode:
		builtin(n)
	}
}

// replace puts a call in the place of node.
func replace(node *ast.Node, name string, args ...ast.Node) {
	ast.Patch(node, &ast.CallNode{Callee: &ast.IdentifierNode{Value: name}, Arguments: args})
}

// untyped reports whether only an evaluation tells what a node is.
func untyped(n ast.Node) bool { return n.Type().Kind() == reflect.Interface }

func asCondition(node *ast.Node) {
	if untyped(*node) {
		replace(node, truthFunction, *node)
	}
}

func operator(node *ast.Node, n *ast.BinaryNode) {
	_, compares := comparisons[n.Operator]
	_, computes := arithmetic[n.Operator]
	if (compares || computes) && (untyped(n.Left) || untyped(n.Right)) {
		replace(node, "nil-safe "+n.Operator, n.Left, n.Right)
	}
}

// builtin lets functions over lists take nil for an empty one, and their
// conditions nil for false.
func builtin(n *ast.BuiltinNode) {
	var conditional bool
	switch n.Name {
	case "all", "any", "none", "one", "filter", "count", "find", "findIndex", "findLast", "findLastIndex":
		conditional = true
	case "map", "sum", "groupBy", "countBy", "sortBy", "reduce", "len", "first", "last":
	default:
		return
	}
	if len(n.Arguments) > 0 && untyped(n.Arguments[0]) {
		n.Arguments[0] = &ast.BinaryNode{Operator: "??", Left: n.Arguments[0], Right: &ast.ArrayNode{}}
	}
	if !conditional || len(n.Arguments) < 2 {
		return
	}
	if predicate, ok := n.Arguments[1].(*ast.PredicateNode); ok {
		asCondition(&predicate.Node)
	}
}

// decodeJSON returns the value of a JSON text, with whole numbers as int where
// they fit; nil when b is not JSON.
func decodeJSON(b []byte) any {
	if len(b) == 0 {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var value any
	if err := dec.Decode(&value); err != nil {
		return nil
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil
	}
	return plainNumbers(value)
}

func plainNumbers(value any) any {
	switch value := value.(type) {
	case json.Number:
		if n, err := strconv.Atoi(value.String()); err == nil {
			return n
		}
		n, err := value.Float64()
		if err != nil {
			return nil // beyond what any number type holds
		}
		return n
	case map[string]any:
		for key, element := range value {
			value[key] = plainNumbers(element)
		}
	case []any:
		for i, element := range value {
			value[i] = plainNumbers(element)
		}
	}
	return value
}
