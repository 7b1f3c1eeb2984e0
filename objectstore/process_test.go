package objectstore_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
	"github.com/reservoirhq/reservoir/objectstore"
	"github.com/reservoirhq/reservoir/objectstore/storetest"
)

// The test binary runs itself again as other processes on the same store.
const (
	roleVariable   = "OBJECTSTORE_TEST_ROLE"
	configVariable = "OBJECTSTORE_TEST_CONFIG"
)

var roles = map[string]func(context.Context, objectstore.Store) error{
	"racer": racer, "writer": writer, "limited": limited, "prober": objectstore.Probe,
}

func TestMain(m *testing.M) {
	role := os.Getenv(roleVariable)
	if role == "" {
		goleak.VerifyTestMain(m) // exits
	}
	if err := play(context.Background(), role); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func play(ctx context.Context, role string) error {
	var cfg objectstore.Config
	if err := json.Unmarshal([]byte(os.Getenv(configVariable)), &cfg); err != nil {
		return err
	}
	store, err := objectstore.Open(ctx, cfg)
	if err != nil {
		return err
	}
	if _, err := io.ReadAll(os.Stdin); err != nil { // its end is the start
		return err
	}
	return roles[role](ctx, store)
}

const (
	racers     = 6
	rounds     = 40
	increments = 10
)

// racer creates objects against the others, says which it created, and counts.
func racer(ctx context.Context, store objectstore.Store) error {
	for round := range rounds {
		key := fmt.Sprintf("race/%d", round)
		_, err := store.Put(ctx, key, strings.NewReader(fmt.Sprint(os.Getpid())), objectstore.IfAbsent)
		if err == nil {
			fmt.Println(key, os.Getpid())
		} else if !errors.Is(err, objectstore.ErrPrecondition) {
			return err
		}
	}
	return storetest.Increment(ctx, store, "counter", increments)
}

func localConfig(t *testing.T) objectstore.Config {
	return objectstore.Config{URL: "file://" + t.TempDir()}
}

func s3Config(server *stack.S3) objectstore.Config {
	return objectstore.Config{URL: "s3://" + server.Bucket() + "/" + rand.Text(), S3: s3Options(server)}
}

func TestProcessesLocal(t *testing.T) { testProcesses(t, localConfig(t)) }
func TestProcessesS3(t *testing.T)    { testProcesses(t, s3Config(stacktest.S3(t, stack.S3Options{}))) }

func testProcesses(t *testing.T, cfg objectstore.Config) {
	store, err := objectstore.Open(t.Context(), cfg)
	check(t, err)
	_, err = store.Put(t.Context(), "counter", strings.NewReader("0"), objectstore.IfAbsent)
	check(t, err)
	created := map[string]string{}
	for _, line := range runAll(t, "racer", cfg, racers) {
		key, pid, _ := strings.Cut(line, " ")
		if created[key] != "" {
			t.Errorf("%s was created by both %s and %s", key, created[key], pid)
		}
		created[key] = pid
	}
	for round := range rounds {
		key := fmt.Sprintf("race/%d", round)
		if got := string(read(t, store, key)); created[key] != got {
			t.Errorf("%s was created by %q, and holds %q", key, created[key], got)
		}
	}
	if got := string(read(t, store, "counter")); got != fmt.Sprint(racers*increments) {
		t.Errorf("%d processes counted to %s, want %d", racers, got, racers*increments)
	}
	runAll(t, "prober", cfg, 3)
	for info, err := range store.List(t.Context(), "probe", objectstore.ListOptions{}) {
		check(t, err)
		t.Errorf("a probe left %s", info.Key)
	}
}

// runAll runs n processes from one start and returns the lines that they write.
func runAll(t *testing.T, role string, cfg objectstore.Config, n int) []string {
	t.Helper()
	out := make([]bytes.Buffer, n)
	var all []*exec.Cmd
	var gates []io.Closer
	for i := range n {
		cmd, gate := child(t, role, cfg)
		cmd.Stdout = &out[i]
		check(t, cmd.Start())
		all, gates = append(all, cmd), append(gates, gate)
	}
	for _, gate := range gates {
		check(t, gate.Close())
	}
	var lines []string
	for i, cmd := range all {
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v: %s", role, err, cmd.Stderr)
		}
		for scan := bufio.NewScanner(&out[i]); scan.Scan(); {
			lines = append(lines, scan.Text())
		}
	}
	return lines
}

