package consumer

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/reservoirhq/reservoir/event"
)

// TestFieldsRoundTrip: whatever an entry holds, its dead letter gives back.
func TestFieldsRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.OneOf(rapid.SliceOf(rapid.Byte()), rapid.Map(rapid.String(), func(s string) []byte { return []byte(s) }))
		want := event.Event{Fields: rapid.SliceOf(rapid.Custom(func(t *rapid.T) event.Field {
			return event.Field{Name: value.Draw(t, "name"), Value: value.Draw(t, "value")}
		})).Draw(t, "fields")}
		text, err := marshalFields(want.Fields)
		if err != nil {
			t.Fatal(err)
		}
		fields, err := unmarshalFields([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if got := (event.Event{Fields: fields}); !got.Equal(&want) {
			t.Fatalf("%q became %q", want.Fields, got.Fields)
		}
	})
}
