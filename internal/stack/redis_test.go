package stack_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
)

func client(t *testing.T, opts *redis.Options) *redis.Client {
	t.Helper()
	opts.MaxRetries = -1
	c := redis.NewClient(opts)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestRedisKeepsItsDataOverACrash(t *testing.T) {
	r := stacktest.Redis(t, stack.RedisOptions{AOF: true})
	c := client(t, &redis.Options{Addr: r.Addr()})
	ctx := t.Context()
	if err := c.Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	for name, down := range map[string]func() error{"kill": r.Kill, "stop": r.Stop} {
		addr := r.Addr()
		if err := down(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if pid := r.Pid(); pid != 0 {
			t.Errorf("%s: pid %d is left", name, pid)
		}
		if err := c.Ping(ctx).Err(); err == nil {
			t.Errorf("%s: the server still answers", name)
		}
		if err := r.Restart(ctx); err != nil {
			t.Fatalf("restart after %s: %v", name, err)
		}
		if r.Addr() != addr {
			t.Errorf("restart after %s: address %s became %s", name, addr, r.Addr())
		}
		if v, err := c.Get(ctx, "k").Result(); err != nil || v != "v" {
			t.Errorf("restart after %s: get = %q, %v", name, v, err)
		}
	}
}

func TestRedisPaused(t *testing.T) {
	r := stacktest.Redis(t, stack.RedisOptions{})
	c := client(t, &redis.Options{Addr: r.Addr(), ContextTimeoutEnabled: true})
	if err := r.Pause(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var timeout net.Error
	if err := c.Ping(ctx).Err(); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("ping while paused = %v, want a timeout", err)
	}
	if err := r.Resume(); err != nil {
		t.Fatal(err)
	}
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Errorf("ping after resume: %v", err)
	}
	if err := r.Pause(); err != nil { // and Close ends a paused server in order
		t.Fatal(err)
	}
}

func TestRedisUsersAndTLS(t *testing.T) {
	r := stacktest.Redis(t, stack.RedisOptions{TLS: true, ACL: []string{"user default off", "user ann on >secret ~* +@all"}})
	c := client(t, &redis.Options{Addr: r.Addr(), TLSConfig: r.TLSConfig(), Username: "ann", Password: "secret"})
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Errorf("as ann: %v", err)
	}
	wrong := client(t, &redis.Options{Addr: r.Addr(), TLSConfig: r.TLSConfig(), Username: "ann", Password: "wrong"})
	if err := wrong.Ping(t.Context()).Err(); err == nil {
		t.Error("with a wrong password: no error")
	}
}

func TestRedisURL(t *testing.T) {
	r := stacktest.Redis(t, stack.RedisOptions{Password: "p@ss/word"})
	opts, err := redis.ParseURL(r.URL())
	if err != nil {
		t.Fatal(err)
	}
	if err := client(t, opts).Ping(t.Context()).Err(); err != nil {
		t.Error(err)
	}
}

func TestSentinelPromotesTheReplica(t *testing.T) {
	master := stacktest.Redis(t, stack.RedisOptions{})
	replica := stacktest.Redis(t, stack.RedisOptions{ReplicaOf: master.Addr()})
	sentinel := stacktest.Sentinel(t, "shop", master.Addr())
	c := redis.NewSentinelClient(&redis.Options{Addr: sentinel.Addr()})
	defer func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	ctx := t.Context()
	eventually(t, 20*time.Second, "the sentinel sees the replica online", func() bool {
		replicas, err := c.Replicas(ctx, "shop").Result()
		return err == nil && len(replicas) == 1 && replicas[0]["master-link-status"] == "ok"
	})
	if err := master.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "the replica is the master", func() bool {
		addr, err := c.GetMasterAddrByName(ctx, "shop").Result()
		return err == nil && addr[0]+":"+addr[1] == replica.Addr()
	})
}

func TestRedisFailsToStartWithItsReason(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a server: run without -short")
	}
	_, err := stack.StartRedis(t.Context(), stack.RedisOptions{Dir: t.TempDir(), Args: []string{"--no-such-option", "1"}})
	if err == nil {
		t.Fatal("no error")
	}
	if !contains(err, "no-such-option") {
		t.Errorf("the error lacks the server's own words: %v", err)
	}
}

func TestRedisNotInstalled(t *testing.T) {
	t.Setenv("PATH", "")
	t.Chdir(t.TempDir())
	_, err := stack.StartRedis(t.Context(), stack.RedisOptions{Dir: t.TempDir()})
	if !errors.Is(err, stack.ErrNoBinary) || !contains(err, "make tools") {
		t.Errorf("error = %v, want ErrNoBinary and how to install", err)
	}
}
