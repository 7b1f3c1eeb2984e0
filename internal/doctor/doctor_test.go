package doctor_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/config"
	"github.com/reservoirhq/reservoir/internal/doctor"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/migrations"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/redisstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// spec examines the given servers.
func spec(t *testing.T, redisURL string, store objectstore.Store, env ...string) doctor.Spec {
	t.Helper()
	file := filepath.Join(t.TempDir(), "reservoir.yaml")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(config.Sources{File: file, Environ: append(env, "RESERVOIR_REDIS_URL="+redisURL, "RESERVOIR_STORE_URL=file:///somewhere")})
	if err != nil {
		t.Fatal(err)
	}
	return doctor.Spec{
		Config:      cfg,
		OpenStore:   func(context.Context) (objectstore.Store, error) { return store, nil },
		Probe:       func(context.Context, objectstore.Store) error { return nil },
		OpenArchive: func(context.Context, objectstore.Store) error { return nil },
		ConnectRedis: func(ctx context.Context) (*redisstream.Client, error) {
			return redisstream.Connect(ctx, redisstream.Config{URL: cfg.Redis.URL.Reveal(), DialTimeout: 2 * time.Second})
		},
		Remedy: func(err error) string {
			if errors.Is(err, redisstream.ErrNotStream) {
				return "exclude it"
			}
			return ""
		},
	}
}

