package redisstream_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/redisstream"
)

func TestExamine(t *testing.T) {
	const reading = "+xrange +xinfo|stream +scan +info +time +multi +exec +ping +client|setname"
	server := stacktest.Redis(t, stack.RedisOptions{ACL: []string{
		"user default on >admin ~* &* +@all",
		"user reader on >secret ~orders* " + reading,
		"user archiver on >secret ~orders* " + reading + " +xtrim +xpending +eval +evalsha +xinfo|groups +xgroup|setid +xgroup|create",
		"user nameless on >secret ~* +@all -client|setname -config",
		"user poor on >secret ~* +ping +info +time +exec +client|setname",
	}})
	both := redisstream.Uses{Trim: true, Mirror: true}
	for _, c := range []struct {
		user string
		uses redisstream.Uses
		want string
	}{
		{"default", both, ""},
		{"archiver", both, ""},
		{"reader", redisstream.Uses{}, ""},
		{"reader", redisstream.Uses{Mirror: true}, "xgroup|setid xgroup|create xinfo|groups"},
		{"reader", both, "xtrim xpending eval evalsha xgroup|setid xgroup|create xinfo|groups"},
		{"nameless", redisstream.Uses{}, ""}, // a name is a courtesy
		{"poor", redisstream.Uses{}, "xrange xinfo|stream scan multi"},
	} {
		password := "secret"
		if c.user == "default" {
			password = "admin"
		}
		client := connect(t, redisstream.Config{Addrs: []string{server.Addr()}, Username: c.user, Password: password})
		got, err := client.Denied(t.Context(), c.uses)
		if err != nil {
			t.Errorf("%s: %v", c.user, err)
		}
		if !slices.Equal(got, strings.Fields(c.want)) {
			t.Errorf("%s %+v: denied %q, want %s", c.user, c.uses, got, c.want)
		}
		_, err = client.Setting(t.Context(), "appendfsync")
		if denied := errors.Is(err, redisstream.ErrPermission); denied != (c.user != "default") {
			t.Errorf("%s: setting: %v", c.user, err)
		}
	}
	client := connect(t, redisstream.Config{Addrs: []string{server.Addr()}, Username: "default", Password: "admin"})
	if keys := slices.Collect(names(t, client)); len(keys) > 0 {
		t.Errorf("left behind: %q", keys)
	}
	if got, err := client.Setting(t.Context(), "appendfsync"); err != nil || got == "" {
		t.Errorf("appendfsync %q, %v", got, err)
	}
	if _, expires, err := client.Expiry(t.Context(), "none"); expires || err != nil {
		t.Errorf("expires %v, %v", expires, err)
	}
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Denied(t.Context(), both); !errors.Is(err, redisstream.ErrUnreachable) {
		t.Errorf("dead server: %v", err)
	}
}

func names(t *testing.T, client *redisstream.Client) func(func(string) bool) {
	t.Helper()
	return func(yield func(string) bool) {
		for name, err := range client.Discover(t.Context(), []string{"*"}, nil) {
			if err != nil {
				t.Error(err)
				return
			}
			if !yield(name) {
				return
			}
		}
	}
}
