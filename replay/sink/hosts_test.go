package sink_test

import (
	"errors"
	"testing"

	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/replay/sink"
)

func TestHosts(t *testing.T) {
	for _, c := range []struct {
		pattern, address string
		want             bool
	}{
		{"example.com", "example.com:443", true},
		{"example.com", "EXAMPLE.com.:443", true},
		{"example.com", "www.example.com:443", false},
		{"example.com", "example.com.evil.org:443", false},
		{"example.com:443", "example.com:443", true},
		{"example.com:443", "example.com:80", false},
		{"*.example.com", "www.example.com:80", true},
		{"*.example.com", "a.b.example.com:80", true},
		{"*.example.com", "example.com:80", false},
		{"*.example.com", "evilexample.com:80", false},
		{"*.example.com:80", "www.example.com:80", true},
		{"*.example.com:80", "www.example.com:81", false},
		{"*", "anything:1", true},
		{"", "example.com:80", false},
		{"::1", "[::1]:80", true},
		{"[::1]:80", "[::1]:80", true},
		{"[::1]:80", "[::1]:81", false},
		{"127.0.0.1", "127.0.0.1:80", true},
		{"127.0.0.1", "127.0.0.10:80", false},
		{"localhost", "127.0.0.1:80", false},
	} {
		err := sink.Hosts{"other", c.pattern}.Check(c.address)
		if (err == nil) != c.want {
			t.Errorf("%q allows %s: %v", c.pattern, c.address, err)
		}
		if err != nil && (!errors.Is(err, sink.ErrHostNotAllowed) || remedy.Of(err) == "") {
			t.Errorf("%v with the remedy %q", err, remedy.Of(err))
		}
	}
	if err := (sink.Hosts(nil)).Check("localhost:80"); err == nil {
		t.Error("no hosts allow one")
	}
	if _, err := (sink.Hosts{"a"}).DialContext(t.Context(), "tcp", "localhost:1"); !errors.Is(err, sink.ErrHostNotAllowed) {
		t.Errorf("dial: %v", err)
	}
}
