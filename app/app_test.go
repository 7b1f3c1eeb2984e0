package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.uber.org/goleak"

	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/redisstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// command runs reservoir in this process.
func command(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = run(t.Context(), Options{}, args, strings.NewReader(""), &out, &errs)
	return status, out.String(), errs.String()
}

func TestUsage(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, c := range []struct {
		args   string
		status int
		want   string // in stdout or stderr
	}{
		{"", 0, "Available Commands"},
		{"help", 0, "Available Commands"},
		{"help config", 0, "keys"},
		{"version", 0, "reservoir "},
		{"version --json", 0, `"go": "go1.`},
		{"completion bash", 0, "bash completion"},
		{"__complete config c", 0, "check"},
		{"__complete events --stream o", 0, ""}, // there is no archive: no words, and no error
		{"versio", 2, `unknown command "versio" for "reservoir": did you mean version?`},
		{"config shwo", 2, "did you mean show?"},
		{"re", 2, "did you mean rebuild or replay?"},
		{"gx2", 2, "unknown command \"gx2\" for \"reservoir\"\n"},
		{"config", 2, "want show, check or keys"},
		{"version --jsno", 2, "remedy: see `reservoir version --help`"},
		{"version x", 2, "x"},
		{"config check", 0, "configuration is valid (no file)"},
		{"config check --config no.yaml", 2, "no such file"},
		{"config show --log-level loud", 2, "log.level (--log-level): is not known: \"loud\"; want debug"},
		{"config check --redis-url redsi://:hunter2@x", 2, "unknown scheme"},
		{"config keys", 0, "RESERVOIR_REDIS_URL"},
		{"config keys --markdown", 0, "## redis.tls"},
		{"config keys sentinel", 0, "redis.sentinel_password"},
	} {
		t.Run(c.args, func(t *testing.T) {
			status, stdout, stderr := command(t, strings.Fields(c.args)...)
			if status != c.status {
				t.Errorf("status %d, want %d", status, c.status)
			}
			if all := stdout + stderr; !strings.Contains(all, c.want) || strings.Contains(all, "hunter2") {
				t.Errorf("printed %q, want %q", all, c.want)
			}
			if n := strings.Count(stderr, "error: "); n != min(status, 1) {
				t.Errorf("%d errors printed: %s", n, stderr)
			}
			if c.status != 0 && stdout != "" {
				t.Errorf("an error printed to stdout: %s", stdout)
			}
		})
	}
}

// TestBadConfigurationStopsCommands but not those that need none.
func TestBadConfigurationStopsCommands(t *testing.T) {
	t.Setenv("RESERVOIR_REDIS_ULR", "x")
	for args, want := range map[string]int{"config show": 2, "config check": 2, "config keys": 0, "version": 0, "help": 0, "completion zsh": 0} {
		if status, _, stderr := command(t, strings.Fields(args)...); status != want {
			t.Errorf("%s: status %d: %s", args, status, stderr)
		} else if want == 2 && !strings.Contains(stderr, "did you mean RESERVOIR_REDIS_URL?\n  remedy: ") {
			t.Errorf("%s: %s", args, stderr)
		}
	}
}