// child prepares a process, which begins when the gate is closed.
func child(t *testing.T, role string, cfg objectstore.Config) (cmd *exec.Cmd, gate io.Closer) {
	t.Helper()
	text, err := json.Marshal(cfg)
	check(t, err)
	cmd = exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"="+role, configVariable+"="+string(text))
	cmd.Stderr = &bytes.Buffer{}
	gate, err = cmd.StdinPipe()
	check(t, err)
	return cmd, gate
}

// writer puts objects, each of which says what it should hold, until it is killed.
func writer(ctx context.Context, store objectstore.Store) error {
	for i := 0; ; i++ {
		data := make([]byte, 32+mathrand.IntN(200<<10))
		rand.Read(data)
		sum := sha256.Sum256(data[32:])
		copy(data, sum[:])
		key, cond := fmt.Sprintf("d%d/%s", i%3, rand.Text()), objectstore.IfAbsent
		if i%2 == 0 {
			key, cond = "always", objectstore.Always
		}
		info, err := store.Put(ctx, key, bytes.NewReader(data), cond)
		if err != nil {
			return err
		}
		if cond.Absent() {
			fmt.Println(info.Key, info.ETag)
		}
	}
}

// TestKilledWriters kills a process at random moments: what it was told is
// written is there, what is there is whole, and its leftovers are not seen.
func TestKilledWriters(t *testing.T) {
	cfg := localConfig(t)
	acknowledged := map[string]string{}
	for range 15 {
		cmd, gate := child(t, "writer", cfg)
		var out bytes.Buffer
		cmd.Stdout = &out
		check(t, cmd.Start())
		check(t, gate.Close())
		<-time.After(50*time.Millisecond + mathrand.N(150*time.Millisecond)) // a random moment
		check(t, cmd.Process.Kill())
		if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != -1 {
			t.Fatalf("the writer ended by itself: %v: %s", err, cmd.Stderr)
		}
		for scan := bufio.NewScanner(&out); scan.Scan(); {
			if key, etag, whole := strings.Cut(scan.Text(), " "); whole && len(etag) == 64 {
				acknowledged[key] = etag
			}
		}
	}
	if len(acknowledged) == 0 {
		t.Fatal("nothing was written")
	}
	store, err := objectstore.Open(t.Context(), cfg)
	check(t, err)
	for info, err := range store.List(t.Context(), "", objectstore.ListOptions{}) {
		check(t, err)
		data := read(t, store, info.Key)
		if sum := sha256.Sum256(data[32:]); !bytes.Equal(sum[:], data[:32]) {
			t.Errorf("%s is damaged", info.Key)
		}
		if info.Key != "always" && !strings.HasPrefix(info.Key, "d") {
			t.Errorf("listed %s", info.Key)
		}
	}
	for key, etag := range acknowledged {
		if info, err := store.Head(t.Context(), key); err != nil || info.ETag != etag {
			t.Errorf("%s was written with ETag %s, now %+v, %v", key, etag, info, err)
		}
	}
}

const fileLimit = 1 << 20

// limited writes more than the operating system lets it.
func limited(ctx context.Context, store objectstore.Store) error {
	signal.Ignore(syscall.SIGXFSZ)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: fileLimit, Max: fileLimit}); err != nil {
		return err
	}
	_, err := store.Put(ctx, "k", bytes.NewReader(make([]byte, 2*fileLimit)), objectstore.Always)
	if !errors.Is(err, syscall.EFBIG) || !strings.Contains(err.Error(), "put k") {
		return fmt.Errorf("the Put gives %w", err)
	}
	_, err = store.Put(ctx, "small", strings.NewReader("x"), objectstore.IfAbsent)
	return err
}

// TestFileSystemFailure: a Put that the file system stops leaves nothing behind.
func TestFileSystemFailure(t *testing.T) {
	cfg := localConfig(t)
	runAll(t, "limited", cfg, 1)
	dir := strings.TrimPrefix(cfg.URL, "file://")
	if got := files(t, dir); len(got) != 1 || got[0] != "small" {
		t.Errorf("the directory holds %q", got)
	}
}
