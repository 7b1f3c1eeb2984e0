package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"
)

// write makes a configuration file and returns its name.
func write(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "reservoir.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestDefaults(t *testing.T) {
	t.Chdir(t.TempDir())
	l, err := Load(Sources{})
	if err != nil {
		t.Fatal(err)
	}
	if l.File != "" {
		t.Errorf("read %q", l.File)
	}
	if got := l.Archive.Roll.Size; got != 128<<20 {
		t.Errorf("archive.roll.size = %d", got)
	}
	if got := l.Archive.Formats; !reflect.DeepEqual(got, []string{"jsonl", "parquet"}) {
		t.Errorf("archive.formats = %q", got)
	}
	for _, k := range Keys() {
		if l.Origin(k.Name).String() != "default" {
			t.Errorf("%s comes from %s", k.Name, l.Origin(k.Name))
		}
		// A default is written as it is printed, or the documentation lies.
		if got := l.Text(k); got != k.Default {
			t.Errorf("%s: default %q prints as %q", k.Name, k.Default, got)
		}
	}
}

func TestPrecedence(t *testing.T) {
	const key, env = "archive.roll.count", "RESERVOIR_ARCHIVE_ROLL_COUNT=3"
	flag := Flag{Key: key, Name: "roll-count", Value: "4"}
	file := write(t, "archive:\n  roll:\n    count: 2\n")
	empty := write(t, "")
	for _, c := range []struct {
		name   string
		src    Sources
		want   int
		origin string
	}{
		{"default", Sources{File: empty}, 1_000_000, "default"},
		{"file", Sources{File: file}, 2, file + ":3"},
		{"file named by the environment", Sources{Environ: []string{"RESERVOIR_CONFIG=" + file}}, 2, file + ":3"},
		{"flag names another file", Sources{File: empty, Environ: []string{"RESERVOIR_CONFIG=" + file}}, 1_000_000, "default"},
		{"environment over file", Sources{File: file, Environ: []string{env}}, 3, "RESERVOIR_ARCHIVE_ROLL_COUNT"},
		{"environment without file", Sources{File: empty, Environ: []string{env}}, 3, "RESERVOIR_ARCHIVE_ROLL_COUNT"},
		{"flag over all", Sources{File: file, Environ: []string{env}, Flags: []Flag{flag}}, 4, "--roll-count"},
		{"flag over default", Sources{File: empty, Flags: []Flag{flag}}, 4, "--roll-count"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := Load(c.src)
			if err != nil {
				t.Fatal(err)
			}
			if l.Archive.Roll.Count != c.want {
				t.Errorf("count = %d, want %d", l.Archive.Roll.Count, c.want)
			}
			if got := l.Origin(key).String(); got != c.origin {
				t.Errorf("origin = %s, want %s", got, c.origin)
			}
			if l.Archive.Roll.Age != Duration(30*time.Second) {
				t.Errorf("a neighbour changed: age = %s", l.Archive.Roll.Age)
			}
		})
	}
}

func TestDefaultFileIsFound(t *testing.T) {
	dir := filepath.Dir(write(t, "redis: {db: 7}"))
	t.Chdir(dir)
	l, err := Load(Sources{})
	if err != nil {
		t.Fatal(err)
	}
	if l.File != "reservoir.yaml" || l.Redis.DB != 7 {
		t.Errorf("file %q, db %d", l.File, l.Redis.DB)
	}
}

func TestNamedFileMustExist(t *testing.T) {
	_, err := Load(Sources{File: filepath.Join(t.TempDir(), "no.yaml")})
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("err = %v", err)
	}
}