func TestConfigShow(t *testing.T) {
	file := filepath.Join(t.TempDir(), "r.yaml")
	if err := os.WriteFile(file, []byte("redis:\n  password: hunter2\n  db: 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("RESERVOIR_ARCHIVE_ROLL_AGE", "5s")
	status, stdout, stderr := command(t, "config", "show", "--json", "--config", file, "--redis-url", "redis://u:hunter2@h")
	if status != 0 {
		t.Fatal(stderr)
	}
	var values []configValue
	if err := json.Unmarshal([]byte(stdout), &values); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, v := range values {
		got[v.Key] = v.Value + " from " + v.Origin
	}
	for key, want := range map[string]string{
		"redis.url":        "redis://u:***@h from --redis-url",
		"redis.password":   "*** from " + file + ":2",
		"redis.db":         "3 from " + file + ":3",
		"archive.roll.age": "5s from RESERVOIR_ARCHIVE_ROLL_AGE",
		"archive.formats":  "jsonl,parquet from default",
	} {
		if got[key] != want {
			t.Errorf("%s = %q, want %q", key, got[key], want)
		}
	}
	if strings.Contains(stdout, "hunter2") {
		t.Error("a secret was printed")
	}
}

func TestReport(t *testing.T) {
	failed := errors.New("it failed")
	for _, c := range []struct {
		name    string
		err     error
		working bool
		status  int
		want    string
	}{
		{"fine", nil, true, exitOK, ""},
		{"problems", fmt.Errorf("x: %w", errProblems), true, exitProblems, ""},
		{"before work", failed, false, exitUsage, "error: it failed\n  remedy: see `reservoir x --help`\n"},
		{"at work", failed, true, exitFailure, "error: it failed\n"},
		{"usage at work", usagef("want %s", "y"), true, exitUsage, "error: want y\n  remedy: see `reservoir x --help`\n"},
		{"own remedy", fmt.Errorf("a: %w", remedy.Wrap(failed, "mend it")), true, exitFailure, "error: a: it failed\n  remedy: mend it\n"},
		{"known error", fmt.Errorf("a: %w", redisstream.ErrTooOld), true, exitFailure, "error: a: redis is older than 7.0\n  remedy: upgrade Redis"},
		{"permission", &redisstream.PermissionError{Command: "xinfo|stream"}, true, exitFailure, "ACL SETUSER <user> +xinfo|stream"},
		{"disk", fmt.Errorf("a: %w", syscall.ENOSPC), true, exitFailure, "remedy: free some space"},
		{"interrupted", fmt.Errorf("a: %w", context.Canceled), true, exitInterrupted, "error: interrupted\n"},
		{"cancelled otherwise", context.Canceled, true, exitFailure, "error: context canceled\n"},
		{"failed while interrupted", failed, true, exitFailure, "error: it failed\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			if strings.Contains(c.name, "interrupted") {
				cancel(errInterrupted)
			}
			var stderr bytes.Buffer
			a := newApp(Options{}, nil, nil, &stderr, nil)
			a.working = c.working
			root := &cobra.Command{Use: "reservoir"}
			cmd := &cobra.Command{Use: "x"}
			root.AddCommand(cmd)
			if got := a.report(ctx, cmd, c.err); got != c.status {
				t.Errorf("status %d, want %d", got, c.status)
			}
			if got := stderr.String(); !strings.HasPrefix(got, c.want) && !strings.Contains(got, c.want) || (c.want == "" && got != "") {
				t.Errorf("printed %q, want %q", got, c.want)
			}
		})
	}
}

// TestEveryCommand: each has help that says what it does, and flags that set
// keys of the configuration are bound to keys that exist.
func TestEveryCommand(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: short help %q", cmd.CommandPath(), cmd.Short)
		}
		if cmd.Run != nil {
			t.Errorf("%s has Run: want RunE", cmd.CommandPath())
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s: flag %s has no help", cmd.CommandPath(), f.Name)
			}
		})
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	root := newRootCmd(newApp(Options{}, nil, nil, nil, nil))
	walk(root)
	for _, name := range []string{"log-level", "log-format", "redis-url", "store-url"} {
		if root.PersistentFlags().Lookup(name) == nil {
			t.Errorf("no flag %s: is its key gone?", name)
		}
	}
}

// TestSignals: the first cancels, the second aborts.
func TestSignals(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		aborted := make(chan struct{})
		ctx, stop := interruptible(t.Context(), func() { close(aborted) })
		kill := func() {
			if err := syscall.Kill(os.Getpid(), sig); err != nil {
				t.Fatal(err)
			}
		}
		kill()
		await(t, ctx.Done())
		if !errors.Is(context.Cause(ctx), errInterrupted) {
			t.Errorf("cause %v", context.Cause(ctx))
		}
		select {
		case <-aborted:
			t.Fatal("the first signal aborted")
		default:
		}
		kill()
		await(t, aborted)
		stop()
	}
}

func await(t *testing.T, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(10 * time.Second):
		t.Fatal("nothing came")
	}
}

func TestHuman(t *testing.T) {
	for got, want := range map[string]string{
		humanBytes(0):                                      "0 B",
		humanBytes(999):                                    "999 B",
		humanBytes(1000):                                   "0.98 KiB",
		humanBytes(1536):                                   "1.50 KiB",
		humanBytes(int64(123456789)):                       "118 MiB",
		humanBytes(uint64(1) << 63):                        "8.00 EiB",
		humanCount(9999):                                   "9999",
		humanCount(10000):                                  "10.0k",
		humanCount(1234567):                                "1.23M",
		humanCount(999950):                                 "1.00M",
		humanRate(300, 2*time.Second):                      "150/s",
		humanRate(300, 0):                                  "-",
		humanByteRate(3<<20, 2*time.Second):                "1.50 MiB/s",
		humanDuration(0):                                   "0s",
		humanDuration(1500 * time.Microsecond):             "2ms",
		humanDuration(4234 * time.Millisecond):             "4.2s",
		humanDuration(200 * time.Second):                   "3m20s",
		humanDuration(5*time.Hour + 10*time.Minute + 31e9): "5h11m",
		humanDuration(76*time.Hour + 10*time.Minute):       "3d4h",
		humanDuration(-4 * time.Second):                    "-4s",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	a := newApp(Options{}, nil, &out, nil, nil)
	tab := a.table("NAME", "N")
	tab.row("orders\x1b[31m\n", "1")
	tab.row("x", "")
	if err := tab.flush(); err != nil {
		t.Fatal(err)
	}
	want := "NAME              N\n" + `orders\x1b[31m\n  1` + "\nx\n"
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}
