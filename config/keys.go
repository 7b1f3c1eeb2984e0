package config

import (
	"encoding"
	"iter"
	"reflect"
	"strings"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/remedy"
)

// EnvPrefix begins the name of every environment variable that is a key.
const EnvPrefix = "RESERVOIR_"

// EnvFile is the environment variable that names the configuration file.
const EnvFile = "RESERVOIR_CONFIG"

// Key describes one key of the configuration.
type Key struct {
	Name    string   // as in the YAML file, with dots: redis.url
	Type    string   // text, list, number, yes/no, duration, size, URL, secret
	Default string   // as text; empty: none
	Enum    []string // the values it may take; empty: any
	Min     string   // the least number, duration or size; empty: any
	Doc     string   // what it means

	env     string // its variable, where that has a name of its own
	section string
	index   []int // of the struct field
	typ     reflect.Type
}

// Env gives the environment variable of the key. One that has a name of its own can
// be set by that of its key too.
func (k Key) Env() string {
	if k.env != "" {
		return k.env
	}
	return envName(k.Name)
}

// Section gives the name of the struct that holds the key: redis.tls.
func (k Key) Section() string { return k.section }

func envName(key string) string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// Keys lists every key, in the order of the struct.
func Keys() []Key {
	var keys []Key
	for k := range walk(reflect.TypeFor[Config](), "", nil) {
		if !k.isSection() {
			keys = append(keys, k)
		}
	}
	return keys
}

// Sections lists the sections with their documentation, in order.
func Sections() []Key {
	var sections []Key
	for k := range walk(reflect.TypeFor[Config](), "", nil) {
		if k.isSection() {
			sections = append(sections, k)
		}
	}
	return sections
}

func (k Key) isSection() bool { return k.Type == "" }

// walk gives every section and key below a struct type, sections first.
func walk(t reflect.Type, section string, index []int) iter.Seq[Key] {
	return func(yield func(Key) bool) {
		for i := range t.NumField() {
			f := t.Field(i)
			name := f.Tag.Get("koanf")
			if section != "" {
				name = section + "." + name
			}
			k := Key{
				Name: name, section: section, typ: f.Type,
				Type:    typeName(f.Type),
				Default: f.Tag.Get("default"),
				Min:     f.Tag.Get("min"),
				Doc:     f.Tag.Get("doc"),
				env:     f.Tag.Get("env"),
				index:   append(index[:len(index):len(index)], i),
			}
			if enum := f.Tag.Get("enum"); enum != "" {
				k.Enum = strings.Split(enum, ",")
			}
			if t == reflect.TypeFor[event.Mapping]() {
				k.Doc = envelopeDoc(i)
			}
			if !yield(k) {
				return
			}
			if !k.isSection() {
				continue
			}
			for sub := range walk(f.Type, name, k.index) {
				if !yield(sub) {
					return
				}
			}
		}
	}
}

// envelopeDoc describes field i of event.Mapping, which documents itself in
// prose and has its defaults in code.
func envelopeDoc(i int) string {
	if names, ok := reflect.ValueOf(event.DefaultMapping()).Field(i).Interface().([]string); ok && len(names) > 0 {
		return "Empty: " + strings.Join(names, ", ") + "."
	}
	return "Fields that hold a whole event as a JSON object; empty: recognised where it is plain."
}

var textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

// typeName names a type for people; it is empty for a section.
func typeName(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[Duration]():
		return "duration"
	case reflect.TypeFor[Size]():
		return "size"
	case reflect.TypeFor[Secret]():
		return "secret"
	case reflect.TypeFor[URL]():
		return "URL"
	}
	switch t.Kind() {
	case reflect.Struct:
		return ""
	case reflect.Slice:
		return "list"
	case reflect.Bool:
		return "yes/no"
	case reflect.Int:
		return "number"
	default:
		return "text"
	}
}

// schema answers what keys there are.
type schema struct {
	keys     []Key
	byName   map[string]Key
	byEnv    map[string]Key
	sections map[string]bool
}

func newSchema() *schema {
	s := &schema{keys: Keys(), byName: map[string]Key{}, byEnv: map[string]Key{}, sections: map[string]bool{}}
	for _, k := range s.keys {
		s.byName[k.Name] = k
		s.byEnv[k.Env()], s.byEnv[envName(k.Name)] = k, k
	}
	for _, k := range Sections() {
		s.sections[k.Name] = true
	}
	return s
}

// nearest gives the name among names that a typo of it most likely meant, or
// "" when none is near.
func nearest(typo string, names iter.Seq[string]) string {
	best, bestDistance := "", max(2, len(typo)/4)+1
	for name := range names {
		d := remedy.Distance(strings.ToLower(typo), strings.ToLower(name))
		// The right name in the wrong section, or without one.
		if tail(name) == tail(typo) && d >= bestDistance && best == "" {
			best = name
		}
		if d < bestDistance {
			best, bestDistance = name, d
		}
	}
	return best
}

func tail(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }
