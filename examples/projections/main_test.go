package main

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reservoirhq/reservoir/internal/shop"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
)

// TestProgram: a main of five lines is reservoir, with projections of its own.
func TestProgram(t *testing.T) {
	if testing.Short() {
		t.Skip("needs servers: run without -short")
	}
	program := filepath.Join(t.TempDir(), "shop-reservoir")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	server := stacktest.Redis(t, stack.RedisOptions{})
	engine := stacktest.ClickHouse(t, stack.ClickHouseOptions{})
	definitions, err := filepath.Abs("definitions")
	if err != nil {
		t.Fatal(err)
	}
	environ := append(os.Environ(),
		"AWS_EC2_METADATA_DISABLED=true", "RESERVOIR_REDIS_URL="+server.URL(), "RESERVOIR_STORE_URL=file://"+t.TempDir(),
		"RESERVOIR_CLICKHOUSE_URL="+engine.URL(), "RESERVOIR_PROJECTIONS_DIR="+definitions, "RESERVOIR_PROJECTIONS_STATE="+t.TempDir(),
		"RESERVOIR_STREAMS_INCLUDE=shop:*")
	reservoir := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), program, args...)
		cmd.Env, cmd.Dir = environ, t.TempDir()
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	if out := reservoir("projections", "validate"); !strings.Contains(out, "2 projections are valid, and ClickHouse takes them") {
		t.Error(out)
	}
	if out := reservoir("projections", "test"); !strings.Contains(out, "2 projections, 0 failed") {
		t.Error(out)
	}

	pieces, paid := publish(t, server.URL())
	reservoir("archive", "--once")
	for table, want := range map[string]string{"shop_lines": pieces, "lead_times": paid} {
		reservoir("rebuild", "run", table, "--approval", "automatic")
		got, err := engine.Query(t.Context(), "SELECT uniqExact(tuple(*)) FROM "+table)
		if err != nil || strings.TrimSpace(got) != want {
			t.Errorf("%s has %q rows, want %s: %v", table, got, want, err)
		}
	}
}

// publish publishes what a shop does, and returns how many pieces were ordered, and how
// many orders paid.
func publish(t *testing.T, url string) (pieces, paid string) {
	t.Helper()
	opts, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(opts)
	defer client.Close()
	s := shop.New(shop.Options{Seed: 1, Start: time.Now()})
	nPieces, nPaid := 0, 0
	for range 2000 {
		stream, e := s.Next()
		values := map[string]string{}
		args := []string{}
		for _, f := range e.Fields {
			values[string(f.Name)] = string(f.Value)
			args = append(args, string(f.Name), string(f.Value))
		}
		add(t.Context(), t, client, stream, args)
		switch values["event_type"] {
		case "OrderPlaced":
			nPieces += quantity(t, values["payload"])
		case "OrderPaid":
			nPaid++
		}
	}
	return strconv.Itoa(nPieces), strconv.Itoa(nPaid)
}

func add(ctx context.Context, t *testing.T, client *redis.Client, stream string, values []string) {
	t.Helper()
	if err := client.XAdd(ctx, &redis.XAddArgs{Stream: stream, Values: values}).Err(); err != nil {
		t.Fatal(err)
	}
}

func quantity(t *testing.T, payload string) int {
	t.Helper()
	var p struct{ Item struct{ Quantity int } }
	if err := json.Unmarshal([]byte(payload), &p); err != nil {
		t.Fatal(err)
	}
	return p.Item.Quantity
}
