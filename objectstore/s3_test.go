package objectstore_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/objectstore"
)

// proxy stands between a client and a server. pass copies the server's bytes of
// the nth connection, from 1, to the client.
type proxy struct {
	listener net.Listener
	target   string
	pass     func(n int, client net.Conn, server io.Reader)
	mu       sync.Mutex
	count    int
	group    sync.WaitGroup
}

func startProxy(t *testing.T, endpoint string, pass func(n int, client net.Conn, server io.Reader)) *proxy {
	t.Helper()
	u, err := url.Parse(endpoint)
	check(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	p := &proxy{listener: listener, target: u.Host, pass: pass}
	p.group.Go(p.accept)
	t.Cleanup(func() {
		check(t, listener.Close())
		p.group.Wait()
	})
	return p
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.count++
		n := p.count
		p.mu.Unlock()
		p.group.Go(func() { p.serve(n, client) })
	}
}

func (p *proxy) serve(n int, client net.Conn) {
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		client.Close()
		return
	}
	var up sync.WaitGroup
	up.Go(func() {
		pump(server, client)
		server.Close()
	})
	p.pass(n, client, server)
	client.Close()
	up.Wait()
}

// pump copies until either side ends, however: cutting connections is what a
// proxy is for here.
func pump(to io.Writer, from io.Reader) {
	if _, err := io.Copy(to, from); err != nil {
		return
	}
}

func (p *proxy) connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// through opens the store behind a proxy; a client for one connection at a time,
// with short patience.
func through(t *testing.T, server *stack.S3, endpoint string) *objectstore.S3 {
	t.Helper()
	opts := s3Options(server)
	opts.Endpoint, opts.Timeout, opts.MaxAttempts = endpoint, 300*time.Millisecond, 2
	store, err := objectstore.NewS3(t.Context(), opts)
	check(t, err)
	t.Cleanup(func() { check(t, store.Close()) })
	return store
}

func (p *proxy) endpoint() string { return "http://" + p.listener.Addr().String() }

func TestS3ResumesBrokenBodies(t *testing.T) {
	server := stacktest.S3(t, stack.S3Options{})
	want := make([]byte, 6<<20)
	rand.Read(want)
	_, err := openS3(t, server).Put(t.Context(), "k", bytes.NewReader(want), objectstore.Always)
	check(t, err)
	for name, pass := range map[string]func(int, net.Conn, io.Reader){
		"cut": func(n int, client net.Conn, server io.Reader) {
			if n <= 4 {
				server = io.LimitReader(server, 1<<20)
			}
			pump(client, server)
		},
		"stalled": func(n int, client net.Conn, server io.Reader) {
			if n == 1 {
				pump(client, io.LimitReader(server, 1<<20))
				pump(io.Discard, server) // and the client hears no more, until it gives up
				return
			}
			pump(client, server)
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := startProxy(t, server.Endpoint(), pass)
			store := through(t, server, p.endpoint())
			for _, r := range []objectstore.ByteRange{{}, {Offset: 1000, Length: 5 << 20}, {Offset: -3 << 20, Length: 2 << 20}} {
				start := r.Offset
				if start < 0 {
					start += int64(len(want))
				}
				end := int64(len(want))
				if r.Length > 0 {
					end = start + r.Length
				}
				body, _, err := store.Get(t.Context(), "k", r)
				check(t, err)
				got, err := io.ReadAll(body)
				if err != nil || !bytes.Equal(got, want[start:end]) {
					t.Errorf("%+v: read %d bytes, %v", r, len(got), err)
				}
				check(t, body.Close())
			}
			if p.connections() < 2 {
				t.Error("nothing was broken")
			}
		})
	}
	t.Run("for ever", func(t *testing.T) {
		p := startProxy(t, server.Endpoint(), func(n int, client net.Conn, server io.Reader) {
			if n == 1 {
				pump(client, io.LimitReader(server, 1<<20))
			}
		})
		body, _, err := through(t, server, p.endpoint()).Get(t.Context(), "k", objectstore.ByteRange{})
		check(t, err)
		got, err := io.ReadAll(body)
		if !errors.Is(err, io.ErrUnexpectedEOF) || !bytes.HasPrefix(want, got) {
			t.Errorf("read %d bytes, %v", len(got), err)
		}
		body.Close()
	})
	t.Run("replaced", func(t *testing.T) {
		p := startProxy(t, server.Endpoint(), func(n int, client net.Conn, server io.Reader) {
			if n == 1 {
				server = io.LimitReader(server, 1<<20)
			}
			pump(client, server)
		})
		body, _, err := through(t, server, p.endpoint()).Get(t.Context(), "k", objectstore.ByteRange{})
		check(t, err)
		_, err = openS3(t, server).Put(t.Context(), "k", strings.NewReader("other"), objectstore.Always)
		check(t, err)
		got, err := io.ReadAll(body)
		if err == nil || !bytes.HasPrefix(want, got) {
			t.Errorf("read %d bytes, %v", len(got), err)
		}
		body.Close()
	})
}