// TestText: scalars mean what was written, not what YAML makes of them.
func TestText(t *testing.T) {
	file := write(t, `
redis: {password: 0123, username: no, sentinel_password: 1e3, master_name: ~}
archive: {group: "", formats: [parquet], trim: {enabled: yes}}
streams:
  include: &names [on, "a,b", 2026-11-21]
  exclude: *names
store:
`)
	l, err := Load(Sources{File: file, Environ: []string{"RESERVOIR_STREAMS_EXCLUDE= x*, ,y "}})
	if err != nil {
		t.Fatal(err)
	}
	if got := l.Redis.Password.Reveal(); got != "0123" {
		t.Errorf("password %q", got)
	}
	if got := l.Redis.SentinelPassword.Reveal(); got != "1e3" {
		t.Errorf("sentinel password %q", got)
	}
	if l.Redis.Username != "no" || !l.Archive.Trim.Enabled {
		t.Errorf("username %q, trim %v", l.Redis.Username, l.Archive.Trim.Enabled)
	}
	if got, want := l.Streams.Include, []string{"on", "a,b", "2026-11-21"}; !reflect.DeepEqual(got, want) {
		t.Errorf("include %q", got)
	}
	if got, want := l.Streams.Exclude, []string{"x*", "y"}; !reflect.DeepEqual(got, want) {
		t.Errorf("exclude %q", got)
	}
	if got, want := l.Archive.Formats, []string{"parquet"}; !reflect.DeepEqual(got, want) {
		t.Errorf("a list of the file does not replace the default: %q", got)
	}
}