func local(t *testing.T) objectstore.Store {
	t.Helper()
	store, err := objectstore.NewLocal(t.TempDir(), objectstore.LocalOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// do sends a command to a server.
func do(t *testing.T, url string, args ...any) {
	t.Helper()
	opts, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(opts)
	defer c.Close()
	if err := c.Do(t.Context(), args...).Err(); err != nil {
		t.Fatalf("%v: %v", args, err)
	}
}

func find(checks []doctor.Check, area, name string) (doctor.Check, bool) {
	i := slices.IndexFunc(checks, func(c doctor.Check) bool { return c.Area == area && c.Name == name })
	if i < 0 {
		return doctor.Check{}, false
	}
	return checks[i], true
}

func TestWell(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{AOF: true, Fsync: "everysec"})
	do(t, server.URL(), "XADD", "orders", "*", "a", "b")
	do(t, server.URL(), "SET", "other", "x")
	store := local(t)
	checks := slices.Collect(doctor.Run(t.Context(), spec(t, server.URL(), store, "RESERVOIR_ARCHIVE_GROUP=mirror", "RESERVOIR_ARCHIVE_TRIM_ENABLED=true")))
	for _, c := range checks {
		if c.Status != doctor.OK {
			t.Errorf("%+v", c)
		}
	}
	for _, want := range []string{
		"configuration file", "store list", "store write", "store read", "store clock", "store delete", "store conditional writes", "store archive",
		"redis connect", "redis permissions", "redis version", "redis role", "redis memory", "redis persistence", "redis clock", "redis streams", "redis group mirror",
	} {
		area, name, _ := strings.Cut(want, " ")
		if _, ok := find(checks, area, name); !ok {
			t.Errorf("no check %s", want)
		}
	}
	if c, _ := find(checks, "redis", "streams"); c.Detail != "1 stream selected by *" {
		t.Errorf("%+v", c)
	}
	for info, err := range store.List(t.Context(), "", objectstore.ListOptions{}) {
		t.Errorf("left behind: %v, %v", info.Key, err)
	}
	// A reader that stops early ends the examination.
	n := 0
	for range doctor.Run(t.Context(), spec(t, server.URL(), store)) {
		if n++; n == 3 {
			break
		}
	}
}

// TestRedisAilments breaks one thing at a time.
func TestRedisAilments(t *testing.T) {
	server := stacktest.Redis(t, stack.RedisOptions{ACL: []string{
		"user default on nopass ~* &* +@all",
		"user poor on >hunter2 ~* +@all -xrange -xinfo|groups",
	}})
	url := server.URL()
	replica := stacktest.Redis(t, stack.RedisOptions{ReplicaOf: server.Addr()})
	aof := stacktest.Redis(t, stack.RedisOptions{AOF: true, Fsync: "no", Args: []string{"--maxmemory", "100mb", "--maxmemory-policy", "volatile-lru"}})
	rdb := stacktest.Redis(t, stack.RedisOptions{Args: []string{"--save", "3600", "1", "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"}})
	for _, stream := range []string{"orders", "expiring", "grouped"} {
		do(t, url, "XADD", stream, "*", "a", "b")
	}
	do(t, url, "EXPIRE", "expiring", 3600)
	do(t, url, "XGROUP", "CREATE", "grouped", "mirror", "0")
	do(t, url, "XREADGROUP", "GROUP", "mirror", "c", "COUNT", 1, "STREAMS", "grouped", ">")
	do(t, url, "SET", "text", "x")
	poor := strings.Replace(url, "redis://", "redis://poor:hunter2@", 1)

	for _, c := range []struct {
		name, url, env string
		check          string
		status         doctor.Status
		want           string // in detail or remedy
	}{
		{"nobody there", "redis://127.0.0.1:1", "", "connect", doctor.Fail, "redis cannot be reached"},
		{"wrong password", strings.Replace(url, "redis://", "redis://poor:hunter3@", 1), "", "connect", doctor.Fail, "refused the user or the password"},
		{"lacks commands", poor, "RESERVOIR_ARCHIVE_GROUP=m", "permissions", doctor.Fail, "ACL SETUSER <user> +xrange +xinfo|groups"},
		{"no persistence", url, "", "persistence", doctor.Warn, "appendonly"},
		{"never synced", aof.URL(), "", "persistence", doctor.Warn, "everysec"},
		{"snapshots", rdb.URL(), "", "persistence", doctor.Warn, "snapshots only"},
		{"evicts all", rdb.URL(), "", "memory", doctor.Warn, "allkeys-lru"},
		{"evicts expiring", aof.URL(), "", "memory", doctor.OK, "volatile-lru"},
		{"replica", replica.URL(), "", "role", doctor.Fail, "replica"},
		{"nothing there", aof.URL(), "", "streams", doctor.Warn, "no stream matches *"},
		{"misnamed", url, "RESERVOIR_STREAMS_INCLUDE=ordres,orders", "stream ordres", doctor.Warn, "does not exist"},
		{"misnamed, the rest", url, "RESERVOIR_STREAMS_INCLUDE=ordres,orders", "streams", doctor.OK, "1 stream "},
		{"not a stream", url, "RESERVOIR_STREAMS_INCLUDE=text", "stream text", doctor.Fail, "exclude it"},
		{"excluded", url, "RESERVOIR_STREAMS_EXCLUDE=*", "streams", doctor.Warn, "no stream matches"},
		{"expiring", url, "", "expiry", doctor.Warn, "1 stream will be deleted"},
		{"group in use", url, "RESERVOIR_ARCHIVE_GROUP=mirror", "group mirror", doctor.Fail, "consumers of its own in grouped"},
		{"group not in use", url, "RESERVOIR_ARCHIVE_GROUP=other", "group other", doctor.OK, "in 0 of 3 streams"},
	} {
		t.Run(c.name, func(t *testing.T) {
			checks := slices.Collect(doctor.Run(t.Context(), spec(t, c.url, local(t), c.env)))
			got, ok := find(checks, "redis", c.check)
			if !ok || got.Status != c.status || !strings.Contains(got.Detail+" "+got.Remedy, c.want) {
				t.Errorf("%+v, want %s %q; all: %+v", got, c.status, c.want, checks)
			}
			if got.Status != doctor.OK && got.Remedy == "" {
				t.Errorf("no remedy: %+v", got)
			}
			for _, c := range checks {
				if strings.Contains(c.Detail+c.Remedy, "hunter") {
					t.Errorf("a secret in %+v", c)
				}
			}
		})
	}
}

// faulty is a store with one fault.
type faulty struct {
	objectstore.Store
	put, list, remove error
	keeps, garbles    bool
	skew              time.Duration
}

func (f *faulty) Put(ctx context.Context, key string, body io.Reader, cond objectstore.Condition) (objectstore.Info, error) {
	if f.put != nil {
		return objectstore.Info{}, f.put
	}
	return f.Store.Put(ctx, key, body, cond)
}

func (f *faulty) Get(ctx context.Context, key string, r objectstore.ByteRange) (io.ReadCloser, objectstore.Info, error) {
	body, info, err := f.Store.Get(ctx, key, r)
	if f.garbles && err == nil {
		err = body.Close()
		body = io.NopCloser(bytes.NewReader([]byte("garbage")))
	}
	info.ModTime = info.ModTime.Add(f.skew)
	return body, info, err
}

func (f *faulty) List(ctx context.Context, prefix string, opts objectstore.ListOptions) iter.Seq2[objectstore.Info, error] {
	if f.list != nil {
		return func(yield func(objectstore.Info, error) bool) { yield(objectstore.Info{}, f.list) }
	}
	return f.Store.List(ctx, prefix, opts)
}

func (f *faulty) Delete(ctx context.Context, key string) error {
	if f.remove != nil || f.keeps {
		return f.remove
	}
	return f.Store.Delete(ctx, key)
}

func TestStoreAilments(t *testing.T) {
	denied := errors.New("AccessDenied")
	for _, c := range []struct {
		name   string
		store  faulty
		check  string
		status doctor.Status
		want   string
	}{
		{"cannot list", faulty{list: denied}, "list", doctor.Fail, "s3:ListBucket"},
		{"cannot write", faulty{put: denied}, "write", doctor.Fail, "s3:PutObject"},
		{"garbles", faulty{garbles: true}, "read", doctor.Fail, "not what was written"},
		{"cannot delete", faulty{remove: denied}, "delete", doctor.Fail, "s3:DeleteObject"},
		{"deletes nothing", faulty{keeps: true}, "delete", doctor.Fail, "still there"},
		{"clock ahead", faulty{skew: time.Hour}, "clock", doctor.Warn, "the store is 1h0m0s ahead of this machine"},
		{"clock behind", faulty{skew: -time.Hour}, "clock", doctor.Warn, "behind this machine"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.store.Store = local(t)
			checks := slices.Collect(doctor.Run(t.Context(), spec(t, "redis://127.0.0.1:1", &c.store)))
			got, ok := find(checks, "store", c.check)
			if !ok || got.Status != c.status || !strings.Contains(got.Detail+" "+got.Remedy, c.want) {
				t.Errorf("%+v, want %s %q", got, c.status, c.want)
			}
		})
	}
}

