// Package stack runs the real servers that the demo and the tests need, on
// loopback ports and in directories of their own: redis-server, an S3 server
// (versitygw on a local directory), the ClickHouse engine, PostgreSQL and MariaDB.
//
// A server is a child process. It can be stopped, killed, paused and started
// again on the same port and the same data, and it does not outlive the process
// that started it (on Linux even when that one is killed). The binaries are
// looked for, never downloaded: see [Binary].
package stack

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// ErrNoBinary is wrapped by the error of a server whose program is not installed.
var ErrNoBinary = errors.New("not installed")

// Binary returns the path of a program that a server needs. It is looked for in
// the environment variable RESERVOIR_TOOL_<NAME> (upper case, dashes as underscores:
// RESERVOIR_TOOL_REDIS_SERVER), then in the cache that `make tools` fills (.cache/bin
// beside the go.mod above the working directory), then on PATH.
func Binary(name string) (string, error) {
	variable := "RESERVOIR_TOOL_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
	if path := os.Getenv(variable); path != "" {
		if err := executable(path); err != nil {
			return "", fmt.Errorf("%s: %w", variable, err)
		}
		return path, nil
	}
	if cache, err := CacheDir(); err == nil {
		if path := filepath.Join(cache, "bin", name); executable(path) == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%s: %w (run `make tools`, or set %s to its path)", name, ErrNoBinary, variable)
	}
	return path, nil
}

// CacheDir returns the folder that `make tools` installs into: .cache beside the
// go.mod found by walking up from the working directory.
func CacheDir() (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	return filepath.Join(root, ".cache"), nil
}

func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("find the module: no go.mod above the working directory")
		}
		dir = parent
	}
}

func executable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.IsDir() || info.Mode()&0o111 == 0 {
		return fmt.Errorf("%s is not executable", path)
	}
	return nil
}
