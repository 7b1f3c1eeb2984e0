package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// storeURL says where a child archives to.
func (s *servers) storeURL(local bool, name string) string {
	if local {
		return "file://" + s.dir + "/" + name
	}
	return "s3://" + s.s3.Bucket() + "/" + name
}

// command is the program, with default settings but for where
// things are.
func (s *servers) command(ctx context.Context, storeURL string, args ...string) (*exec.Cmd, *bytes.Buffer) {
	cmd := exec.CommandContext(ctx, s.program, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), s.s3.Env()...)
	cmd.Env = append(cmd.Env, "RESERVOIR_REDIS_URL="+s.redis.URL(), "RESERVOIR_STORE_URL="+storeURL, "RESERVOIR_STORE_ENDPOINT="+s.s3.Endpoint())
	cmd.Env = append(cmd.Env, s.env...)
	errs := new(bytes.Buffer)
	cmd.Stderr = errs
	return cmd, errs
}

// childRun is what one run of the program as a child process did and took.
type childRun struct {
	events uint64
	stored int64
	wall   time.Duration // of the whole process
	cpu    time.Duration // user and system
	peak   int64         // resident bytes
}

// archiveOnce drains a stream with `reservoir archive --once`.
func (s *servers) archiveOnce(ctx context.Context, storeURL, stream string) (childRun, error) {
	r, out, err := s.child(ctx, storeURL, "archive", "--once", "--json", "--stream", stream)
	if err != nil {
		return r, err
	}
	var summary struct {
		Events      uint64 `json:"events"`
		StoredBytes int64  `json:"stored_bytes"`
	}
	if err := json.Unmarshal(out, &summary); err != nil {
		return r, fmt.Errorf("summary of reservoir archive: %w", err)
	}
	r.events, r.stored = summary.Events, summary.StoredBytes
	return r, nil
}

// child runs the program to its end, and returns what it printed and took.
func (s *servers) child(ctx context.Context, storeURL string, args ...string) (r childRun, stdout []byte, err error) {
	cmd, errs := s.command(ctx, storeURL, args...)
	var out bytes.Buffer
	cmd.Stdout = &out
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return r, nil, fmt.Errorf("start reservoir %s: %w", args[0], err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	err = watch(cmd.Process.Pid, ended, &r.peak)
	r.wall = time.Since(began)
	if err != nil {
		return r, nil, fmt.Errorf("reservoir %s: %w: %s", args[0], err, errs)
	}
	r.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return r, out.Bytes(), nil
}

// watch follows a process's peak memory until it has ended.
func watch(pid int, ended <-chan error, peak *int64) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-tick.C:
			// Near its end a process has no memory any more, or is gone.
			if now, err := peakMemory(pid); err == nil {
				*peak = max(*peak, now)
			} else if errors.Is(err, os.ErrPermission) {
				return err
			}
		}
	}
}