// TestProblems: every mistake gives one line that says where, what, and what
// would be right.
func TestProblems(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	for _, c := range []struct {
		name, yaml, env string
		want            []string
	}{
		{"typo", "redis:\n  urll: x", "", []string{"redis.urll", "reservoir.yaml:2", "unknown key", "did you mean redis.url?"}},
		{"swapped letters", "redis:\n  ulr: x", "", []string{"redis.ulr", "unknown key", "did you mean redis.url?"}},
		{"typo of a section", "redsi:\n  url: x", "", []string{"redsi", ":1", "did you mean redis?"}},
		{"wrong section", "concurrency: 3", "", []string{"unknown key", "did you mean archive.concurrency?"}},
		{"nothing near", "completely_different: 3", "", []string{"completely_different", "unknown key"}},
		{"several", "a_b_c_d: 1\nredis: {db: x}\nlog: {level: loud}", "", []string{"2 problems", "a_b_c_d", `redis.db`, `"x" is not a whole number`}},
		{"readers of a directory", "store: {url: file:///a}\nclickhouse: {readers: all}", "", []string{"clickhouse.readers", "store.url is a directory", "want an archive on S3"}},
		{"replicas of nothing", "clickhouse: {replicated: true}", "", []string{"clickhouse.replicated", "is set without clickhouse.cluster"}},
		{"variable typo", "", "RESERVOIR_REDIS_ULR=x", []string{"RESERVOIR_REDIS_ULR", "did you mean RESERVOIR_REDIS_URL?"}},
		{"variable value", "", "RESERVOIR_REDIS_DB=x", []string{"redis.db (RESERVOIR_REDIS_DB)", "whole number"}},
		{"twice", "redis: {db: 1}\nredis: {db: 2}", "", []string{"redis", ":2", "already set in line 1"}},
		{"not a section", "redis: localhost", "", []string{"redis", ":1", "is a section"}},
		{"not a mapping", "- redis", "", []string{"is a section"}},
		{"not a value", "redis: {db: {x: 1}}", "", []string{"redis.db", "want one value of type number"}},
		{"list for text", "redis: {username: [a, b]}", "", []string{"redis.username", "want one value of type text"}},
		{"nested list", "streams: {include: [[a]]}", "", []string{"streams.include", "want a list of texts"}},
		{"broken YAML", "redis: [", "", []string{"reservoir.yaml", "line 1"}},
		{"two documents", "redis: {db: 1}\n---\nredis: {db: 2}", "", []string{"more than one YAML document"}},
		{"duration", "archive: {roll: {age: 30}}", "", []string{"archive.roll.age", ":1", `"30"`, "30s"}},
		{"size", "archive:\n  roll:\n    size: 12 parsecs", "", []string{"archive.roll.size", ":3", "64MiB"}},
		{"boolean", "archive: {trim: {enabled: maybe}}", "", []string{"archive.trim.enabled", "neither true nor false"}},
		{"too small", "archive: {concurrency: 0}", "", []string{"archive.concurrency", ":1", "want at least 1", `"0"`}},
		{"negative", "archive: {trim: {retain: -1s}}", "", []string{"archive.trim.retain", "want at least 0s"}},
		{"enum", "log: {level: loud}", "", []string{"log.level", "loud", "want debug or info or warn or error"}},
		{"enum in a list", "archive: {formats: [avro]}", "", []string{"archive.formats", "avro", "jsonl or parquet"}},
		{"no formats", "archive: {formats: []}", "", []string{"archive.formats", "want jsonl"}},
		{"poll", "archive: {poll: {interval: 1m}}", "", []string{"archive.poll.max_interval", "want at least 1m"}},
		{"half a certificate", "redis: {tls: {cert_file: x}}", "", []string{"redis.tls", "both"}},
		{"half a key pair", "store: {access_key: x}", "", []string{"store.access_key", "both"}},
		{"store", "store: {url: /var/lib}", "", []string{"store.url", "file:///"}},
		{"listen", "metrics: {listen: \"9090\"}", "", []string{"metrics.listen", ":9090"}},
		{"server address", "server: {listen: \"8080\"}", "", []string{"server.listen", "127.0.0.1:8080"}},
		{"half of TLS", "server: {tls: {key_file: x}}", "", []string{"server.tls", "both"}},
		{"origin", "server: {cors_origins: [https://x/]}", "", []string{"server.cors_origins", "https://x/", "not an origin"}},
		{"proxy", "server: {trusted_proxies: [10.0.0.1]}", "", []string{"server.trusted_proxies", "10.0.0.0/8"}},
		{"rate", "server: {rate: 0}", "", []string{"server.rate", "at least 1"}},
		{"provider without an audience", "server: {oidc: {issuer: https://x, viewers: [a]}}", "", []string{"server.oidc.audience", "is empty"}},
		{"provider without roles", "server: {oidc: {issuer: https://x, audience: a}}", "", []string{"server.oidc.viewers", "nobody"}},
		{"provider that is none", "server: {oidc: {issuer: x, audience: a, viewers: [a]}}", "", []string{"server.oidc.issuer", "not a URL"}},
		{"roles without a provider", "server: {oidc: {admins: [a]}}", "", []string{"server.oidc.issuer", "is empty"}},
		{"secret file", "redis: {password_file: " + secret + "}", "", []string{"redis.password_file", "no such file"}},
		{"secret twice", "redis:\n  password: hunter2\n  password_file: " + secret, "", []string{"redis.password_file", ":3", "together with redis.password"}},
		{"envelope", "envelope: {event_id: [a, a]}", "", []string{"envelope", "event_id", "twice"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Load(Sources{File: write(t, c.yaml), Environ: []string{c.env}})
			var ce *Error
			if !errors.As(err, &ce) {
				t.Fatalf("err = %v", err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in: %v", want, err)
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("a secret in: %v", err)
			}
		})
	}
}

func TestForeignVariablesAreLeftAlone(t *testing.T) {
	_, err := Load(Sources{File: write(t, ""), Environ: []string{
		"RESERVOIR_SERVICE_HOST=10.0.0.1", "RESERVOIR_SERVICE_PORT=80", "RESERVOIR_SERVICE_PORT_HTTP=80",
		"RESERVOIR_PORT=tcp://10.0.0.1:80", "RESERVOIR_PORT_80_TCP_ADDR=10.0.0.1", "RESERVOIR_API_PORT_80_TCP=x",
		"RESERVOIR_TEST_REDIS=x", "RESERVOIRS=x", "PATH=/bin", "RESERVOIR_SINK_SECRET=x", "RESERVOIR_USER=ann",
	}})
	if err != nil {
		t.Error(err)
	}
}

func TestSecretFiles(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := write(t, "redis: {password_file: "+secret+"}")
	l, err := Load(Sources{File: file})
	if err != nil {
		t.Fatal(err)
	}
	if got := l.Redis.Password.Reveal(); got != "hunter2" {
		t.Errorf("password %q", got)
	}
	if got := l.Origin("redis.password").String(); got != "file "+secret {
		t.Errorf("origin %q", got)
	}
	// A higher layer's password wins over a lower one's file, and the other way round.
	l, err = Load(Sources{File: file, Environ: []string{"RESERVOIR_REDIS_PASSWORD=other"}})
	if err != nil || l.Redis.Password.Reveal() != "other" {
		t.Errorf("password %q, %v", l.Redis.Password.Reveal(), err)
	}
	l, err = Load(Sources{File: write(t, "redis: {password: other}"), Environ: []string{"RESERVOIR_REDIS_PASSWORD_FILE=" + secret}})
	if err != nil || l.Redis.Password.Reveal() != "hunter2" {
		t.Errorf("password %q, %v", l.Redis.Password.Reveal(), err)
	}
}

// TestSecretsAreNeverPrinted formats a configuration full of secrets in every
// way that we could think of.
func TestSecretsAreNeverPrinted(t *testing.T) {
	const secret = "hunter2"
	l, err := Load(Sources{File: write(t, ""), Environ: []string{
		"RESERVOIR_REDIS_PASSWORD=" + secret,
		"RESERVOIR_REDIS_SENTINEL_PASSWORD=" + secret,
		"RESERVOIR_STORE_SECRET_KEY=" + secret, "RESERVOIR_STORE_ACCESS_KEY=key",
		"RESERVOIR_REDIS_URL=redis://user:" + secret + "@host:6379/0?tls_password=" + secret,
		"RESERVOIR_STORE_URL=s3://bucket/prefix?secret_key=" + secret + "&x=y",
	}})
	if err != nil {
		t.Fatal(err)
	}
	var printed []string
	// Not %p: it asks no method, and vet refuses it.
	for _, verb := range strings.Split("v +v #v s q x X d t b o c U e f g T", " ") {
		for _, v := range []any{l, l.Config, &l.Config, l.Redis.Password, &l.Redis.Password, l.Redis.URL, []Secret{l.Store.SecretKey}} {
			printed = append(printed, fmt.Sprintf("%"+verb, v))
		}
	}
	asJSON, err := json.Marshal(l.Config)
	if err != nil {
		t.Fatal(err)
	}
	asYAML, err := yaml.Marshal(l.Config)
	if err != nil {
		t.Fatal(err)
	}
	printed = append(printed, string(asJSON), string(asYAML))
	for _, k := range Keys() {
		printed = append(printed, l.Text(k))
	}
	var log strings.Builder
	for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(h).Info("x", "config", l.Config, "password", l.Redis.Password, "pointer", &l.Redis.Password, "url", l.Redis.URL)
	}
	printed = append(printed, log.String())
	printed = append(printed, l.Redact("dial "+l.Redis.URL.Reveal()+": password "+secret+" is wrong"))

	asHex := fmt.Sprintf("%x", secret)
	for _, p := range printed {
		if strings.Contains(p, secret) || strings.Contains(strings.ToLower(p), asHex) || strings.Contains(p, "104 117 110") {
			t.Errorf("a secret in %s", p)
		}
	}
	if got := l.Text(find(t, "redis.url")); got != "redis://user:***@host:6379/0?tls_password=***" {
		t.Errorf("redis.url = %s", got)
	}
	if got := fmt.Sprint(l.Redis.Password, Secret{}); got != "*** " {
		t.Errorf("printed as %q", got)
	}
}

