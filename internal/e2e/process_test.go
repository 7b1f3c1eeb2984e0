package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// environ is this process's environment without what would configure reservoir,
// and with more.
func environ(more ...string) []string {
	var out []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "RESERVOIR_") && !strings.HasPrefix(v, "AWS_") {
			out = append(out, v)
		}
	}
	return append(out, more...)
}

// run is what one run of the program to its end gave.
type run struct {
	status         int
	stdout, stderr string
}

// reservoir runs the program until it ends by itself.
func reservoir(t *testing.T, env []string, args ...string) run {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env, cmd.Dir = environ(env...), t.TempDir()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if cmd.ProcessState == nil || ctx.Err() != nil {
		t.Fatalf("reservoir %s: %v, %v\n%s", strings.Join(args, " "), err, context.Cause(ctx), stderr.String())
	}
	r := run{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
	wantSane(t, r.stderr)
	return r
}

// mustReservoir runs the program, which shall succeed.
func mustReservoir(t *testing.T, env []string, args ...string) run {
	t.Helper()
	r := reservoir(t, env, args...)
	if r.status != 0 {
		t.Fatalf("reservoir %s: status %d\n%s\n%s", strings.Join(args, " "), r.status, r.stdout, tail(r.stderr))
	}
	return r
}

// wantSane looks for what no run may print, killed or not.
func wantSane(t *testing.T, stderr string) {
	t.Helper()
	for _, bad := range []string{"DATA RACE", "panic:", "fatal error:", "goroutine "} {
		if strings.Contains(stderr, bad) {
			t.Fatalf("the program printed %q:\n%s", bad, stderr)
		}
	}
}

func tail(text string) string {
	const most = 4000
	return text[max(0, len(text)-most):]
}

// daemon is one life of a process that runs until it is stopped.
type daemon struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when the process is gone and all it said is read

	mu       sync.Mutex
	messages map[string]int
	heard    chan struct{} // closed and replaced with every message
	stderr   bytes.Buffer
}

// start begins a life of the program; the test's end ends it at the latest.
func start(t *testing.T, env []string, args ...string) *daemon {
	t.Helper()
	return startProgram(t, program, env, args...)
}

// startProgram is start of another program, which logs alike.
func startProgram(t *testing.T, path string, env []string, args ...string) *daemon {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Env, cmd.Dir = environ(env...), t.TempDir()
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{cmd: cmd, ended: make(chan struct{}), messages: map[string]int{}, heard: make(chan struct{})}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(d.ended)
		d.listen(stderr)
		cmd.Wait() //nolint:errcheck // the status is looked at, and a kill is an error to it
	}()
	t.Cleanup(func() {
		d.kill(t)
		if t.Failed() {
			t.Logf("a life of the program ended like this:\n%s", tail(d.output()))
		}
	})
	return d
}

// listen takes the log as it comes.
func (d *daemon) listen(r io.Reader) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var entry struct {
			Msg string `json:"msg"`
		}
		d.mu.Lock()
		d.stderr.Write(lines.Bytes())
		d.stderr.WriteByte('\n')
		if json.Unmarshal(lines.Bytes(), &entry) == nil {
			d.messages[entry.Msg]++
			close(d.heard)
			d.heard = make(chan struct{})
		}
		d.mu.Unlock()
	}
}

// said is how often the log had a message.
func (d *daemon) said(message string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.messages[message]
}

func (d *daemon) output() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stderr.String()
}

// mustSay waits until the log has had a message more than n times.
func (d *daemon) mustSay(t *testing.T, message string, n int) {
	t.Helper()
	timer := time.NewTimer(time.Minute)
	defer timer.Stop()
	for {
		d.mu.Lock()
		heard, got := d.heard, d.messages[message]
		d.mu.Unlock()
		if got > n {
			return
		}
		select {
		case <-heard:
			continue
		case <-d.ended:
		case <-timer.C:
		}
		if d.said(message) <= n {
			t.Fatalf("the log had %q %d times, want more:\n%s", message, n, tail(d.output()))
		}
	}
}

// signal sends a signal to the process, which must be there.
func (d *daemon) signal(t *testing.T, sig os.Signal) {
	t.Helper()
	if err := d.cmd.Process.Signal(sig); err != nil {
		t.Fatalf("send %v: %v\n%s", sig, err, tail(d.output()))
	}
}

// wait returns the status with which the process ended by itself.
func (d *daemon) wait(t *testing.T, limit time.Duration) int {
	t.Helper()
	pause(t, limit, d.ended)
	select {
	case <-d.ended:
	default:
		t.Fatalf("the process still ran after %v:\n%s", limit, tail(d.output()))
	}
	wantSane(t, d.output())
	return d.cmd.ProcessState.ExitCode()
}

// kill ends the process with SIGKILL, and waits until it is gone.
func (d *daemon) kill(t *testing.T) {
	t.Helper()
	select {
	case <-d.ended:
	default:
		d.cmd.Process.Kill() //nolint:errcheck // it may have ended at this moment
		<-d.ended
	}
	wantSane(t, d.output())
}

// running reports whether the process has not ended.
func (d *daemon) running() bool {
	select {
	case <-d.ended:
		return false
	default:
		return true
	}
}

// pause lets time pass: how long is part of what is tested. It ends early when
// until is closed, or with the test.
func pause(t *testing.T, d time.Duration, until <-chan struct{}) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-until:
	case <-t.Context().Done():
	}
}
