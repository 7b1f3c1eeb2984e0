package chstore_test

import (
	"bytes"
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
)

// users has a user that may read only, and one that may do little.
const users = `<clickhouse><users>
  <default><password></password><networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota><access_management>1</access_management></default>
  <reader><password>secret</password><networks><ip>::/0</ip></networks><profile>reading</profile><quota>default</quota></reader>
  <little><password>secret</password><networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota>
    <grants><query>GRANT SELECT, INSERT, SHOW ON *.*</query></grants></little>
</users>
<profiles><default></default><reading><readonly>2</readonly></reading></profiles><quotas><default></default></quotas></clickhouse>`

func TestErrors(t *testing.T) {
	engine := withUsers(t)
	ctx := t.Context()
	store := open(t, chstore.Config{URL: engine.URL(), Settings: map[string]string{"s3_retry_attempts": "1"}})
	reader := open(t, chstore.Config{URL: engine.URL(), User: "reader", Password: "secret"})
	little := open(t, chstore.Config{URL: engine.URL(), User: "little", Password: "secret"})
	table := store.Table("t")
	mark := chstore.Mark{Projection: "t"}
	if err := store.CreateTable(ctx, table, spec("MergeTree"), mark); err != nil {
		t.Fatal(err)
	}
	b := block(t, sample(10))
	load := func(selection string) error {
		_, err := store.LoadBlock(ctx, b, "", chstore.Load{Into: table, Columns: spec("MergeTree").Names(), Select: selection})
		return err
	}
	limited := func(settings map[string]string, query string) error {
		s, err := chstore.Connect(ctx, chstore.Config{URL: engine.URL(), Settings: settings})
		if err != nil {
			return err
		}
		defer s.Close()
		_, err = s.Query(ctx, query, 1)
		return err
	}
	secret := &chstore.S3{Endpoint: "http://127.0.0.1:1", Bucket: "bucket", AccessKey: "theaccesskey", SecretKey: "thesecretkey"}
	for name, test := range map[string]struct {
		err  func() error
		want error
		says string
	}{
		"syntax":           {func() error { return load("SELEC tenant FROM events") }, chstore.ErrDefinition, "Syntax error"},
		"unknown column":   {func() error { return load("SELECT tenant, nonsense, 1 FROM events") }, chstore.ErrDefinition, "nonsense"},
		"unknown function": {func() error { return load("SELECT tenant, nonsense(1), 1 FROM events") }, chstore.ErrDefinition, "nonsense"},
		"too few columns":  {func() error { return load("SELECT tenant FROM events") }, chstore.ErrDefinition, ""},
		"bad cast":         {func() error { return load("SELECT tenant, event_id, toInt64(event_id) FROM events") }, chstore.ErrData, "e0"},
		"throwIf":          {func() error { return load("SELECT tenant, event_id, throwIf(id_seq = 1, 'no good') FROM events") }, chstore.ErrData, "no good"},
		"another table":    {func() error { return load("SELECT tenant, id, amount FROM nowhere.events") }, chstore.ErrNoTable, ""},
		"no table":         {func() error { _, err := store.Prove(ctx, store.Table("none"), 1); return err }, chstore.ErrNoTable, "count chunk 1 in none"},
		"inspect nothing":  {func() error { _, err := store.Inspect(ctx, store.Table("none")); return err }, chstore.ErrNoTable, ""},
		"exists": {func() error {
			return store.CreateTable(ctx, table, spec("MergeTree"), chstore.Mark{Projection: "other"})
		}, chstore.ErrExists, ""},
		"read-only":   {func() error { return reader.CreateTable(ctx, store.Table("r"), spec("MergeTree"), mark) }, chstore.ErrDenied, ""},
		"not granted": {func() error { return little.CreateTable(ctx, store.Table("l"), spec("MergeTree"), mark) }, chstore.ErrDenied, "CREATE TABLE"},
		"grants":      {func() error { return little.CheckGrants(ctx, chstore.Needs{ReadS3: true}) }, chstore.ErrDenied, "ALTER DELETE"},
		"memory": {func() error {
			return limited(map[string]string{"max_memory_usage": "10000000"}, "SELECT uniqExact(number) FROM numbers(10000000)")
		}, chstore.ErrResources, ""},
		"time": {func() error {
			return limited(map[string]string{"max_execution_time": "1"}, "SELECT sum(sleepEachRow(0.01)) FROM numbers(1000) SETTINGS max_block_size = 10")
		}, chstore.ErrResources, ""},
		"no S3":   {func() error { return store.TryFiles(ctx, chstore.Source{S3: secret, Keys: []string{"k"}}) }, chstore.ErrSource, ""},
		"no file": {func() error { return store.TryFiles(ctx, chstore.Source{Keys: []string{"/nowhere/x.parquet"}}) }, chstore.ErrSource, ""},
		"nobody there": {func() error {
			return connecting(ctx, chstore.Config{URL: "clickhouse://127.0.0.1:1", DialTimeout: time.Second})
		}, chstore.ErrUnreachable, ""},
		"http, no one": {func() error { return connecting(ctx, chstore.Config{URL: "http://127.0.0.1:1"}) }, chstore.ErrUnreachable, ""},
	} {
		err := test.err()
		if perr := store.Ping(ctx); perr != nil {
			t.Fatalf("%s: then %v", name, perr)
		}
		if err == nil || !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v; want %v, and %q", name, err, test.want, test.says)
			continue
		}
		for _, no := range []string{"thesecretkey", "theaccesskey", "wrongpassword", "(version", "DB::Exception"} {
			if strings.Contains(err.Error(), no) {
				t.Errorf("%s: shows %q: %v", name, no, err)
			}
		}
		t.Logf("%s: %v [%s]", name, err, remedy.Of(err))
	}
	missing, err := little.MissingGrants(ctx, chstore.Needs{})
	if err != nil || len(missing) == 0 || !strings.HasPrefix(missing[0].Statement, "GRANT CREATE TABLE ON `default`.* TO `little`") {
		t.Errorf("missing: %+v, %v", missing, err)
	}
	if missing, err := store.MissingGrants(ctx, chstore.Needs{ReadS3: true, ReadFiles: true}); err != nil || len(missing) != 0 {
		t.Errorf("missing: %+v, %v", missing, err)
	}
}

