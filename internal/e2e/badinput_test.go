package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/reservoirhq/reservoir/event"
	"github.com/reservoirhq/reservoir/internal/stack"
)

// TestBadInput: each mistake costs nothing but one error with its remedy and a
// status that is not 0. The run after it, done right, archives everything.
func TestBadInput(t *testing.T) {
	t.Parallel()
	const password = "right-horse"
	for _, c := range []struct {
		name   string
		spoil  func(*testing.T, *world) (env, args []string)
		mend   func(*testing.T, *world)
		status int
		want   []string // in the error and its remedy
	}{
		{name: "wrong key", status: 2, want: []string{"archive.rol (", "did you mean archive.roll?", "remedy: correct it"},
			spoil: func(t *testing.T, _ *world) (env, args []string) {
				file := filepath.Join(t.TempDir(), "reservoir.yaml")
				writeFile(t, file, "archive:\n  rol:\n    age: 1s\n")
				return nil, []string{"--config", file}
			}},
		{name: "wrong variable", status: 2, want: []string{"did you mean RESERVOIR_STORE_URL?", "remedy: "},
			spoil: func(*testing.T, *world) (env, args []string) { return []string{"RESERVOIR_STORE_ULR=x"}, nil }},
		{name: "wrong value", status: 2, want: []string{"archive.roll.age", "soon", "remedy: "},
			spoil: func(*testing.T, *world) (env, args []string) { return nil, []string{"--roll-age", "soon"} }},
		{name: "no store", status: 2, want: []string{"store.url is not set", "remedy: name it"},
			spoil: func(*testing.T, *world) (env, args []string) { return []string{"RESERVOIR_STORE_URL="}, nil }},
		{name: "missing directory", status: 3, want: []string{"no such file or directory", "remedy: create the directory"},
			spoil: func(*testing.T, *world) (env, args []string) {
				return nil, []string{"--store-url", "file:///nowhere/at/all"}
			}},
		{name: "missing bucket", status: 3, want: []string{"bucket does not exist: nowhere", "remedy: create the bucket"},
			spoil: func(*testing.T, *world) (env, args []string) {
				return nil, []string{"--store-url", "s3://nowhere/archive"}
			}},
		{name: "wrong secret key", status: 3, want: []string{"access denied", "remedy: correct the access key and the secret key"},
			spoil: func(*testing.T, *world) (env, args []string) {
				return []string{"AWS_SECRET_ACCESS_KEY=" + "wrong"}, nil
			}},
		{name: "unreachable S3", status: 3, want: []string{"object store unreachable", "remedy: check that the endpoint"},
			spoil: func(*testing.T, *world) (env, args []string) {
				return []string{"RESERVOIR_STORE_ENDPOINT=http://127.0.0.1:1", "RESERVOIR_STORE_MAX_ATTEMPTS=2"}, nil
			}},
		{name: "unreachable Redis", status: 3, want: []string{"redis cannot be reached", "remedy: check that Redis runs"},
			spoil: func(*testing.T, *world) (env, args []string) {
				return nil, []string{"--redis-url", "redis://127.0.0.1:1"}
			}},
		{name: "no password", status: 3, want: []string{"redis refused the user or the password", "remedy: set redis.username and redis.password"},
			spoil: func(_ *testing.T, w *world) (env, args []string) {
				return nil, []string{"--redis-url", "redis://" + w.redis.Addr()}
			}},
		{name: "wrong password", status: 3, want: []string{"redis refused the user or the password", "remedy: set redis.username and redis.password"},
			spoil: func(_ *testing.T, w *world) (env, args []string) {
				return nil, []string{"--redis-url", "redis://:wrong-horse@" + w.redis.Addr()}
			}},
		{name: "not Redis", status: 3, want: []string{"redis", "remedy: check that redis.url names a Redis server"},
			spoil: func(_ *testing.T, w *world) (env, args []string) {
				return nil, []string{"--redis-url", "redis://" + strings.TrimPrefix(w.s3.Endpoint(), "http://")}
			}},
		{name: "not a stream", status: 1, want: []string{"LEFT: text: ", "key is not a stream", "remedy: name only streams"},
			spoil: func(t *testing.T, w *world) (env, args []string) {
				if err := w.admin(t).Set(t.Context(), "text", "x", 0).Err(); err != nil {
					t.Fatal(err)
				}
				return nil, []string{"--stream", "text", "--stream", "events"}
			}},
		{name: "no such stream", status: 1, want: []string{"LEFT: evnets: ", "remedy: check the name"},
			spoil: func(*testing.T, *world) (env, args []string) { return nil, []string{"--stream", "evnets"} }},
		{name: "entry over the limit", status: 1, want: []string{"LEFT: large: ", "entry 1-1 has", "the limit is 1024", "remedy: raise archive.max_entry_size"},
			spoil: func(t *testing.T, w *world) (env, args []string) {
				if err := w.admin(t).Do(t.Context(), "XADD", "large", "1-1", "field", strings.Repeat("x", 5000)).Err(); err != nil {
					t.Fatal(err)
				}
				return []string{"RESERVOIR_ARCHIVE_MAX_ENTRY_SIZE=1KiB"}, nil
			},
			mend: func(t *testing.T, w *world) {
				if got, _ := w.archived(t, "events"); got != 100 {
					t.Errorf("%d entries of the other stream are archived, want 100", got)
				}
			}},
		{name: "newer archive", status: 3, want: []string{"made by a newer version of reservoir", "remedy: use a release"},
			spoil: func(t *testing.T, w *world) (env, args []string) {
				mustReservoir(t, w.env, "archive", "--once")
				replaceInObject(t, w, "reservoir.json", `"version":1`, `"version":2`)
				return nil, nil
			},
			mend: func(t *testing.T, w *world) { replaceInObject(t, w, "reservoir.json", `"version":2`, `"version":1`) }},
		{name: "newer commit", status: 1, want: []string{"LEFT: events: ", "made by a newer version of reservoir", "remedy: use a release"},
			spoil: func(t *testing.T, w *world) (env, args []string) {
				mustReservoir(t, w.env, "archive", "--once")
				replaceInObject(t, w, firstCommit, `"version":1,"number"`, `"version":9,"number"`)
				return nil, nil
			},
			mend: func(t *testing.T, w *world) {
				replaceInObject(t, w, firstCommit, `"version":9,"number"`, `"version":1,"number"`)
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w, rec := newS3World(t, stack.RedisOptions{Password: password}), newRecord()
			fill(t, w, rec, "events", 100)
			env, args := c.spoil(t, w)
			r := reservoir(t, w.with(env), append([]string{"archive", "--once"}, args...)...)
			wantOneError(t, r, c.status, c.want...)
			if all := r.stdout + r.stderr; strings.Contains(all, password) || strings.Contains(all, "wrong-horse") || strings.Contains(all, stack.S3SecretKey) {
				t.Errorf("a secret was printed:\n%s", all)
			}
			if c.mend != nil {
				c.mend(t, w)
			}
			mustReservoir(t, w.env, "archive", "--once")
			addLarge(rec, c.name)
			w.check(t, rec)
		})
	}
}