// TestS3LostAnswer: a Put whose answer is lost is sent again, and meets its own object.
func TestS3LostAnswer(t *testing.T) {
	server := stacktest.S3(t, stack.S3Options{})
	p := startProxy(t, server.Endpoint(), func(n int, client net.Conn, server io.Reader) {
		if n == 1 {
			pump(io.Discard, io.LimitReader(server, 10))
			return
		}
		pump(client, server)
	})
	store := through(t, server, p.endpoint())
	_, err := store.Put(t.Context(), "k", strings.NewReader("mine"), objectstore.IfAbsent)
	if !errors.Is(err, objectstore.ErrPrecondition) {
		t.Errorf("the Put gives %v", err)
	}
	if got := string(read(t, store, "k")); got != "mine" {
		t.Errorf("the object is %q", got)
	}
}

// TestS3Conflict: the answer 409, which says that another write was under way, is
// no failed condition: the request is sent again. (The test server never gives it.)
func TestS3Conflict(t *testing.T) {
	var requests atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") != "*" {
			t.Errorf("request %d has no condition", requests.Load())
		}
		if requests.Add(1) < 3 {
			w.WriteHeader(http.StatusConflict)
			fmt.Fprint(w, "<Error><Code>ConditionalRequestConflict</Code></Error>")
			return
		}
		w.Header().Set("ETag", `"e"`)
	}))
	t.Cleanup(server.Close)
	store, err := objectstore.NewS3(t.Context(), objectstore.S3Options{Bucket: "b", Endpoint: server.URL, AccessKey: "a", SecretKey: "s"})
	check(t, err)
	t.Cleanup(func() { check(t, store.Close()) })
	if info, err := store.Put(t.Context(), "k", strings.NewReader("x"), objectstore.IfAbsent); err != nil || info.ETag != `"e"` || requests.Load() != 3 {
		t.Errorf("%+v, %v after %d requests", info, err, requests.Load())
	}
}

// TestS3Siblings: objects come and go beside each other, each the last of its
// directory on a server that keeps them in a file system.
func TestS3Siblings(t *testing.T) {
	store, err := objectstore.Open(t.Context(), s3Config(stacktest.S3(t, stack.S3Options{})))
	check(t, err)
	var group errgroup.Group
	for range 8 {
		group.Go(func() error {
			for range 50 {
				key := "deep/" + rand.Text() + "/object"
				if _, err := store.Put(t.Context(), key, strings.NewReader("x"), objectstore.IfAbsent); err != nil {
					return err
				}
				if err := store.Delete(t.Context(), key); err != nil {
					return err
				}
			}
			return nil
		})
	}
	check(t, group.Wait())
}

