package jsonl_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/reservoirhq/reservoir/archive/jsonl"
	"github.com/reservoirhq/reservoir/event"
)

var lenient = []struct {
	line string
	want event.Event
}{
	{`{"id":"5-6","fields":{"a":"b"}}`, event.Event{ID: event.ID{Ms: 5, Seq: 6}, Fields: fields("a", "b")}},
	{" {\t\"fields\" : { \"a\" : \"b\" , \"c\" : \"d\" } , \"id\" : \"5\" } \r", event.Event{ID: event.ID{Ms: 5}, Fields: fields("a", "b", "c", "d")}},
	{`{"fields":{"a":"b"}}`, event.Event{Fields: fields("a", "b")}},
	{`{"id":null,"fields":{"a":"b"}}`, event.Event{Fields: fields("a", "b")}},
	{`{"id":5,"fields":{}}`, event.Event{ID: event.ID{Ms: 5}}},
	{`{"i\u0064":"5-1","\u0066ields":{}}`, event.Event{ID: event.ID{Ms: 5, Seq: 1}}},
	{`{"id":"0018446744073709551615-18446744073709551615","fields":[]}`, event.Event{ID: event.MaxID}},
	{`{"stream":"orders","id":"5-6","fields":{"a":"b"},"more":[{"x":1}],"f":2}`, event.Event{ID: event.ID{Ms: 5, Seq: 6}, Fields: fields("a", "b")}},
	{`{"fields":{"n":-1.50e+3,"t":true,"f":false,"z":null,"o":{ "x" : 1 },"l":[ ]}}`, event.Event{Fields: fields("n", "-1.50e+3", "t", "true", "f", "false", "z", "null", "o", `{ "x" : 1 }`, "l", "[ ]")}},
	{`{"fields":{"a":"\"\\\/\b\f\n\r\tA\u00e4\uD834\uDD1Eä\u0000end"}}`, event.Event{Fields: fields("a", "\"\\/\b\f\n\r\tAä𝄞ä\x00end")}},
	{`{"fields":{"\u0061":"1","a":"2"}}`, event.Event{Fields: fields("a", "1", "a", "2")}},
	{`{"fields":{"a":{"$base64":"/w=="}}}`, event.Event{Fields: fields("a", "\xff")}},
	{`{"fields":{"a":{ "$base64" : "" }}}`, event.Event{Fields: fields("a", "")}},
	{`{"fields":{"a":{"$base64":"AA==","x":1},"b":{"$base64":7},"c":{"$oid":"5"},"d":{"$base64":{}},"e":{"$base64x":"AA=="}}}`,
		event.Event{Fields: fields("a", `{"$base64":"AA==","x":1}`, "b", `{"$base64":7}`, "c", `{"$oid":"5"}`, "d", `{"$base64":{}}`, "e", `{"$base64x":"AA=="}`)}},
	{`{"fields":[ [ "a" , 1 ] , ["a",{"$base64":"/w=="}],[{"$base64":"\/w=="},{}] ]}`, event.Event{Fields: fields("a", "1", "a", "\xff", "\xff", "{}")}},
	{`{"type":"OrderPaid","order":1}`, event.Event{Fields: fields("type", "OrderPaid", "order", "1")}},
	{`{"id":"e-17","fields":"none","payload":{"a":[1]}}`, event.Event{Fields: fields("id", "e-17", "fields", "none", "payload", `{"a":[1]}`)}},
	{`{}`, event.Event{}},
}

func lenientLines() []string {
	var lines []string
	for _, tt := range lenient {
		lines = append(lines, tt.line)
	}
	return lines
}

func TestLenient(t *testing.T) {
	for _, tt := range lenient {
		b := &event.Batch{}
		if err := jsonl.ParseLine([]byte(tt.line), b); err != nil {
			t.Errorf("%s: %v", tt.line, err)
			continue
		}
		var got event.Event
		if b.Event(0, &got); !got.Equal(&tt.want) {
			t.Errorf("%s: got %q", tt.line, got)
		}
		if err := checkLine(&got); err != nil {
			t.Error(err)
		}
	}
}

