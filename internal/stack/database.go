package stack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// Neither PostgreSQL nor MariaDB runs as root: there they run as the system user
// that their packages make.

// account is whom a server runs as; nil for this process's own user.
type account struct{ uid, gid uint32 }

// accountFor returns the system user of that name, if this process is root.
func accountFor(name string) (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &account{uint32(uid), uint32(gid)}, nil
}

// become has a process start as the account.
func (a *account) become(attr *syscall.SysProcAttr) {
	if a != nil {
		attr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
}

// prepareDatabase is prepare for a server that runs as another user when this
// process is root. Its directory is always a temporary one, directly in /tmp: other
// users may not enter those of tests.
func (s *Server) prepareDatabase(ctx context.Context, systemUser, binary string) (err error) {
	if s.as, err = accountFor(systemUser); err != nil {
		return fmt.Errorf("%s: %w: %w", binary, ErrNoBinary, err)
	}
	if err := s.prepare(ctx, binary, "", 1); err != nil {
		return err
	}
	if s.as != nil {
		return os.Chown(s.dir, int(s.as.uid), int(s.as.gid))
	}
	return nil
}

// setUp runs a program that must end before the server can be started.
func (s *Server) setUp(ctx context.Context, path string, args ...string) error {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir, cmd.SysProcAttr = s.dir, &syscall.SysProcAttr{} // ctx ends it
	s.as.become(cmd.SysProcAttr)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(path), err, bytes.TrimSpace(out))
	}
	return nil
}

// databaseBinary is Binary for programs that packages put where PATH does not lead.
func databaseBinary(name string, patterns ...string) (string, error) {
	path, err := Binary(name)
	if !errors.Is(err, ErrNoBinary) {
		return path, err
	}
	for _, pattern := range patterns {
		found, globErr := filepath.Glob(pattern)
		if globErr != nil {
			return "", globErr
		}
		for _, path := range slices.Backward(found) { // the highest version first
			if executable(path) == nil {
				return path, nil
			}
		}
	}
	return "", err
}
