package projection

import "strings"

// typeTree is the top of a type: its name and its arguments, as texts.
type typeTree struct {
	name string
	args []string
}

// parseType splits a type: "Array(Tuple(a String, b UInt8))" has the name Array and one
// argument. A text that is no type gives one that no server knows.
func parseType(text string) typeTree {
	text = strings.TrimSpace(text)
	name, rest, found := strings.Cut(text, "(")
	if !found || !strings.HasSuffix(rest, ")") {
		return typeTree{name: text}
	}
	return typeTree{strings.TrimSpace(name), splitArgs(strings.TrimSuffix(rest, ")"))}
}

// splitArgs splits at the commas that are in no parentheses and no quotes.
func splitArgs(text string) []string {
	var args []string
	depth, from := 0, 0
	var quote byte
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quote != 0 && c == '\\':
			i++
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '`' || c == '"':
			quote = c
		case c == '(':
			depth++
		case c == ')':
			depth--
		case c == ',' && depth == 0:
			args = append(args, strings.TrimSpace(text[from:i]))
			from = i + 1
		}
	}
	if last := strings.TrimSpace(text[from:]); last != "" || len(args) > 0 {
		args = append(args, last)
	}
	return args
}

// element splits an element of a Tuple into its name, if it has one, and its type.
func element(text string) (name, typ string) {
	if strings.HasPrefix(text, "`") {
		if end := strings.IndexByte(text[1:], '`'); end >= 0 {
			return text[1 : end+1], strings.TrimSpace(text[end+2:])
		}
	}
	end := strings.IndexAny(text, " (")
	if end < 0 || text[end] == '(' {
		return "", text
	}
	return text[:end], strings.TrimSpace(text[end:])
}