func find(t *testing.T, name string) Key {
	t.Helper()
	for _, k := range Keys() {
		if k.Name == name {
			return k
		}
	}
	t.Fatalf("no key %s", name)
	return Key{}
}

func TestURLHidesPasswords(t *testing.T) {
	for in, want := range map[string]string{
		"":                                "",
		"redis://localhost:6379":          "redis://localhost:6379",
		"redis://user@host":               "redis://***@host",
		"redis://:p@host":                 "redis://:***@host",
		"redis://u:p@ss/w:rd%@host:1/2":   "redis://u:***@host:1/2",
		"s3://bucket/a@b":                 "s3://bucket/a@b",
		"file:///var/lib":                 "file:///var/lib",
		"redis://h?x=1&password=a&y=b#c":  "redis://h?x=1&password=***&y=b#c",
		"not a url @ all":                 "not a url @ all",
		"redis://h?Sentinel_Password=a@b": "redis://***@b",
	} {
		if got := NewURL(in).String(); got != want {
			t.Errorf("%q prints as %q, want %q", in, got, want)
		}
	}
}

func TestKeys(t *testing.T) {
	names, envs := map[string]bool{}, map[string]string{EnvFile: "the file"}
	for _, k := range append(Sections(), Keys()...) {
		if k.Doc == "" || !strings.HasSuffix(strings.TrimRight(k.Doc, ")"), ".") {
			t.Errorf("%s: doc %q is no sentence", k.Name, k.Doc)
		}
		if names[k.Name] || strings.HasSuffix(k.Name, ".") {
			t.Errorf("bad or repeated key %q", k.Name)
		}
		names[k.Name] = true
	}
	for _, k := range Keys() {
		if other, taken := envs[k.Env()]; taken {
			t.Errorf("%s is the variable of %s and %s", k.Env(), other, k.Name)
		}
		envs[k.Env()] = k.Name
		if foreignEnv.MatchString(k.Env()) {
			t.Errorf("%s looks like a variable of Kubernetes", k.Env())
		}
		if k.Min != "" {
			if _, err := decodeText(nil, k.typ, k.Min); err != nil {
				t.Errorf("%s: min: %v", k.Name, err)
			}
		}
	}
}

