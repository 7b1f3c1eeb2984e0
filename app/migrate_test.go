package app

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/config"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/migrations"
)

func TestMigrate(t *testing.T) {
	ch := stacktest.ClickHouse(t, stack.ClickHouseOptions{})
	s := newSite(t)
	for range 20 {
		s.do(t, "XADD", "shop:orders", "*", "type", "OrderPlaced", "tenant", "acme", "payload", `{"a":1}`)
	}
	works(t, "archive", "--once")
	fails(t, exitUsage, "clickhouse.url is not set", "migrate", "up")
	t.Setenv("RESERVOIR_CLICKHOUSE_URL", ch.URL())
	t.Setenv("RESERVOIR_CLICKHOUSE_DATABASE", "shop")
	says := func(want string, args ...string) {
		t.Helper()
		if got := works(t, append([]string{"migrate"}, args...)...); !strings.Contains(got, want) {
			t.Fatalf("%v: %s, want %q", args, got, want)
		}
	}
	if status, out, _ := command(t, "migrate", "status"); status != exitProblems {
		t.Error(status, out)
	}
	fails(t, exitFailure, "migrations are not applied", "migrate", "sync")
	says("applied 1, jobs", "up", "--to", "1")
	says("applied 2, archive", "up")
	says("nothing to do", "up")
	says("archive", "status")
	says("archive.shop:orders", "sync")
	says("CREATE ROW POLICY OR REPLACE `reservoir_analyst_acme` ON `archive`.`shop:orders`", "roles", "--dry-run", "--tenant", "acme")
	if out, err := ch.Query(t.Context(), "SELECT count() FROM archive.`shop:orders` WHERE tenant = 'acme'"); err != nil || out != "20\n" {
		t.Errorf("the view has %s, %v", out, err)
	}
	var report syncReport
	if err := json.Unmarshal([]byte(works(t, "migrate", "sync", "--json")), &report); err != nil || len(report.Streams) != 1 || report.Streams[0].Events != 20 || report.Streams[0].Added != 0 {
		t.Errorf("%+v: %v", report, err)
	}
	fails(t, exitUsage, "not confirmed", "migrate", "down")
	var list migrationList
	if err := json.Unmarshal([]byte(works(t, "migrate", "down", "--yes", "--json")), &list); err != nil || len(list.Migrations) != 2 || list.Migrations[0] != (migrations.Migration{Version: 2, Name: "archive"}) {
		t.Errorf("%+v: %v", list, err)
	}
	fails(t, exitUsage, "the last one is 2", "migrate", "up", "--to", "9")
}

func TestArchiveAtClickHouse(t *testing.T) {
	aws := []string{"AWS_ACCESS_KEY_ID=k", "AWS_SECRET_ACCESS_KEY=s", "AWS_SESSION_TOKEN=t", "AWS_REGION=eu-central-1"}
	for name, test := range map[string]struct {
		environ []string
		s3      *chstore.S3
		root    string
	}{
		"directory": {[]string{"RESERVOIR_STORE_URL=file:///var/lib/my%20archive"}, nil, "/var/lib/my archive"},
		"AWS": {append([]string{"RESERVOIR_STORE_URL=s3://lake/a/b/"}, aws...),
			&chstore.S3{Region: "eu-central-1", Bucket: "lake", VirtualHost: true, AccessKey: "k", SecretKey: "s", SessionToken: "t"}, "a/b"},
		"keys of store": {append([]string{"RESERVOIR_STORE_URL=s3://lake?endpoint=http://127.0.0.1:9000&region=x", "RESERVOIR_STORE_ACCESS_KEY=a", "RESERVOIR_STORE_SECRET_KEY=b"}, aws...),
			&chstore.S3{Endpoint: "http://127.0.0.1:9000", Region: "x", Bucket: "lake", AccessKey: "a", SecretKey: "b"}, ""},
		"as ClickHouse sees it": {[]string{
			"RESERVOIR_STORE_URL=s3://lake", "RESERVOIR_STORE_ENDPOINT=http://localhost:9000", "RESERVOIR_STORE_PATH_STYLE=true", "RESERVOIR_CLICKHOUSE_S3_ENDPOINT=http://minio:9000",
			"RESERVOIR_CLICKHOUSE_S3_COLLECTION=lake_keys", "RESERVOIR_STORE_ACCESS_KEY=a", "RESERVOIR_STORE_SECRET_KEY=b",
		}, &chstore.S3{Endpoint: "http://minio:9000", Bucket: "lake", Collection: "lake_keys"}, ""},
		"own":    {append([]string{"RESERVOIR_STORE_URL=s3://lake", "RESERVOIR_CLICKHOUSE_S3_CREDENTIALS=own"}, aws...), &chstore.S3{Region: "eu-central-1", Bucket: "lake", VirtualHost: true}, ""},
		"public": {[]string{"RESERVOIR_STORE_URL=s3://lake.x", "RESERVOIR_CLICKHOUSE_S3_CREDENTIALS=none"}, &chstore.S3{Bucket: "lake.x", NoSign: true}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			cfg, err := config.Load(config.Sources{Environ: test.environ})
			if err != nil {
				t.Fatal(err)
			}
			a := newApp(Options{}, nil, nil, nil, test.environ)
			a.cfg = cfg
			s3, root, err := a.archiveAtClickHouse()
			if err != nil || root != test.root || (s3 == nil) != (test.s3 == nil) || s3 != nil && *s3 != *test.s3 {
				t.Errorf("got %+v %q %v", s3, root, err)
			}
		})
	}
}
