package sink

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/replay"
)

// Duration is a time.Duration whose JSON is text: "1m30s".
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is not a duration such as 30s or 1m30s", text)
	}
	*d = Duration(parsed)
	return nil
}

// decodeOptions reads the options of a kind into T, a struct with json tags. No
// options are an empty object; what T does not know is an error that names what
// it knows.
func decodeOptions[T any](kind string, raw json.RawMessage) (T, error) {
	var into T
	if len(bytes.TrimSpace(raw)) == 0 {
		return into, nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	err := d.Decode(&into)
	if err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("something follows the JSON object")
		}
	}
	if err != nil {
		var zero T
		return zero, remedy.Wrapf(fmt.Errorf("options of sink %s: %w", kind, err), "The options of %s are %s.", kind, strings.Join(optionNames[T](), ", "))
	}
	return into, nil
}

// parseOptions sets the fields of T that options name, over what it holds
// already, and returns its JSON. Lists are separated by commas; the entries of
// a map are options of their own: "headers.Authorization".
func parseOptions[T any](kind string, into T, options map[string]string) (json.RawMessage, error) {
	v := reflect.ValueOf(&into).Elem()
	for _, name := range slices.Sorted(maps.Keys(options)) {
		if err := setOption(v, name, options[name]); err != nil {
			return nil, remedy.Wrapf(fmt.Errorf("option %s of sink %s: %w", name, kind, err), "The options of %s are %s.", kind, strings.Join(optionNames[T](), ", "))
		}
	}
	return json.Marshal(into)
}

// optionNames returns the names of T's options.
func optionNames[T any]() []string {
	t := reflect.TypeFor[T]()
	names := make([]string, 0, t.NumField())
	for i := range t.NumField() {
		name := optionName(t.Field(i))
		if t.Field(i).Type.Kind() == reflect.Map {
			name += ".NAME"
		}
		names = append(names, name)
	}
	return names
}

func optionName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

// setOption sets the field of v that is called name.
func setOption(v reflect.Value, name, text string) error {
	whole, key, _ := strings.Cut(name, ".")
	for i := range v.NumField() {
		field := v.Field(i)
		isMap := field.Kind() == reflect.Map
		if n := optionName(v.Type().Field(i)); n != name && (!isMap || n != whole) {
			continue
		}
		if isMap {
			if key == "" {
				return fmt.Errorf("it takes a name: %s.NAME=value", whole)
			}
			if field.IsNil() {
				field.Set(reflect.MakeMap(field.Type()))
			}
			field.SetMapIndex(reflect.ValueOf(key), reflect.ValueOf(text))
			return nil
		}
		return setField(field, text)
	}
	return errors.New("there is no such option")
}

// setField gives a field the value that text means.
func setField(field reflect.Value, text string) error {
	if t, ok := field.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return t.UnmarshalText([]byte(text))
	}
	switch field.Kind() {
	case reflect.String:
		field.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		field.SetBool(b)
	case reflect.Int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", text)
		}
		field.SetInt(int64(n))
	case reflect.Slice:
		var parts []string
		for part := range strings.SplitSeq(text, ",") {
			if part = strings.TrimSpace(part); part != "" {
				parts = append(parts, part)
			}
		}
		field.Set(reflect.ValueOf(parts))
	default:
		return fmt.Errorf("a %s cannot be given as text", field.Kind())
	}
	return nil
}

// noPressure refuses back-pressure by a stream's length and groups, where the
// target is no stream.
func noPressure(kind string, o *replay.Opening) error {
	if o.BackPressure == (replay.BackPressure{}) {
		return nil
	}
	return remedy.Wrap(fmt.Errorf("sink %s: it cannot tell how far its readers are behind, and cannot hold for them", kind),
		"Leave back-pressure out, and give a rate.")
}

// oneOf checks an option that is one of a few words; empty is the first.
func oneOf(name string, value *string, words ...string) error {
	if *value == "" {
		*value = words[0]
	}
	if !slices.Contains(words, *value) {
		return fmt.Errorf("%s is %q: it must be %s", name, *value, strings.Join(words, " or "))
	}
	return nil
}

// atLeast gives an option its default, and checks that it is not too low or
// too high.
func atLeast(name string, value *int, byDefault, low, high int) error {
	if *value == 0 {
		*value = byDefault
	}
	if *value < low || *value > high {
		return fmt.Errorf("%s is %d: it must be from %d to %d", name, *value, low, high)
	}
	return nil
}