// TestWrongPassword has engines of its own: the one of tests may end when it is
// connected to after it has refused a password.
func TestWrongPassword(t *testing.T) {
	for _, http := range []bool{false, true} {
		engine := withUsers(t)
		config := chstore.Config{URL: engine.URL(), User: "reader", Password: "wrongpassword"}
		if http {
			config.URL = engine.HTTPURL()
		}
		err := connecting(t.Context(), config)
		if !errors.Is(err, chstore.ErrDenied) || strings.Contains(err.Error(), "wrongpassword") || remedy.Of(err) == "" {
			t.Errorf("%v", err)
		}
		if err := engine.Kill(); err != nil {
			t.Fatal(err)
		}
	}
}

func withUsers(t *testing.T) *stack.ClickHouse {
	t.Helper()
	file := filepath.Join(t.TempDir(), "users.xml")
	if err := os.WriteFile(file, []byte(users), 0o600); err != nil {
		t.Fatal(err)
	}
	return stacktest.ClickHouse(t, stack.ClickHouseOptions{Config: "<users_config>" + file + "</users_config>"})
}

func connecting(ctx context.Context, config chstore.Config) error {
	s, err := chstore.Connect(ctx, config)
	if err == nil {
		return s.Close()
	}
	return err
}

func TestConfigValidate(t *testing.T) {
	for url, ok := range map[string]bool{
		"": false, "localhost:9000": false, "redis://localhost": false, "clickhouse://": false, "clickhouse://u:secret@h:9000/d?dial_timeout=x": false,
		"clickhouse://localhost:9000": true, "http://u:p@h:8123/d": true, "https://h": true, "clickhouse://a:9000,b:9000/d?secure=true": true,
	} {
		err := chstore.Config{URL: url}.Validate()
		if (err == nil) != ok {
			t.Errorf("%q: %v", url, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: shows the password: %v", url, err)
		}
	}
	if err := (chstore.Config{URL: "clickhouse://h", Replicated: true}).Validate(); err == nil {
		t.Error("replicated without a cluster is taken")
	}
}

func TestKillAndProgress(t *testing.T) {
	store, engine := connect(t, chstore.Config{})
	mine, other := store.As("mine"), open(t, chstore.Config{URL: engine.URL()}).As("other")
	failed := make(chan error, 2)
	for _, s := range []*chstore.Store{mine, other} {
		go func() {
			_, err := s.Query(t.Context(), "SELECT sum(sleepEachRow(0.01)) FROM numbers(1000) SETTINGS max_block_size = 10", 1)
			failed <- err
		}()
	}
	waitFor(t, func() bool {
		running, err := mine.Running(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		return len(running) == 1 && running[0].ReadRows > 0 && strings.HasPrefix(running[0].QueryID, "reservoir/mine/query/")
	})
	if err := mine.Kill(t.Context(), "other"); err != nil {
		t.Fatal(err)
	}
	if running, err := mine.Running(t.Context(), "query"); err != nil || len(running) != 1 {
		t.Fatalf("%v, %v", running, err)
	}
	if err := mine.Kill(t.Context(), "query"); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; !errors.Is(err, chstore.ErrKilled) {
		t.Errorf("killed: %v", err)
	}
	if running, err := other.Running(t.Context(), ""); err != nil || len(running) != 1 {
		t.Errorf("of another job: %v, %v", running, err)
	}
	if err := other.Kill(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; !errors.Is(err, chstore.ErrKilled) {
		t.Errorf("killed: %v", err)
	}
}

// TestKillBounded kills a statement that ClickHouse cannot interrupt: whoever waits for
// its end is told which one it is, and may wait on.
func TestKillBounded(t *testing.T) {
	store, _ := connect(t, chstore.Config{})
	mine := store.As("mine")
	for bounded := false; !bounded; { // on a busy machine it may end before anybody looks
		failed := make(chan error, 1)
		go func() {
			_, err := mine.Query(t.Context(), "SELECT length(arraySort(x -> sipHash64(x), range(materialize(3000000))))", 1) // one block
			failed <- err
		}()
		id := ""
		waitFor(t, func() bool {
			running, err := mine.Running(t.Context(), "query")
			if err != nil {
				t.Fatal(err)
			}
			if len(running) == 1 {
				id = running[0].QueryID
			}
			return id != "" || len(failed) > 0
		})
		err := mine.KillWithin(t.Context(), "", 0)
		if bounded = err != nil; bounded && (!errors.Is(err, chstore.ErrBusy) || !chstore.Retryable(err) || !strings.Contains(err.Error(), id)) {
			t.Errorf("%v; want that %q does not end", err, id)
		}
		if err := mine.Kill(t.Context(), ""); err != nil {
			t.Error(err)
		}
		if running, err := mine.Running(t.Context(), ""); err != nil || len(running) != 0 {
			t.Errorf("after the kill: %v, %v", running, err)
		}
		if err := <-failed; err != nil && !errors.Is(err, chstore.ErrKilled) {
			t.Errorf("killed: %v", err)
		}
	}
}

// TestKillLeavesOthers: what begins while it is waited for the end of what was killed may be
// of one who has taken this one's place, and goes on.
func TestKillLeavesOthers(t *testing.T) {
	store, engine := connect(t, chstore.Config{})
	mine := store.As("mine")
	u, err := url.Parse(engine.URL())
	if err != nil {
		t.Fatal(err)
	}
	line := stacktest.NewLine(t, u.Host)
	u.Host = line.Addr
	late := open(t, chstore.Config{URL: u.String()}).As("mine")
	running := func() int {
		list, err := mine.Running(t.Context(), "query")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	for again := false; !again; { // on a busy machine it may end before anybody looks
		stubborn, killed, other := make(chan error, 1), make(chan error, 1), make(chan error, 1)
		go func() {
			_, err := mine.Query(t.Context(), "SELECT length(arraySort(x -> sipHash64(x), range(materialize(3000000))))", 1) // one block
			stubborn <- err
		}()
		waitFor(t, func() bool { return running() == 1 || len(stubborn) > 0 })
		var kills atomic.Int64
		held, release := line.Hold(func(said []byte) bool {
			return bytes.Contains(said, []byte("KILL QUERY")) && kills.Add(1) == 2
		})
		go func() { killed <- late.Kill(t.Context(), "") }()
		select {
		case <-held:
			again = true
			go func() {
				_, err := mine.Query(t.Context(), "SELECT sum(sleepEachRow(0.01)) FROM numbers(300) SETTINGS max_block_size = 10", 1)
				other <- err
			}()
			waitFor(t, func() bool { return running() == 2 || len(stubborn) > 0 && running() == 1 })
			release()
			if err := <-other; err != nil {
				t.Errorf("what has begun since: %v", err)
			}
			if err := <-killed; err != nil {
				t.Error(err)
			}
		case err := <-killed:
			release()
			if err != nil {
				t.Error(err)
			}
		}
		if err := <-stubborn; err != nil && !errors.Is(err, chstore.ErrKilled) {
			t.Errorf("killed: %v", err)
		}
	}
}

// waitFor waits until a condition holds, for as long as the test may run.
func waitFor(t *testing.T, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
}
