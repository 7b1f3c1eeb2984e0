package event_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/reservoirhq/reservoir/event"
)

// checkDocument compares what an Extractor finds in a document with what
// encoding/json does.
func checkDocument(t interface {
	Fatalf(string, ...any)
	Helper()
}, doc string) {
	t.Helper()
	e := entry("d", doc)
	var env event.Envelope
	shape := event.Mapping{Document: []string{"d"}}.Extractor().Extract(e, &env)
	object := json.Valid([]byte(doc)) && strings.HasPrefix(strings.TrimLeft(doc, " \t\r\n"), "{")
	if (shape.Embedded >= 0) != object {
		t.Fatalf("%q is a document: %t", doc, !object)
	}
	if !object {
		return
	}
	prefix, suffix, _ := env.Splice()
	payload, _ := env.Get(event.Payload)
	if got := string(prefix) + string(payload) + string(suffix); got != doc {
		t.Fatalf("%q is spliced to %q", doc, got)
	}
	if !utf8.ValidString(doc) {
		return // encoding/json replaces what is not UTF-8
	}
	want, err := naiveDocument(doc)
	if err != nil {
		t.Fatalf("%q: %v", doc, err)
	}
	for a := range event.NumAttributes {
		got, ok := env.Get(a)
		if text, has := want[a]; ok != has || string(got) != text {
			t.Fatalf("%q: %s is %q, %t, want %q, %t", doc, a, got, ok, text, has)
		}
	}
}

// naiveDocument is the envelope of a valid document, made in the simplest way.
func naiveDocument(doc string) (map[event.Attribute]string, error) {
	type named struct {
		name  string
		value json.RawMessage
	}
	var members []named
	dec := json.NewDecoder(strings.NewReader(doc))
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, err
		}
		m := named{name: naiveFold(fmt.Sprint(key))}
		if err := dec.Decode(&m.value); err != nil {
			return nil, err
		}
		members = append(members, m)
	}
	var names map[string][]string
	if text, err := json.Marshal(event.DefaultMapping()); err != nil {
		return nil, err
	} else if err := json.Unmarshal(text, &names); err != nil {
		return nil, err
	}
	out := map[event.Attribute]string{event.Payload: doc}
	for a := range event.NumAttributes {
		find := func() (json.RawMessage, bool) {
			for _, name := range names[a.String()] {
				for _, m := range members {
					scalar := !bytes.ContainsAny(m.value[:1], "{[") || a == event.Payload
					if m.name == naiveFold(name) && string(m.value) != "null" && scalar {
						return m.value, true
					}
				}
			}
			return nil, false
		}
		value, ok := find()
		if !ok {
			continue
		}
		out[a] = string(value)
		if value[0] == '"' && a != event.Payload {
			var text string
			if err := json.Unmarshal(value, &text); err != nil {
				return nil, err
			}
			out[a] = text
		}
	}
	return out, nil
}

func naiveFold(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case strings.ContainsRune("-_.: ", r):
			return -1
		case 'A' <= r && r <= 'Z':
			return r + 'a' - 'A'
		default:
			return r
		}
	}, name)
}

var documents = []string{
	``, ` `, `{`, `}`, `{}`, ` {} `, "\t{\r\n}", `{}{}`, `[]`, `null`, `"x"`, `{"id"}`, `{"id":}`, `{"id":1,}`, `{,"id":1}`,
	`{"id":1 "type":2}`, `{'id':1}`, `{id:1}`, `{"id":01}`, `{"id":-}`, `{"id":1.}`, `{"id":.5}`, `{"id":1e}`, `{"id":+1}`,
	`{"id":-0.5e+10,"type":0}`, `{"id":tru}`, `{"id":true,"type":false,"name":null}`, `{"id":nul`, `{"id":"a`, `{"id":"a\`,
	`{"id":"\u12"}`, `{"id":"\u12G4"}`, `{"id":"\x"}`, "{\"id\":\"a\nb\"}", `{"id":"\"\\\/\b\f\n\r\t\u00E9"}`,
	`{"id":"\ud83d\ude00 \ud83d \ude00 \ud83d\u0041 \ud83d\ud83d\ude00 \ud83d\n"}`, `{"\u0069\u0064":1}`, `{"i\ud83dd":1}`,
	`{"data":{"id":"inner"},"id":"outer"}`, `{"data":[1,[2,{"a":[]}],{}],"type":"T"}`, `{"data":[}`, `{"data":{]}`,
	`{"data":[1,]}`, `{"data":{"a":1,}}`, `{"data":{"a"}}`, `{"data":{1:2}}`, `{"data":[1 2]}`, `{"data":[[]`, `{"a":1}x`,
	`{"id":{"a":1},"uuid":[1],"ce_id":7}`, `{"id":"first","id":"second"}`, `{"message_id":1,"id":2,"EVENT-ID":3}`,
	`{"specversion":"1.0","id":"e1","type":"T","time":"2026-11-21T07:00:00Z","data":"text"}`, `{"data":null,"body":5}`,
	"{\"id\":\"\xff\"}", `{"":1}`, `{"data":` + strings.Repeat("[", 9999) + strings.Repeat("]", 9999) + `}`,
	`{"data":` + strings.Repeat("[", 10000) + strings.Repeat("]", 10000) + `}`,
	`{"data":` + strings.Repeat(`{"a":[`, 70) + strings.Repeat("]}", 70) + `}`,
	`{"data":` + strings.Repeat(`{"a":[`, 70) + strings.Repeat("}]", 70) + `}`,
}

func TestDocuments(t *testing.T) {
	for _, doc := range documents {
		checkDocument(t, doc)
		for i := range min(len(doc), 300) {
			checkDocument(t, doc[:i])
		}
	}
}

func TestDocumentProperties(t *testing.T) {
	piece := rapid.SampledFrom([]string{
		`{`, `}`, `[`, `]`, `,`, `:`, ` `, `"id"`, `"type"`, `"data"`, `"event-type"`, `"a\n"`, `1`, `-2.5e3`, `true`, `null`, `""`,
		`{}`, `[]`, `"id":1`, `"data":{"x":[1,2]}`, `"type":"T"`, `"name":"\u00e9"`, `"payload":null`, `\`, `"`,
	})
	value := rapid.Deferred(func() *rapid.Generator[string] {
		return rapid.SampledFrom([]string{`1`, `"x"`, `"\u0041"`, `null`, `{"a":[{}]}`, `[[],{}]`, `false`, ` 7 `})
	})
	key := rapid.SampledFrom([]string{"id", "eventId", "type", "data", "payload", "body", "tenant", "x", "Time", `\u0069d`})
	rapid.Check(t, func(t *rapid.T) {
		checkDocument(t, `{`+strings.Join(rapid.SliceOfN(piece, 0, 12).Draw(t, "pieces"), ""))
		var members []string
		for range rapid.IntRange(0, 8).Draw(t, "members") {
			members = append(members, `"`+key.Draw(t, "key")+`":`+value.Draw(t, "value"))
		}
		checkDocument(t, ` {`+strings.Join(members, ",")+"}\n")
	})
}

func FuzzDocument(f *testing.F) {
	for _, doc := range documents {
		if len(doc) < 1000 {
			f.Add(doc)
		}
	}
	f.Fuzz(func(t *testing.T, doc string) { checkDocument(t, doc) })
}
