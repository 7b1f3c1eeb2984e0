package event_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/reservoirhq/reservoir/event"
)

func TestMappingValidate(t *testing.T) {
	if err := event.DefaultMapping().Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	tests := []struct {
		name    string
		mapping event.Mapping
		want    []string // in the error; none: valid
	}{
		{"zero", event.Mapping{}, nil},
		{"none", event.Mapping{Tenant: []string{"-"}, Document: []string{"-"}}, nil},
		{"a default name of another attribute", event.Mapping{AggregateID: []string{"id"}}, nil},
		{"a document named like a payload", event.Mapping{Document: []string{"data"}, Payload: []string{"data"}}, nil},
		{"none beside others", event.Mapping{Tenant: []string{"a", "-"}}, []string{`tenant: "-"`, "alone"}},
		{"empty", event.Mapping{EventID: []string{""}}, []string{`event_id: ""`, "letter or digit"}},
		{"separators only", event.Mapping{Document: []string{"._:"}}, []string{`document: "._:"`}},
		{"twice", event.Mapping{Payload: []string{"my_data", "myData"}}, []string{`payload: "myData" is listed twice`}},
		{"in two", event.Mapping{Tenant: []string{"x"}, Payload: []string{"X"}}, []string{`payload: "X"`, "under tenant"}},
		{"every mistake", event.Mapping{Tenant: []string{""}, Payload: []string{" "}}, []string{"tenant: ", "payload: "}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.mapping.Validate()
			if (err == nil) != (tt.want == nil) {
				t.Fatalf("got %v", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q in it", err, want)
				}
			}
		})
	}
}

func TestMappingKeysAreAttributeNames(t *testing.T) {
	text, err := json.Marshal(event.DefaultMapping())
	if err != nil {
		t.Fatal(err)
	}
	var keys map[string][]string
	if err := json.Unmarshal(text, &keys); err != nil {
		t.Fatal(err)
	}
	for a := range event.NumAttributes {
		if len(keys[a.String()]) == 0 {
			t.Errorf("no key %s", a)
		}
	}
	if len(keys) != int(event.NumAttributes) {
		t.Errorf("%d keys, want %d", len(keys), event.NumAttributes)
	}
	if got := event.NumAttributes.String(); got != "unknown attribute" {
		t.Errorf("got %q", got)
	}
}
