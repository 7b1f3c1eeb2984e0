package config

import (
	"encoding"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/v2"
)

// Sources says where Load looks. Nothing else is read: a test that gives none
// of them gets the defaults (and the default files, see File).
type Sources struct {
	// File names the configuration file. Empty: RESERVOIR_CONFIG of Environ,
	// else ./reservoir.yaml, else /etc/reservoir/reservoir.yaml, else none.
	File string
	// Environ is as os.Environ gives it.
	Environ []string
	// Flags are the values that flags gave to keys.
	Flags []Flag
}

// Flag is a value that a command-line flag gave to a key.
type Flag struct {
	Key   string // redis.url
	Name  string // redis-url
	Value string
}

// Loaded is a configuration and where its values came from.
type Loaded struct {
	Config
	// File is the configuration file that was read; empty: none.
	File string

	origins map[string]Origin
}

// Origin says where the value of a key came from.
func (l *Loaded) Origin(key string) Origin { return l.origins[key] }

// Text gives the value of a key as text that would parse to the same value,
// except that secrets are hidden.
func (l *Loaded) Text(k Key) string {
	return text(reflect.ValueOf(&l.Config).Elem().FieldByIndex(k.index))
}

func text(v reflect.Value) string {
	if v.Kind() == reflect.Slice {
		items := make([]string, v.Len())
		for i := range items {
			items[i] = text(v.Index(i))
		}
		return strings.Join(items, ",")
	}
	return fmt.Sprint(v.Interface())
}

// setting is a value (string or []string) that a layer gives to a key.
type setting struct {
	value  any
	origin Origin
}

// layer holds the settings of one source, by key.
type layer map[string]setting

// Load reads the configuration and checks it. The error is an *Error with
// everything that is wrong, or one of reading a file.
func Load(src Sources) (*Loaded, error) {
	s := newSchema()
	named := src.File
	for _, kv := range src.Environ {
		if file, ok := strings.CutPrefix(kv, EnvFile+"="); ok && named == "" {
			named = file
		}
	}
	file, yaml, err := readFile(named)
	if err != nil {
		return nil, err
	}
	fromFile, problems := parseYAML(file, yaml, s)
	fromEnv, more := parseEnv(src.Environ, s)
	problems = append(problems, more...)

	l := &Loaded{File: file, origins: map[string]Origin{}}
	k := koanf.New(".")
	for _, layer := range []layer{defaults(s), fromFile, fromEnv, flags(src.Flags)} {
		values := make(map[string]any, len(layer))
		for key, set := range layer {
			values[key] = set.value
			l.origins[key] = set.origin
		}
		if err := k.Load(confmap.Provider(values, "."), nil); err != nil {
			return nil, fmt.Errorf("merging the configuration: %w", err)
		}
	}
	err = k.UnmarshalWithConf("", &l.Config, koanf.UnmarshalConf{DecoderConfig: &mapstructure.DecoderConfig{
		DecodeHook:  decodeText,
		ErrorUnused: true,
	}})
	problems = append(problems, decodeProblems(err)...)
	if len(problems) == 0 {
		problems = l.readSecrets()
	}
	if len(problems) == 0 {
		problems = l.Config.problems()
	}
	if len(problems) > 0 {
		l.locate(problems)
		return nil, &Error{problems}
	}
	return l, nil
}

// locate adds to problems where the values came from.
func (l *Loaded) locate(problems []Problem) {
	for i := range problems {
		if p := &problems[i]; p.Origin == (Origin{}) {
			p.Origin = l.origins[p.Key]
		}
	}
}

func defaults(s *schema) layer {
	values := layer{}
	for _, k := range s.keys {
		if k.Default != "" {
			values[k.Name] = setting{value: k.Default}
		}
	}
	return values
}

func flags(list []Flag) layer {
	values := layer{}
	for _, f := range list {
		values[f.Key] = setting{value: f.Value, origin: Origin{Layer: LayerFlag, Name: "--" + f.Name}}
	}
	return values
}

