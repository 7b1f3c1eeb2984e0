package objectstore_test

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/objectstore/storetest"
)

func TestOpenSaysWhatIsWrong(t *testing.T) {
	for _, test := range []struct {
		url  string
		s3   objectstore.S3Options
		want string
	}{
		{url: "", want: "want s3://bucket/prefix or file:///directory"},
		{url: "/var/archive", want: "want s3://bucket/prefix or file:///directory"},
		{url: "gs://bucket", want: "want s3://bucket/prefix or file:///directory"},
		{url: "file://relative/dir", want: "three slashes"},
		{url: "file:relative", want: "three slashes"},
		{url: "file:///dir?region=x", want: "three slashes"},
		{url: "s3:///prefix", want: `bucket ""`},
		{url: "s3://b/a//b", want: "the prefix has an empty element"},
		{url: "s3://b/a#b", want: "%23"},
		{url: "s3://b?endpoind=http://x", want: "parameter endpoind"},
		{url: "s3://b?endpoint=localhost:9000", want: `endpoint "localhost:9000": want a URL`},
		{url: "s3://b?path_style=maybe", want: "parameter path_style"},
		{url: "s3://b?checksum=md5", want: `checksum "md5"`},
		{url: "s3://b", s3: objectstore.S3Options{PartSize: 1 << 20}, want: "part size 1048576"},
		{url: "s3://b", s3: objectstore.S3Options{AccessKey: "x"}, want: "set both"},
		{url: "s3://key:hidden@b", want: "credentials"},
		{url: "s3://key:hidden@b:x", want: "invalid port"},
	} {
		_, err := objectstore.Open(t.Context(), objectstore.Config{URL: test.url, S3: test.s3})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: %v, want %q", test.url, err, test.want)
		}
		if err != nil && strings.Contains(err.Error(), "hidden") {
			t.Errorf("%q: the error gives a secret away: %v", test.url, err)
		}
	}
}

func TestOpenS3(t *testing.T) {
	server := stacktest.S3(t, stack.S3Options{})
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": stack.S3AccessKey, "AWS_SECRET_ACCESS_KEY": stack.S3SecretKey} {
		t.Setenv(name, value)
	}
	open := func(url string) objectstore.Store {
		store, err := objectstore.Open(t.Context(), objectstore.Config{URL: url})
		check(t, err)
		return store
	}
	bucket := "s3://" + server.Bucket()
	write(t, open(bucket+"/one/two/?endpoint="+server.Endpoint()+"&region=us-east-1&path_style=true"), "k", "text")
	t.Setenv("AWS_ENDPOINT_URL_S3", server.Endpoint())
	if got := string(read(t, open(bucket), "one/two/k")); got != "text" {
		t.Errorf("the object is %q", got)
	}
}

func TestDecorators(t *testing.T) {
	storetest.Run(t, func(t *testing.T) objectstore.Store {
		inner := openLocal(t, t.TempDir())
		write(t, inner, "below", "not to be seen")
		write(t, inner, "below.x/k", "not to be seen")
		return objectstore.WithObserver(objectstore.WithPrefix(inner, "/below.x/y/"), func(string, time.Duration, int64, error) {})
	})
}

func TestObserver(t *testing.T) {
	type call struct {
		op    string
		bytes int64
		err   error
	}
	var calls []call
	store := objectstore.WithObserver(openLocal(t, t.TempDir()), func(op string, took time.Duration, bytes int64, err error) {
		if took <= 0 {
			t.Errorf("%s took %v", op, took)
		}
		calls = append(calls, call{op, bytes, err})
	})
	write(t, store, "k", "text")
	read(t, store, "k")
	if _, err := store.Head(t.Context(), "absent"); err == nil {
		t.Error("the absent key has a head")
	}
	for _, err := range store.List(t.Context(), "", objectstore.ListOptions{}) {
		check(t, err)
		break
	}
	body, _, err := store.Get(t.Context(), "k", objectstore.ByteRange{})
	check(t, err)
	if _, err := io.CopyN(io.Discard, body, 2); err != nil {
		t.Error(err)
	}
	check(t, body.Close())
	check(t, store.Delete(t.Context(), "k"))
	want := []call{{"put", 4, nil}, {"get", 4, nil}, {"head", 0, objectstore.ErrNotFound}, {"list", 0, nil}, {"get", 2, nil}, {"delete", 0, nil}}
	if !slices.EqualFunc(calls, want, func(a, b call) bool { return a.op == b.op && a.bytes == b.bytes && errors.Is(a.err, b.err) }) {
		t.Errorf("observed %+v, want %+v", calls, want)
	}
}