// TestS3Hangs: nothing waits for ever for a server that does not answer, and it
// goes on when the server does.
func TestS3Hangs(t *testing.T) {
	server := stacktest.S3(t, stack.S3Options{})
	store := through(t, server, server.Endpoint())
	write(t, store, "k", "x")
	check(t, server.Pause())
	start := time.Now()
	for name, try := range map[string]func() error{
		"put": func() error {
			_, err := store.Put(t.Context(), "k", strings.NewReader("y"), objectstore.Always)
			return err
		},
		"large": func() error {
			_, err := store.Put(t.Context(), "k", bytes.NewReader(make([]byte, 4<<20)), objectstore.Always)
			return err
		},
		"head": func() error { _, err := store.Head(t.Context(), "k"); return err },
		"list": func() (last error) {
			for _, err := range store.List(t.Context(), "", objectstore.ListOptions{}) {
				last = err
			}
			return last
		},
	} {
		if err := try(); !errors.Is(err, objectstore.ErrUnreachable) || remedy.Of(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if took := time.Since(start); took > 60*time.Second {
		t.Errorf("it took %v", took)
	}
	check(t, server.Resume())
	write(t, store, "k", "z")
}

func TestS3Damage(t *testing.T) {
	dir := t.TempDir()
	server := stacktest.S3(t, stack.S3Options{Dir: dir})
	store := openS3(t, server)
	write(t, store, "k", "0123456789")
	var damaged int
	check(t, filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if entry.Name() == "k" && entry.Type().IsRegular() && strings.Contains(path, server.Bucket()+"/k") {
			damaged++
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			check(t, err)
			_, err = f.WriteAt([]byte("x"), 5)
			check(t, err)
			check(t, f.Close())
		}
		return err
	}))
	if damaged != 1 {
		t.Fatalf("found %d files", damaged)
	}
	body, _, err := store.Get(t.Context(), "k", objectstore.ByteRange{})
	check(t, err)
	if data, err := io.ReadAll(body); err == nil {
		t.Errorf("read %q without an error", data)
	}
	check(t, body.Close())
}

func TestS3NoChecksum(t *testing.T) {
	opts := s3Options(stacktest.S3(t, stack.S3Options{}))
	opts.Checksum = objectstore.ChecksumNone
	store, err := objectstore.NewS3(t.Context(), opts)
	check(t, err)
	t.Cleanup(func() { check(t, store.Close()) })
	for _, size := range []int{0, 10, 6 << 20} {
		want := make([]byte, size)
		rand.Read(want)
		_, err := store.Put(t.Context(), "k", bytes.NewReader(want), objectstore.Always)
		check(t, err)
		if !bytes.Equal(read(t, store, "k"), want) {
			t.Errorf("%d bytes differ", size)
		}
	}
}

// TestS3Explains: what a person has to correct is said.
func TestS3Explains(t *testing.T) {
	server := stacktest.S3(t, stack.S3Options{})
	for name, test := range map[string]struct {
		change func(*objectstore.S3Options)
		want   error
	}{
		"bucket": {func(o *objectstore.S3Options) { o.Bucket = "absent" }, objectstore.ErrNoBucket},
		"access": {func(o *objectstore.S3Options) { o.AccessKey = "nobody" }, objectstore.ErrDenied},
		"secret": {func(o *objectstore.S3Options) { o.SecretKey = "wrong" }, objectstore.ErrDenied},
		"port":   {func(o *objectstore.S3Options) { o.Endpoint = "http://127.0.0.1:1" }, objectstore.ErrUnreachable},
		"host":   {func(o *objectstore.S3Options) { o.Endpoint, o.PathStyle = "http://nowhere.invalid", true }, objectstore.ErrUnreachable},
		"scheme": {func(o *objectstore.S3Options) { o.Endpoint = strings.Replace(o.Endpoint, "http:", "https:", 1) }, objectstore.ErrUnreachable},
	} {
		opts := s3Options(server)
		opts.MaxAttempts = 1
		test.change(&opts)
		store, err := objectstore.NewS3(t.Context(), opts)
		check(t, err)
		_, errPut := store.Put(t.Context(), "k", strings.NewReader("x"), objectstore.IfAbsent)
		_, errLarge := store.Put(t.Context(), "k", bytes.NewReader(make([]byte, 6<<20)), objectstore.IfAbsent)
		_, _, errGet := store.Get(t.Context(), "k", objectstore.ByteRange{})
		_, errHead := store.Head(t.Context(), "k")
		errs := map[string]error{"put": errPut, "large put": errLarge, "get": errGet, "head": errHead}
		for _, err := range store.List(t.Context(), "", objectstore.ListOptions{}) {
			errs["list"] = err
		}
		for op, err := range errs {
			if !errors.Is(err, test.want) || remedy.Of(err) == "" {
				t.Errorf("%s, %s: %v (remedy %q)", name, op, err, remedy.Of(err))
			}
		}
		if errors.Is(errHead, objectstore.ErrNotFound) {
			t.Errorf("%s: head takes it for a missing object", name)
		}
		check(t, store.Close())
	}
}

