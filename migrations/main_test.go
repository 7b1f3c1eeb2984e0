package migrations_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/migrations"
	"github.com/reservoirhq/reservoir/objectstore"
)

func TestMain(m *testing.M) {
	if err := os.Setenv("AWS_EC2_METADATA_DISABLED", "true"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// users are Reservoir's own, an analyst who may read only, and one of a tenant.
const users = `<clickhouse><users>
  <default><password></password><networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota>
    <access_management>1</access_management><named_collection_control>1</named_collection_control></default>
  <analyst><password>secret</password><networks><ip>::/0</ip></networks><profile>reading</profile><quota>default</quota>
    <grants><query>GRANT SELECT ON shop.*</query><query>GRANT SELECT ON archive.*</query></grants></analyst>
  <tenant><password>secret</password><networks><ip>::/0</ip></networks><profile>reading</profile><quota>default</quota>
    <grants><query>GRANT SELECT ON archive.orders</query></grants>
    <databases><archive><orders><filter>tenant = 't1'</filter></orders></archive></databases></tenant>
</users>
<profiles><default></default><reading><readonly>2</readonly></reading></profiles><quotas><default></default></quotas></clickhouse>`

// bench is a ClickHouse with a Migrator, and an archive.
type bench struct {
	t      testing.TB
	ch     *stack.ClickHouse
	config chstore.Config
	m      *migrations.Migrator
	store  objectstore.Store
	arch   *archive.Archive
	place  migrations.Place
}

// newBench begins with elements of the server's configuration.
func newBench(t testing.TB, onS3 bool, elements ...string) *bench {
	t.Helper()
	file := filepath.Join(t.TempDir(), "users.xml")
	if err := os.WriteFile(file, []byte(users), 0o600); err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, ch: stacktest.ClickHouse(t, stack.ClickHouseOptions{Config: "<users_config>" + file + "</users_config>" + strings.Join(elements, "")})}
	b.config = chstore.Config{URL: b.ch.URL(), Database: "shop"}
	b.m = b.migrator(b.config)
	if onS3 {
		server := stacktest.S3(t, stack.S3Options{Bucket: "lake"})
		s3, err := objectstore.NewS3(t.Context(), objectstore.S3Options{
			Bucket: server.Bucket(), Endpoint: server.Endpoint(), AccessKey: stack.S3AccessKey, SecretKey: stack.S3SecretKey,
		})
		b.must(err)
		b.store = objectstore.WithPrefix(s3, "some where")
		b.place = migrations.Place{Root: "some where", S3: &chstore.S3{
			Endpoint: server.Endpoint(), Region: stack.S3Region, Bucket: server.Bucket(), AccessKey: stack.S3AccessKey, SecretKey: stack.S3SecretKey,
		}}
	} else {
		b.place.Root = filepath.Join(t.TempDir(), "the archive")
		b.must(os.Mkdir(b.place.Root, 0o700))
		local, err := objectstore.NewLocal(b.place.Root, objectstore.LocalOptions{NoSync: true})
		b.must(err)
		b.store = local
	}
	b.place.Grace = 24 * time.Hour
	var err error
	b.arch, err = archive.Open(t.Context(), b.store, archive.Options{Writer: "test"})
	b.must(err)
	return b
}

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// migrator opens one that is closed with the test.
func (b *bench) migrator(config chstore.Config) *migrations.Migrator {
	b.t.Helper()
	m, err := migrations.Open(migrations.Options{ClickHouse: config})
	b.must(err)
	b.t.Cleanup(func() { m.Close() })
	return m
}

func (b *bench) up() {
	b.t.Helper()
	_, err := b.m.Up(b.t.Context(), 0)
	b.must(err)
}

func (b *bench) sync() []migrations.StreamReport {
	b.t.Helper()
	reports, err := b.m.SyncArchive(b.t.Context(), b.arch, b.place)
	b.must(err)
	return reports
}

// as runs a SELECT as a user, and returns its one value as text.
func (b *bench) as(user, query string) (string, error) {
	b.t.Helper()
	config := chstore.Config{URL: b.ch.URL(), Database: "system", User: user}
	if user != "default" {
		config.Password = "secret"
	}
	store, err := chstore.Connect(b.t.Context(), config)
	b.must(err)
	defer store.Close()
	rows, err := store.Query(b.t.Context(), query, 2)
	if err != nil {
		return "", err
	}
	if len(rows.Rows) != 1 || len(rows.Rows[0]) != 1 {
		b.t.Fatalf("%s: %v", query, rows)
	}
	return string(rows.Rows[0][0]), nil
}

func (b *bench) query(query string) string {
	b.t.Helper()
	out, err := b.as("default", query)
	b.must(err)
	return out
}

// at is an ID so many milliseconds into an hour.
func at(day, hour, ms int) event.ID {
	return event.ID{Ms: uint64(time.Date(2026, 11, day, hour, 0, 0, 0, time.UTC).UnixMilli() + int64(ms)), Seq: 7}
}

// add archives n events, one a millisecond from first on, in one span.
func (b *bench) add(stream string, first event.ID, n int, formats ...archive.Format) {
	b.t.Helper()
	ctx := b.t.Context()
	if formats == nil {
		formats = []archive.Format{archive.JSONL, archive.Parquet}
	}
	l, err := b.arch.Log(ctx, stream)
	b.must(err)
	w := b.arch.NewSegmentWriter(ctx, stream, l.Incarnation(), formats, first)
	var batch event.Batch
	for i := range n {
		e := event.Event{ID: event.ID{Ms: first.Ms + uint64(i), Seq: first.Seq}}
		field := func(name, value string) {
			e.Fields = append(e.Fields, event.Field{Name: []byte(name), Value: []byte(value)})
		}
		field("event_id", "e"+e.ID.String())
		field("type", []string{"OrderPlaced", "OrderPaid"}[i%2])
		field("tenant", fmt.Sprintf("t%d", i%3))
		field("aggregate_id", fmt.Sprint(i/10))
		if i%2 == 0 {
			field("version", fmt.Sprint(i))
		}
		field("payload", fmt.Sprintf(`{"n":%d}`, i))
		batch.Append(&e)
	}
	b.must(w.Write(&batch, 0, n))
	segments, err := w.Close()
	b.must(err)
	_, err = l.Append(ctx, archive.Commit{Kind: archive.KindAppend, Head: w.Last(), EntriesAdded: l.EntriesAdded() + uint64(n), Adds: segments})
	b.must(err)
}