func TestSyntaxErrors(t *testing.T) {
	for _, tt := range []struct {
		line   string
		column int
		reason string
	}{
		{``, 1, "expected an event"},
		{`[1]`, 1, "expected an event"},
		{`"a"`, 1, "expected an event"},
		{`{"a":1`, 7, "unexpected end"},
		{`{"a":"x`, 8, "unterminated"},
		{`{"a":`, 6, "unexpected end"},
		{`{"a"`, 5, "expected ':'"},
		{`{`, 2, "unexpected end"},
		{`{"a":1,}`, 8, "member name"},
		{`{,"a":1}`, 2, "member name"},
		{`{"a":1 "b":2}`, 8, "expected ','"},
		{`{"a" 1}`, 6, "expected ':'"},
		{`{a:1}`, 2, "member name"},
		{`{"a":1} x`, 9, "something follows"},
		{`{"a":1}{"a":1}`, 8, "something follows"},
		{`{"a":01}`, 6, "leading zero"},
		{`{"a":nul}`, 6, "JSON value"},
		{`{"a":NaN}`, 6, "JSON value"},
		{`{"a":'x'}`, 6, "JSON value"},
		{`{"a":[1,]}`, 9, "JSON value"},
		{`{"a":{"b":1,}}`, 13, "member name"},
		{`{"a":"\x"}`, 7, "unknown escape"},
		{`{"a":"\u12g4"}`, 7, "unknown escape"},
		{`{"a":"ok\n\ud800"}`, 11, "half a surrogate"},
		{`{"a":"\udc00"}`, 7, "half a surrogate"},
		{"{\"a\":\"\x01\"}", 7, "control character"},
		{"{\"a\":\"\\n\x01\"}", 9, "control character"},
		{"{\"a\":\"ä\xff\"}", 9, "UTF-8"},
		{`{"id":"x","fields":{}}`, 8, "invalid stream ID"},
		{`{"id":"1-","fields":{}}`, 8, "invalid stream ID"},
		{`{"id":"18446744073709551616-0","fields":{}}`, 8, "invalid stream ID"},
		{`{"id":"","fields":{}}`, 8, "invalid stream ID"},
		{`{"id":{},"fields":{}}`, 7, "invalid stream ID"},
		{`{"fields":{},"fields":{}}`, 14, `second "fields"`},
		{`{"id":"1-1","id":"1-2","fields":{}}`, 1, `second "id"`},
		{`{"fields":[1]}`, 12, "expected a field"},
		{`{"fields":[[]]}`, 14, "expected a field"},
		{`{"fields":[["a"]]}`, 17, "expected a field"},
		{`{"fields":[["a","b","c"]]}`, 21, "expected a field"},
		{`{"fields":[[1,"b"]]}`, 13, "expected a name"},
		{`{"fields":[[{"a":1},"b"]]}`, 13, "expected a name"},
		{`{"fields":[["a","b"`, 20, "unexpected end"},
		{`{"fields":[["a","b"],]}`, 22, "expected a field"},
		{`{"fields":{"a":{"$base64":"!"}}}`, 28, "base64"},
		{`{"fields":{"a":{"$base64":"/w"}}}`, 28, "base64"},
		{`{"a":` + strings.Repeat("[", 2000) + strings.Repeat("]", 2000) + `}`, 6 + 1024, "too deep"},
	} {
		err := jsonl.ParseLine([]byte(tt.line), &event.Batch{})
		var syntax *jsonl.SyntaxError
		if !errors.As(err, &syntax) {
			t.Errorf("%.60s: got error %v", tt.line, err)
			continue
		}
		if syntax.Column != tt.column || !strings.Contains(syntax.Reason, tt.reason) {
			t.Errorf("%.60s: got byte %d, %s; want byte %d, …%s…", tt.line, syntax.Column, syntax.Reason, tt.column, tt.reason)
		}
	}
}
