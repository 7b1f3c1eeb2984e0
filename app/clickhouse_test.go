package app

import (
	"testing"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/config"
)

// TestClickHouseConfig gives every key of clickhouse.* that says how to connect to what
// connects.
func TestClickHouseConfig(t *testing.T) {
	t.Chdir(t.TempDir())
	cfg, err := config.Load(config.Sources{Environ: []string{
		"RESERVOIR_STORE_URL=s3://lake", "RESERVOIR_CLICKHOUSE_URL=clickhouse://a:9000,b:9000/x", "RESERVOIR_CLICKHOUSE_USERNAME=ann", "RESERVOIR_CLICKHOUSE_PASSWORD=sesame",
		"RESERVOIR_CLICKHOUSE_DATABASE=shop", "RESERVOIR_CLICKHOUSE_CLUSTER=all", "RESERVOIR_CLICKHOUSE_READERS=spare", "RESERVOIR_CLICKHOUSE_REPLICATED=true", "RESERVOIR_CLICKHOUSE_DIAL_TIMEOUT=3s",
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := chstore.Config{
		URL: "clickhouse://a:9000,b:9000/x", User: "ann", Password: "sesame", Database: "shop",
		Cluster: "all", Readers: "spare", Replicated: true, DialTimeout: cfg.ClickHouse.DialTimeout.D(),
	}
	got, err := clickhouseConfig(cfg)
	if err != nil || got.URL != want.URL || got.Readers != want.Readers || got.Cluster != want.Cluster || got.Replicated != want.Replicated ||
		got.User != want.User || got.Password != want.Password || got.Database != want.Database || got.DialTimeout != want.DialTimeout || got.TLS != nil {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	if err := got.Validate(); err != nil {
		t.Error(err)
	}
}