// decodeText turns the text of a value into its type.
func decodeText(_, to reflect.Type, data any) (any, error) {
	s, ok := data.(string)
	if !ok {
		return data, nil
	}
	if reflect.PointerTo(to).Implements(textUnmarshaler) {
		v := reflect.New(to)
		if err := v.Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(s)); err != nil {
			return nil, err
		}
		return v.Elem().Interface(), nil
	}
	switch to.Kind() {
	case reflect.Int:
		n, err := strconv.Atoi(s)
		if err != nil {
			return nil, fmt.Errorf("%q is not a whole number", s)
		}
		return n, nil
	case reflect.Bool:
		switch strings.ToLower(s) {
		case "true", "yes", "on", "1":
			return true, nil
		case "false", "no", "off", "0":
			return false, nil
		}
		return nil, fmt.Errorf("%q is neither true nor false", s)
	case reflect.Slice:
		var items []string
		for item := range strings.SplitSeq(s, ",") {
			if item = strings.TrimSpace(item); item != "" {
				items = append(items, item)
			}
		}
		return items, nil
	default:
		return s, nil
	}
}

// decodeProblems takes apart what mapstructure joined.
func decodeProblems(err error) []Problem {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var problems []Problem
		for _, err := range joined.Unwrap() {
			problems = append(problems, decodeProblems(err)...)
		}
		return problems
	}
	var de *mapstructure.DecodeError
	if !errors.As(err, &de) {
		return []Problem{{Key: "configuration", What: err.Error()}}
	}
	if joined := decodeProblems(errors.Unwrap(de)); len(joined) > 0 && joined[0].Key != "configuration" {
		return joined // a section's error names the key below it
	}
	return []Problem{{Key: de.Name(), What: de.Unwrap().Error()}}
}

// readSecrets reads the files that hold secrets. Where the secret itself is
// set too, the one from the higher layer counts; in the same one they conflict.
func (l *Loaded) readSecrets() (problems []Problem) {
	for _, s := range []struct {
		key    string
		secret *Secret
		file   string
	}{
		{"redis.password", &l.Redis.Password, l.Redis.PasswordFile},
		{"redis.sentinel_password", &l.Redis.SentinelPassword, l.Redis.SentinelPassFile},
		{"store.secret_key", &l.Store.SecretKey, l.Store.SecretKeyFile},
		{"clickhouse.password", &l.ClickHouse.Password, l.ClickHouse.PasswordFile},
		{"clickhouse.s3.secret_key", &l.ClickHouse.S3.SecretKey, l.ClickHouse.S3.SecretKeyFile},
		{"client.token", &l.Client.Token, l.Client.TokenFile},
	} {
		if s.file == "" {
			continue
		}
		fileKey := s.key + "_file"
		if !s.secret.IsZero() {
			own, file := l.origins[s.key], l.origins[fileKey]
			if own.Layer > file.Layer {
				continue
			}
			if own.Layer == file.Layer {
				problems = append(problems, Problem{Key: fileKey, Value: s.file, What: "set together with " + s.key, Want: "want one of them"})
				continue
			}
		}
		text, err := os.ReadFile(s.file)
		if err != nil {
			problems = append(problems, Problem{Key: fileKey, What: err.Error()})
			continue
		}
		*s.secret = NewSecret(strings.TrimRight(string(text), "\r\n"))
		l.origins[s.key] = Origin{Layer: l.origins[fileKey].Layer, Name: "file " + s.file}
	}
	return problems
}

// Redact replaces in text every secret of the configuration, for messages that
// come from elsewhere and may quote one.
func (l *Loaded) Redact(text string) string {
	secrets := []string{
		l.Redis.Password.text, l.Redis.SentinelPassword.text, l.Store.SecretKey.text,
		l.ClickHouse.Password.text, l.ClickHouse.S3.SecretKey.text, l.Client.Token.text,
	}
	for _, u := range []URL{l.Redis.URL, l.Store.URL, l.ClickHouse.URL, l.Client.URL} {
		text = replaceSecret(text, u.text, u.String())
		from, to := u.password()
		secrets = append(secrets, u.text[from:to])
	}
	// The longest first: one may hold another.
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) })
	for _, s := range secrets {
		text = replaceSecret(text, s, hidden)
	}
	return text
}

func replaceSecret(text, secret, by string) string {
	if len(secret) < 4 { // replacing "a" everywhere helps no one
		return text
	}
	return strings.ReplaceAll(text, secret, by)
}