// firstCommit is the key of a commit.
const firstCommit = "streams/events/00000001/log/00000000000000000001.json"

// addLarge records the entry that one of the cases adds.
func addLarge(rec *record, name string) {
	if name == "entry over the limit" {
		rec.add([]entry{{"large", event.Event{ID: event.ID{Ms: 1, Seq: 1}, Fields: []event.Field{
			{Name: []byte("field"), Value: []byte(strings.Repeat("x", 5000))},
		}}}})
	}
}

// wantOneError wants a run to have failed as it should.
func wantOneError(t *testing.T, r run, status int, want ...string) {
	t.Helper()
	if r.status != status {
		t.Errorf("status %d, want %d", r.status, status)
	}
	if n := strings.Count(r.stderr, "error: "); n != 1 {
		t.Errorf("%d errors, want one", n)
	}
	if n := strings.Count(r.stderr, "  remedy: "); n != 1 {
		t.Errorf("%d remedies, want one", n)
	}
	for _, text := range want {
		if !strings.Contains(r.stderr, text) {
			t.Errorf("the error does not say %q", text)
		}
	}
	if t.Failed() {
		t.Logf("stdout:\n%s\nstderr:\n%s", r.stdout, r.stderr)
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestFullDisk fills the disk of an archive in a directory: a small file system
// of its own, in a mount namespace of its own.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	if out, err := exec.Command("unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", t.TempDir()).CombinedOutput(); err != nil {
		t.Skipf("this kernel lets nobody mount a small file system: %v: %s", err, out)
	}
	w, rec := newFileWorld(t, stack.RedisOptions{}), newRecord()
	p := newProducers(t, w.redis.URL(), rec, 1)[0]
	noise := rand.NewChaCha8([32]byte{})
	for i := range 40 { // 4 MB that cannot be compressed
		value := make([]byte, 100_000)
		if _, err := noise.Read(value); err != nil {
			t.Fatal(err)
		}
		e := event.Event{ID: event.ID{Ms: uint64(i + 1)}, Fields: []event.Field{{Name: []byte("payload"), Value: value}}}
		if err := p.send(t.Context(), []entry{{"noise", e}}); err != nil {
			t.Fatal(err)
		}
	}
	fill(t, w, rec, "small", 10)

	// The archive is copied out at the end: the file system goes with the namespace.
	disk, results := t.TempDir(), t.TempDir()
	script := fmt.Sprintf(`set -u
mount -t tmpfs -o size=3m none %[1]s || exit 99
%[2]s archive --once >%[3]s/full.out 2>%[3]s/full.err; echo -n $? >%[3]s/full.status
%[2]s verify >%[3]s/verify.out 2>&1 || exit 98
mount -o remount,size=64m %[1]s || exit 97
%[2]s archive --once >%[3]s/after.out 2>&1 || exit 96
cp -a %[1]s/. %[4]s`, disk, program, results, strings.TrimPrefix(w.store.URL, "file://"))
	cmd := exec.CommandContext(t.Context(), "unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script)
	cmd.Env = environ(w.with([]string{"RESERVOIR_STORE_URL=file://" + disk})...)
	out, err := cmd.CombinedOutput()
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(results, name))
		if err != nil {
			t.Error(err)
		}
		return string(text)
	}
	if err != nil {
		t.Fatalf("%v\n%s\n%s\n%s", err, out, read("full.err"), read("verify.out"))
	}
	if got := read("full.status"); got != "1" {
		t.Errorf("status %s, want 1", got)
	}
	full := run{1, read("full.out"), read("full.err")}
	wantOneError(t, full, 1, "LEFT: noise: ", "no space left on device", "remedy: free some space")
	w.check(t, rec)
}
