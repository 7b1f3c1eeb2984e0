package stack

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// How long a server may take to answer first, and to end when asked to.
const (
	startTimeout = 2 * time.Minute
	stopTimeout  = 15 * time.Second
	pollInterval = 10 * time.Millisecond
)

// A Server is a child process that serves on a loopback port, embedded in [Redis],
// [S3], [ClickHouse], [Postgres] and [MySQL]. Its methods are safe for concurrent use.
type Server struct {
	name    string
	path    string
	args    []string
	env     []string // added to the environment
	environ []string // the environment; nil for that of this process
	dir     string   // absolute
	tempDir string   // removed by Close; empty when the caller owns the directory
	ports   []*port
	byStdin bool           // ends when its standard input is closed, rather than by a signal
	endBy   syscall.Signal // 0: SIGTERM
	as      *account       // whom it runs as; nil: this process's user
	ready   func(context.Context) error

	mu     sync.Mutex
	child  *child // nil while the server is down
	closed bool
}

// child is one run of the server's process.
type child struct {
	process *os.Process
	stdin   io.Closer     // nil unless the server ends by its standard input
	done    chan struct{} // closed when the process has ended
	err     error         // of Wait, once done
}

// Pid returns the process's id, or 0 while the server is down.
func (s *Server) Pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.running() {
		return 0
	}
	return s.child.process.Pid
}

// Ended says how the server's process ended when it did so by itself: its status or its
// signal, and the end of what it wrote. It is "" for a server that runs, that was never
// started, or that a method has ended.
func (s *Server) Ended() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.child == nil || s.running() {
		return ""
	}
	return fmt.Sprintf("%s ended by itself: %v%s", s.name, s.child.err, s.lastOutput())
}

// Restart starts the server again on the same port and the same data, and returns
// when it answers. A server that is still running is stopped first.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("restart %s: closed", s.name)
	}
	if err := s.stop(); err != nil {
		return err
	}
	return s.start(ctx)
}

// Stop ends the server in an orderly way and keeps its data and its port. It does
// nothing when the server is down.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stop()
}

// Kill ends the server with SIGKILL, as a crash would, and returns when it is gone.
// It does nothing when the server is down.
func (s *Server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kill()
}

// Pause freezes the server (SIGSTOP): connections stay open and nothing answers. It returns
// when all of the server's threads stand still.
func (s *Server) Pause() error {
	if err := s.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	deadline := time.After(startTimeout)
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for !standsStill(s.Pid()) {
		select {
		case <-deadline:
			return fmt.Errorf("%s goes on after SIGSTOP", s.name)
		case <-tick.C:
		}
	}
	return nil
}

// standsStill reports whether no thread of a process runs, as Linux tells; elsewhere it is
// taken for granted.
func standsStill(pid int) bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		return true
	}
	for _, path := range threads {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		if i := bytes.LastIndexByte(stat, ')'); i < 0 || !bytes.HasPrefix(stat[i:], []byte(") T")) {
			return false
		}
	}
	return true
}

// Resume lets a paused server go on.
func (s *Server) Resume() error { return s.signal(syscall.SIGCONT) }

// Close stops the server, gives its port back, and removes its directory if it was
// not named in the options. It can be called more than once.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	err := s.stop()
	for _, p := range s.ports {
		err = errors.Join(err, p.release())
	}
	if s.tempDir != "" {
		err = errors.Join(err, os.RemoveAll(s.tempDir))
	}
	return err
}

// firstStart is Restart for a server that was never up.
func (s *Server) firstStart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.start(ctx)
}

func (s *Server) running() bool {
	if s.child == nil {
		return false
	}
	select {
	case <-s.child.done:
		return false
	default:
		return true
	}
}

func (s *Server) signal(sig syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.running() {
		return fmt.Errorf("send %v to %s: not running", sig, s.name)
	}
	if err := s.child.process.Signal(sig); err != nil {
		return fmt.Errorf("send %v to %s: %w", sig, s.name, err)
	}
	return nil
}

