package projection

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

type innerPayload struct {
	Cents    uint64 `json:"cents"`
	Currency string `json:"currency"`
}

type testPayload struct {
	Order   uint64  `json:"order"`
	Name    string  `json:"name"`
	Small   int8    `json:"small"`
	Number  int64   `json:"number"`
	Part    uint16  `json:"part"`
	Rate    float64 `json:"rate"`
	OK      bool
	Amount  innerPayload `json:"amount"`
	Lines   []innerPayload
	Any     any               `json:"any"`
	Texts   map[string]string `json:"texts"`
	At      *time.Time        `json:"at"`
	Later   time.Time         `json:"later"`
	Raw     json.RawMessage   `json:"raw"`
	Exact   json.Number       `json:"exact"`
	Ignored string            `json:"-"`
}

// decoded is what Decode and encoding/json make of a payload.
func decoded(t interface{ Fatalf(string, ...any) }, payload string) (ok bool) {
	var fast, slow testPayload
	fastErr := (&Event{Payload: payload, shapes: &shapes{}}).Decode(&fast)
	slowErr := json.Unmarshal([]byte(payload), &slow)
	if (fastErr == nil) != (slowErr == nil) {
		t.Fatalf("%q: %v, and encoding/json says %v", payload, fastErr, slowErr)
	}
	if fastErr == nil && !reflect.DeepEqual(fast, slow) {
		t.Fatalf("%q is\n%+v, and for encoding/json\n%+v", payload, fast, slow)
	}
	return fastErr == nil
}

