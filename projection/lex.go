package projection

import "strings"

// token is a word, a number, a quoted text or a single character of a statement.
// Comments and spaces are left out.
type token struct {
	text string
	kind tokenKind
	line int // from 0
}

type tokenKind uint8

const (
	wordToken tokenKind = iota
	identToken
	textToken
	numberToken
	symbolToken
)

// is reports whether a token is that keyword.
func (t token) is(word string) bool { return t.kind == wordToken && strings.EqualFold(t.text, word) }

func (t token) symbol(c string) bool { return t.kind == symbolToken && t.text == c }

// lexer splits a statement of ClickHouse.
type lexer struct {
	text string
	at   int
	line int
}

// tokens splits a statement. It never fails: what is not closed ends with the
// text, and the engine says what is wrong there.
func tokens(text string) []token {
	l := &lexer{text: text}
	var out []token
	for l.at < len(l.text) {
		from, line := l.at, l.line
		kind, ok := l.next()
		l.line += strings.Count(l.text[from:l.at], "\n")
		if ok {
			out = append(out, token{l.text[from:l.at], kind, line})
		}
	}
	return out
}

// next passes one token, a space or a comment; ok is false for the latter.
func (l *lexer) next() (kind tokenKind, ok bool) {
	rest := l.text[l.at:]
	switch c := rest[0]; {
	case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v':
		l.at++
		return 0, false
	case strings.HasPrefix(rest, "--") || strings.HasPrefix(rest, "# ") || strings.HasPrefix(rest, "#!"):
		l.until("\n")
		return 0, false
	case strings.HasPrefix(rest, "/*"):
		l.at += 2
		l.until("*/")
		return 0, false
	case c == '\'':
		l.quoted(c)
		return textToken, true
	case c == '`' || c == '"':
		l.quoted(c)
		return identToken, true
	case c == '$' && l.heredoc():
		return textToken, true
	case wordByte(c) && (c < '0' || c > '9'):
		l.while(wordByte)
		return wordToken, true
	case c >= '0' && c <= '9':
		l.while(func(c byte) bool { return wordByte(c) || c == '.' })
		return numberToken, true
	default:
		l.at++
		return symbolToken, true
	}
}

func wordByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

func (l *lexer) while(ok func(byte) bool) {
	for l.at < len(l.text) && ok(l.text[l.at]) {
		l.at++
	}
}

// until passes everything up to and with end.
func (l *lexer) until(end string) {
	if i := strings.Index(l.text[l.at:], end); i >= 0 {
		l.at += i + len(end)
	} else {
		l.at = len(l.text)
	}
}

// quoted passes a quoted text: a backslash escapes, and so does doubling.
func (l *lexer) quoted(quote byte) {
	for l.at++; l.at < len(l.text); l.at++ {
		switch l.text[l.at] {
		case '\\':
			l.at++
		case quote:
			if l.at++; l.at >= len(l.text) || l.text[l.at] != quote {
				return
			}
		}
	}
	l.at = min(l.at, len(l.text))
}

// heredoc passes $tag$…$tag$.
func (l *lexer) heredoc() bool {
	rest := l.text[l.at:]
	end := 1
	for end < len(rest) && wordByte(rest[end]) {
		end++
	}
	if end == len(rest) || rest[end] != '$' {
		return false
	}
	tag := rest[:end+1]
	l.at += len(tag)
	l.until(tag)
	return true
}