func TestStoreThatCannotBeUsed(t *testing.T) {
	bad := errors.New("it is bad")
	for name, ail := range map[string]func(*doctor.Spec){
		"open": func(s *doctor.Spec) {
			s.OpenStore = func(context.Context) (objectstore.Store, error) { return nil, bad }
		},
		"conditional writes": func(s *doctor.Spec) { s.Probe = func(context.Context, objectstore.Store) error { return bad } },
		"archive":            func(s *doctor.Spec) { s.OpenArchive = func(context.Context, objectstore.Store) error { return bad } },
		"url":                func(s *doctor.Spec) { s.Config.Store.URL = config.URL{} },
	} {
		s := spec(t, "redis://127.0.0.1:1", local(t))
		ail(&s)
		if got, ok := find(slices.Collect(doctor.Run(t.Context(), s)), "store", name); !ok || got.Status != doctor.Fail {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestConfigurationWarnings(t *testing.T) {
	checks := slices.Collect(doctor.Run(t.Context(), spec(t, "redis://127.0.0.1:1", local(t),
		"RESERVOIR_ARCHIVE_TRIM_ENABLED=true", "RESERVOIR_ARCHIVE_TRIM_RETAIN=0s", "RESERVOIR_RETENTION_GC_GRACE=1m")))
	for _, name := range []string{"trim", "gc_grace"} {
		if got, ok := find(checks, "configuration", name); !ok || got.Status != doctor.Warn || got.Remedy == "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// kitchen adds a ClickHouse to a spec.
func kitchen(s *doctor.Spec, set func() (*projection.Set, error)) {
	s.ConnectClickHouse = func(ctx context.Context) (*chstore.Store, error) {
		return chstore.Connect(ctx, chstore.Config{URL: s.Config.ClickHouse.URL.Reveal(), DialTimeout: 2 * time.Second})
	}
	s.Migrations = func(ctx context.Context) (_ []migrations.Migration, err error) {
		m, err := migrations.Open(migrations.Options{ClickHouse: chstore.Config{URL: s.Config.ClickHouse.URL.Reveal()}})
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, m.Close()) }()
		return m.Status(ctx)
	}
	s.Projections = set
}

func TestClickHouse(t *testing.T) {
	engine := stacktest.ClickHouse(t, stack.ClickHouseOptions{})
	set := func(text string) func() (*projection.Set, error) {
		return func() (*projection.Set, error) {
			return projection.Parse("p.yaml", strings.NewReader("name: p\nsource: {streams: [s]}\ntable: {engine: MergeTree, order_by: id, columns: {id: String}}\nselect: "+text), nil)
		}
	}
	for _, c := range []struct {
		name, url, text string
		area, check     string
		status          doctor.Status
		want            string
	}{
		{"well", engine.URL(), "SELECT event_id AS id FROM events", "clickhouse", "exchange", doctor.OK, "in an instant"},
		{"version", engine.URL(), "SELECT event_id AS id FROM events", "clickhouse", "version", doctor.OK, "default"},
		{"grants", engine.URL(), "SELECT event_id AS id FROM events", "clickhouse", "grants", doctor.OK, "may do all"},
		{"migrations", engine.URL(), "SELECT event_id AS id FROM events", "clickhouse", "migrations", doctor.Warn, "reservoir migrate up"},
		{"definitions", engine.URL(), "SELECT event_id AS id FROM events", "projections", "definitions", doctor.OK, "1 in"},
		{"a definition", engine.URL(), "SELECT event_id AS id FROM events", "projections", "p", doctor.OK, "takes it"},
		{"a bad definition", engine.URL(), "SELECT evnt_id AS id FROM events", "projections", "p", doctor.Fail, "evnt_id"},
		{"no definition", engine.URL(), "nonsense", "projections", "definitions", doctor.Fail, "SELECT"},
		{"nobody there", "clickhouse://127.0.0.1:1", "SELECT event_id AS id FROM events", "clickhouse", "connect", doctor.Fail, "127.0.0.1:1"},
		{"none", "", "SELECT event_id AS id FROM events", "projections", "clickhouse", doctor.Warn, "clickhouse.url"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := spec(t, "redis://127.0.0.1:1", local(t), "RESERVOIR_CLICKHOUSE_URL="+c.url, "RESERVOIR_PROJECTIONS_DIR="+t.TempDir())
			kitchen(&s, set(c.text))
			checks := slices.Collect(doctor.Run(t.Context(), s))
			got, ok := find(checks, c.area, c.check)
			if !ok || got.Status != c.status || !strings.Contains(got.Detail+" "+got.Remedy, c.want) {
				t.Errorf("%+v, want %s %q; all: %+v", got, c.status, c.want, checks)
			}
			if got.Status != doctor.OK && got.Remedy == "" {
				t.Errorf("no remedy: %+v", got)
			}
		})
	}
	db, err := chstore.Connect(t.Context(), chstore.Config{URL: engine.URL()})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	left, err := db.Query(t.Context(), "SELECT name FROM system.tables WHERE startsWith(name, '_reservoir')", 10)
	if err != nil || len(left.Rows) > 0 {
		t.Errorf("left behind: %s, %v", left.Rows, err)
	}
}