func TestDecodeAsEncodingJSONDoes(t *testing.T) {
	for payload, ok := range map[string]bool{
		``: false, ` `: false, `null`: true, `{}`: true, " {\t}\n": true, `[]`: false, `{`: false, `{"order"`: false, `{"order":}`: false,
		`{"order":1}`: true, `{"order":1}x`: false, `{"order":1,}`: false, `{"order":1 "name":"x"}`: false, `{,}`: false, `{"order" : 1 , "name" :"x"}`: true,
		`{"order":-1}`: false, `{"order":1.5}`: false, `{"order":01}`: false, `{"order":1e2}`: false, `{"order":"1"}`: false, `{"order":null}`: true,
		`{"order":18446744073709551615}`: true, `{"order":18446744073709551616}`: false, `{"order":30000000000000000000}`: false,
		`{"number":-9223372036854775808}`: true, `{"number":9223372036854775808}`: false, `{"number":-0}`: true, `{"number":-}`: false,
		`{"small":127}`: true, `{"small":128}`: false, `{"small":-128}`: true, `{"small":-129}`: false, `{"part":65535}`: true, `{"part":65536}`: false,
		`{"rate":1}`: true, `{"rate":-1.5e-3}`: true, `{"rate":.5}`: false, `{"rate":1.}`: false, `{"rate":1e400}`: false, `{"rate":nul}`: false,
		`{"OK":true}`: true, `{"OK":false,"ok":true}`: true, `{"OK":tru}`: false, `{"OK":"true"}`: false, `{"OK":0}`: false,
		`{"name":"a\"b\\c\/\b\f\n\r\t\u00e9\ud83d\ude00"}`: true, `{"name":"\ud83d"}`: true, `{"name":"\x"}`: false, `{"name":"\u12"}`: false,
		"{\"name\":\"a\nb\"}": false, "{\"name\":\"a\x00b\"}": false, "{\"name\":\"ring twice – thank you\"}": true, "{\"name\":\"\xff\xfe\"}": true,
		"{\"name\":\"\x7f\"}": true, "{\"other\":\"\xff\"}": true, "{\"other\":\"\x01\"}": false, `{"name":"unended`: false, `{"name":"unended\`: false, `{"name":"unended\"}`: false,
		`{"NAME":"folded"}`: true, `{"nam\u0065":"escaped"}`: true, "{\"\u212awn\":1}": true, `{"name":"first","name":"second"}`: true,
		`{"amount":{"cents":5,"currency":"EUR","more":[1,{"a":[]}]},"order":7}`: true, `{"amount":null}`: true, `{"amount":[]}`: false, `{"amount":{"cents":"5"}}`: false,
		`{"amount":{"cents":1},"amount":{"currency":"x"}}`: true, `{"Lines":[{"cents":1},{}]}`: true, `{"Lines":{}}`: false, `{"Lines":[1]}`: false,
		`{"any":{"a":[1,2.5,"x",null,true]},"texts":{"a":"b"},"raw":{"x" : 1},"exact":1.50}`: true, `{"exact":"x"}`: false,
		`{"at":"2026-01-02T03:04:05Z","later":"2026-01-02T03:04:05.123456Z"}`: true, `{"later":"yesterday"}`: false,
		`{"ignored":"x","Ignored":"y","-":"z"}`: true, `{"x":[1,2,[3,{"y":"z"}],{}],"y":{"z":{}}}`: true, `{"x":[1,]}`: false, `{"x":{"y"}}`: false, `{"x":{1:2}}`: false,
		`{"x":-}`: false, `{"x":00}`: false, `{"x":1e}`: false, `{"x":1e+}`: false, `{"x":1.}`: false, `{"x":nulL}`: false, `{"x":"\u00zz"}`: false,
		`{"x":` + strings.Repeat("[", 2*maxNested) + strings.Repeat("]", 2*maxNested) + `}`: true,
	} {
		if decoded(t, payload) != ok {
			t.Errorf("%q: it is read: %v", payload, !ok)
		}
	}
}

func TestDecodeAnyTextAsEncodingJSONDoes(t *testing.T) {
	parts := []string{
		`"order":`, `"name":`, `"small":`, `"rate":`, `"OK":`, `"amount":`, `"cents":`, `"other":`, `"Name":`, `"any":`, `"Lines":`, `"exact":`,
		`{`, `}`, `[`, `]`, `,`, ` `, "\n", `:`, `"`, `\`, `\u0041`, `"text"`, `"longer than eight"`, `"é"`, `"\n"`, `1`, `-`, `0`, `12345678901234567890`, `.5`, `e3`, `true`, `false`, `null`, "\x00", "\xff",
	}
	rapid.Check(t, func(t *rapid.T) {
		decoded(t, strings.Join(rapid.SliceOfN(rapid.SampledFrom(parts), 0, 12).Draw(t, "parts"), ""))
	})
	rapid.Check(t, func(t *rapid.T) { // what is mostly right
		var members []string
		for _, name := range rapid.SliceOfN(rapid.SampledFrom([]string{"order", "name", "small", "number", "part", "rate", "OK", "amount", "texts", "x", "NAME", "Lines"}), 0, 6).Draw(t, "names") {
			value := rapid.OneOf(
				rapid.SampledFrom([]string{`1`, `-1`, `200`, `70000`, `1.5`, `"x"`, `"\t"`, `true`, `null`, `{}`, `[]`, `{"cents":3, "currency":"EUR"}`, `[{"cents":3}]`, `{"a":"b"}`}),
				rapid.Custom(func(t *rapid.T) string {
					text, err := json.Marshal(rapid.String().Draw(t, "text"))
					if err != nil {
						t.Fatal(err)
					}
					return string(text)
				})).Draw(t, "value")
			members = append(members, `"`+name+`":`+value)
		}
		text := "{" + strings.Join(members, ",") + "}"
		if rapid.Bool().Draw(t, "spoiled") && len(text) > 2 {
			at := rapid.IntRange(0, len(text)-1).Draw(t, "at")
			text = text[:at] + string(rapid.Byte().Draw(t, "byte")) + text[at+1:]
		}
		decoded(t, text)
	})
}

// Shapes that only the library knows are left to it.
func TestStrangeShapes(t *testing.T) {
	for _, v := range []any{
		time.Time{}, json.Number(""), 5, struct{ innerPayload }{}, struct{ A, a string }{},
		struct {
			A string `json:"a"`
			B string `json:"A"`
		}{},
		struct {
			N int `json:",string"`
		}{},
		struct {
			N int `json:"naïve"`
		}{},
	} {
		s := (&shapes{}).of(reflect.TypeOf(v))
		if _, plain := v.(struct{ A, a string }); plain == (s == nil) {
			t.Errorf("%T: %+v", v, s)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	type payload struct {
		Order  uint64 `json:"order"`
		Amount innerPayload
		Item   struct {
			SKU      string `json:"sku"`
			Quantity uint32 `json:"quantity"`
		} `json:"item"`
		Channel string `json:"channel"`
	}
	const text = `{"order":123456,"kind":"PaymentAuthorized","amount":{"cents":5670,"currency":"EUR"},"item":{"sku":"SKU-1001 coffee beans 1kg","quantity":3},` +
		`"customer":{"id":"c-004711","country":"DE"},"channel":"web","note":"ring twice – thank you"}`
	for name, s := range map[string]*shapes{"shape": {}, "library": nil} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				var p payload
				if err := (&Event{Payload: text, shapes: s}).Decode(&p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