// TestEveryKeyFromEveryLayer sets each key by file, variable and flag.
func TestEveryKeyFromEveryLayer(t *testing.T) {
	companions := map[string][]Flag{ // what must be set together
		"redis.tls.cert_file":   {{Key: "redis.tls.key_file", Value: "x"}},
		"redis.tls.key_file":    {{Key: "redis.tls.cert_file", Value: "x"}},
		"store.access_key":      {{Key: "store.secret_key", Value: "x"}},
		"store.secret_key":      {{Key: "store.access_key", Value: "x"}},
		"store.secret_key_file": {{Key: "store.access_key", Value: "x"}},

		"clickhouse.tls.cert_file":      {{Key: "clickhouse.tls.key_file", Value: "x"}},
		"clickhouse.tls.key_file":       {{Key: "clickhouse.tls.cert_file", Value: "x"}},
		"clickhouse.s3.access_key":      {{Key: "clickhouse.s3.secret_key", Value: "x"}},
		"clickhouse.s3.secret_key":      {{Key: "clickhouse.s3.access_key", Value: "x"}},
		"clickhouse.s3.secret_key_file": {{Key: "clickhouse.s3.access_key", Value: "x"}},
		"clickhouse.replicated":         {{Key: "clickhouse.cluster", Value: "x"}},
		"archive.poll.interval":         {{Key: "archive.poll.max_interval", Value: "4d"}},

		"server.tls.cert_file":  {{Key: "server.tls.key_file", Value: "x"}},
		"server.tls.key_file":   {{Key: "server.tls.cert_file", Value: "x"}},
		"server.oidc.issuer":    {{Key: "server.oidc.audience", Value: "x"}, {Key: "server.oidc.viewers", Value: "x"}},
		"server.oidc.audience":  {{Key: "server.oidc.issuer", Value: "https://x"}, {Key: "server.oidc.viewers", Value: "x"}},
		"server.oidc.jwks":      {{Key: "server.oidc.issuer", Value: "https://x"}, {Key: "server.oidc.audience", Value: "x"}, {Key: "server.oidc.viewers", Value: "x"}},
		"server.oidc.viewers":   {{Key: "server.oidc.issuer", Value: "https://x"}, {Key: "server.oidc.audience", Value: "x"}},
		"server.oidc.operators": {{Key: "server.oidc.issuer", Value: "https://x"}, {Key: "server.oidc.audience", Value: "x"}},
		"server.oidc.admins":    {{Key: "server.oidc.issuer", Value: "https://x"}, {Key: "server.oidc.audience", Value: "x"}},
	}
	samples := map[string]string{"text": ":80", "list": "a,b", "number": "77", "yes/no": "true", "duration": "3d", "size": "77MiB", "secret": "hunter2", "URL": "s3://b/p"}
	for _, k := range Keys() {
		value := samples[k.Type]
		if len(k.Enum) > 0 {
			value = k.Enum[0]
		}
		if special, ok := map[string]string{ // what is checked closer
			"clickhouse.url": "http://b/p", "client.url": "http://b/p", "server.oidc.issuer": "https://x", "server.oidc.jwks": "https://x/keys",
			"server.cors_origins": "https://a,http://b:1", "server.trusted_proxies": "10.0.0.0/8,::1/128",
		}[k.Name]; ok {
			value = special
		}
		section, leaf, _ := strings.Cut(k.Name, ".")
		yaml := section + ":\n"
		for indent := "  "; ; indent += "  " {
			var rest string
			var deeper bool
			if section, rest, deeper = strings.Cut(leaf, "."); !deeper {
				yaml += indent + leaf + ": "
				break
			}
			yaml += indent + section + ":\n"
			leaf = rest
		}
		if k.Type == "list" {
			yaml += "['" + strings.ReplaceAll(value, ",", "','") + "']\n"
		} else {
			yaml += value + "\n"
		}
		s := newSchema()
		fromFile, problems := parseYAML("f", []byte(yaml), s)
		if len(problems) > 0 {
			t.Errorf("%s: %v", k.Name, problems)
		}
		fromEnv, problems := parseEnv([]string{k.Env() + "=" + value}, s)
		if len(problems) > 0 {
			t.Errorf("%s: %v", k.Name, problems)
		}
		for _, l := range []layer{fromFile, fromEnv} {
			if _, ok := l[k.Name]; !ok || len(l) != 1 {
				t.Errorf("%s: got %v", k.Name, l)
			}
		}
		if strings.HasSuffix(k.Name, "_file") {
			value = write(t, "hunter2")
		}
		l, err := Load(Sources{File: write(t, ""), Flags: append(companions[k.Name], Flag{k.Name, "f", value})})
		switch {
		case err != nil:
			t.Errorf("%s: %v", k.Name, err)
		case k.Type != "secret" && l.Text(k) != value:
			t.Errorf("%s = %s, want %s", k.Name, l.Text(k), value)
		}
	}
}