func (s *Server) start(ctx context.Context) error {
	c, err := s.spawn()
	if err != nil {
		return fmt.Errorf("start %s: %w", s.name, err)
	}
	s.child = c
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := s.waitReady(ctx, c); err != nil {
		err = fmt.Errorf("start %s: %w%s", s.name, err, s.lastOutput())
		return errors.Join(err, s.kill())
	}
	return nil
}

func (s *Server) waitReady(ctx context.Context, c *child) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		err := s.ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-c.done:
			return fmt.Errorf("the process ended: %w", errors.Join(c.err, err))
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-tick.C:
		}
	}
}

// spawn starts the process. The thread that starts it waits for it as well: Linux
// ends a child with parentDeath set when its parent's *thread* ends.
func (s *Server) spawn() (*child, error) {
	out, err := os.OpenFile(s.logFile(), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(s.path, s.args...) //nolint:noctx // it outlives the context of its start
	cmd.Dir = s.dir
	cmd.Env = append(s.environ[:len(s.environ):len(s.environ)], s.env...)
	if s.environ == nil {
		cmd.Env = append(os.Environ(), s.env...)
	}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = ownGroup()
	s.as.become(cmd.SysProcAttr)
	c := &child{done: make(chan struct{})}
	if s.byStdin {
		if c.stdin, err = cmd.StdinPipe(); err != nil {
			return nil, errors.Join(err, out.Close())
		}
	}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := errors.Join(cmd.Start(), out.Close())
		c.process = cmd.Process
		started <- err
		if err != nil {
			return
		}
		c.err = cmd.Wait()
		close(c.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return c, nil
}

func (s *Server) stop() error {
	if !s.running() {
		s.child = nil
		return nil
	}
	c := s.child
	if err := c.askToEnd(cmp.Or(s.endBy, syscall.SIGTERM)); err != nil && s.running() {
		return errors.Join(fmt.Errorf("stop %s: %w", s.name, err), s.kill())
	}
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-c.done:
		s.child = nil
		return nil
	case <-timer.C:
		err := fmt.Errorf("stop %s: still running after %v, killed", s.name, stopTimeout)
		return errors.Join(err, s.kill())
	}
}

// askToEnd wakes a paused process too, which would not see the request otherwise.
func (c *child) askToEnd(by syscall.Signal) error {
	if err := c.process.Signal(syscall.SIGCONT); err != nil {
		return err
	}
	if c.stdin != nil {
		return c.stdin.Close()
	}
	return c.process.Signal(by)
}

func (s *Server) kill() error {
	if !s.running() {
		s.child = nil
		return nil
	}
	c := s.child
	if err := c.process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", s.name, err)
	}
	<-c.done
	s.child = nil
	return nil
}

func (s *Server) logFile() string { return filepath.Join(s.dir, "server.log") }

// lastOutput returns the end of the server's log, for an error's text.
func (s *Server) lastOutput() string {
	const most = 2000
	log, err := os.ReadFile(s.logFile())
	if err != nil || len(log) == 0 {
		return ""
	}
	if len(log) > most {
		log = log[len(log)-most:]
	}
	return "\n" + string(log)
}

// prepare finds the server's program, makes its directory (a temporary one when dir is
// empty) and claims its ports. On failure Close gives back what was taken until then.
func (s *Server) prepare(ctx context.Context, binary, dir string, ports int) (err error) {
	if s.path == "" {
		if s.path, err = Binary(binary); err != nil {
			return err
		}
	}
	if dir == "" {
		if s.tempDir, err = os.MkdirTemp("", "reservoir-"+binary+"-"); err != nil {
			return err
		}
		s.dir = s.tempDir
	} else {
		if s.dir, err = filepath.Abs(dir); err != nil {
			return err
		}
		if err := os.MkdirAll(s.dir, 0o700); err != nil {
			return err
		}
	}
	for range ports {
		p, err := newPort(ctx)
		if err != nil {
			return err
		}
		s.ports = append(s.ports, p)
	}
	return nil
}