func TestS3NoCredentials(t *testing.T) {
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
	t.Setenv("AWS_CONFIG_FILE", "/nonexistent")
	_, err := objectstore.NewS3(t.Context(), objectstore.S3Options{Bucket: "b"})
	if !errors.Is(err, objectstore.ErrDenied) || remedy.Of(err) == "" {
		t.Errorf("%v (remedy %q)", err, remedy.Of(err))
	}
}

// TestS3Aborts: no upload in parts stays behind.
func TestS3Aborts(t *testing.T) {
	dir := t.TempDir()
	server := stacktest.S3(t, stack.S3Options{Dir: dir})
	store := openS3(t, server)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	body := io.MultiReader(bytes.NewReader(make([]byte, 17<<20)), cancelling{cancel})
	if _, err := store.Put(ctx, "k", body, objectstore.Always); !errors.Is(err, context.Canceled) && !errors.Is(err, errBody) {
		t.Errorf("put: %v", err)
	}
	_, err := store.Put(t.Context(), "k", bytes.NewReader(make([]byte, 17<<20)), objectstore.IfMatch(`"stale"`))
	if !errors.Is(err, objectstore.ErrNotFound) {
		t.Errorf("put: %v", err)
	}
	var size int64
	check(t, filepath.Walk(filepath.Join(dir, "data"), func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			size += info.Size()
		}
		return err
	}))
	if size > 1<<20 {
		t.Errorf("%d bytes of parts are left", size)
	}
}

type cancelling struct{ cancel context.CancelFunc }

var errBody = errors.New("body fails")

func (c cancelling) Read([]byte) (int, error) { c.cancel(); return 0, errBody }

// BenchmarkS3Put writes 64 MiB and reports the client's own CPU.
func BenchmarkS3Put(b *testing.B) {
	server := stacktest.S3(b, stack.S3Options{})
	data := make([]byte, 64<<20)
	rand.Read(data)
	for _, checksum := range []string{objectstore.ChecksumCRC32C, objectstore.ChecksumNone} {
		b.Run(checksum, func(b *testing.B) {
			opts := s3Options(server)
			opts.Checksum = checksum
			store, err := objectstore.NewS3(b.Context(), opts)
			check(b, err)
			b.Cleanup(func() { check(b, store.Close()) })
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			before := cpu(b)
			for b.Loop() {
				_, err := store.Put(b.Context(), "k", struct{ io.Reader }{bytes.NewReader(data)}, objectstore.Always)
				check(b, err)
			}
			b.ReportMetric(float64((cpu(b)-before).Milliseconds())/float64(b.N), "cpu-ms/op")
		})
	}
}

// cpu gives the processor time of this process.
func cpu(b *testing.B) time.Duration {
	var usage syscall.Rusage
	check(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