func TestUnits(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "30s": 30 * time.Second, "7d": 7 * day, "2w": 2 * week, "1w2d3h": week + 2*day + 3*time.Hour,
		"1.5h": 90 * time.Minute, "300ms": 300 * time.Millisecond, "-1s": -time.Second,
	} {
		if got, err := ParseDuration(in); err != nil || got.D() != want {
			t.Errorf("%q = %s, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "30", "d", "1d1w", "1.5d", "7d-1h", "99999999999999999999d", "106752d", "106751d24h", "x", "1 h", "-1d"} {
		if got, err := ParseDuration(in); err == nil {
			t.Errorf("%q = %s", in, got)
		}
	}
	for in, want := range map[string]Size{
		"0": 0, "512": 512, "1B": 1, "64KiB": 64 << 10, "64 mib": 64 << 20, "2GB": 2e9, "1TiB": 1 << 40, "5kb": 5000,
	} {
		if got, err := ParseSize(in); err != nil || got != want {
			t.Errorf("%q = %d, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "MiB", "-1", "1.5GiB", "64M", "1 0", "9999999999TiB", "99999999999999999999", "1  B"} {
		if got, err := ParseSize(in); err == nil {
			t.Errorf("%q = %d", in, got)
		}
	}
}

func TestUnitsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := Duration(rapid.Int64().Draw(t, "d"))
		if unit := rapid.SampledFrom([]Duration{1, 1e6, 1e9, 60e9, 3600e9, Duration(day)}).Draw(t, "unit"); d%2 == 0 {
			d = d / Duration(week) * unit
		}
		if got, err := ParseDuration(d.String()); err != nil || got != d {
			t.Fatalf("%d prints as %s, parses as %d: %v", d, d, got, err)
		}
		s := Size(rapid.Int64Min(0).Draw(t, "s"))
		s >>= rapid.IntRange(0, 62).Draw(t, "shift")
		s <<= 10 * rapid.IntRange(0, 2).Draw(t, "k")
		if s < 0 {
			return
		}
		if got, err := ParseSize(s.String()); err != nil || got != s {
			t.Fatalf("%d prints as %s, parses as %d: %v", s, s, got, err)
		}
	})
}

// FuzzLoad: no file or variable makes reading panic, or gets an unknown key in.
func FuzzLoad(f *testing.F) {
	f.Add("redis: {db: 1}", "RESERVOIR_REDIS_URL=x")
	f.Add("a: &a [*a]", "")
	f.Add("<<: {redis: {db: 2}}", "RESERVOIR_LOG_LEVEL=info")
	f.Fuzz(func(t *testing.T, yaml, env string) {
		s := newSchema()
		values, problems := parseYAML("f", []byte(yaml), s)
		more, _ := parseEnv([]string{env}, s)
		if len(problems) > 0 {
			return
		}
		for _, l := range []layer{values, more} {
			for key := range l {
				if _, ok := s.byName[key]; !ok {
					t.Fatalf("unknown key %q was accepted", key)
				}
			}
		}
	})
}
