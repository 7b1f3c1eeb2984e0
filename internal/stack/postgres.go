package stack

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Postgres is a running PostgreSQL server with one database, "reservoir". It does not
// wait for the disk: what it committed survives its own end, not that of the machine.
type Postgres struct {
	Server
	bin string
}

// StartPostgres starts a PostgreSQL server on a free loopback port, in a temporary
// directory that Close removes, and returns when it answers. ctx bounds the start only.
func StartPostgres(ctx context.Context) (*Postgres, error) {
	p := &Postgres{}
	p.name, p.ready, p.endBy = "postgresql", p.answers, syscall.SIGINT // which does not wait for clients
	if err := p.configure(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start postgresql: %w", err), p.Close())
	}
	if err := p.firstStart(ctx); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *Postgres) configure(ctx context.Context) (err error) {
	if p.path, err = databaseBinary("postgres", "/usr/lib/postgresql/*/bin/postgres", "/opt/homebrew/opt/postgresql*/bin/postgres"); err != nil {
		return err
	}
	if p.path, err = filepath.EvalSymlinks(p.path); err != nil { // its other programs are where it really is
		return err
	}
	p.bin = filepath.Dir(p.path)
	if err := p.prepareDatabase(ctx, "postgres", "postgres"); err != nil {
		return err
	}
	data := filepath.Join(p.dir, "data")
	if err := p.setUp(ctx, filepath.Join(p.bin, "initdb"), "--pgdata", data, "--username", "reservoir", "--auth", "trust",
		"--encoding", "UTF8", "--locale", "C", "--no-sync"); err != nil {
		return err
	}
	p.args = []string{"-D", data, "-p", p.ports[0].String(), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off"}
	return nil
}

// URL returns the server's address for the reservoir user, who may do everything.
func (p *Postgres) URL() string {
	return "postgres://reservoir@" + p.ports[0].addr() + "/postgres?sslmode=disable"
}

// Restart is that of Server. After Kill it waits for the processes that the server
// left behind, which end by themselves.
func (p *Postgres) Restart(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); ; {
		err := p.Server.Restart(ctx)
		if err == nil || !strings.Contains(err.Error(), "pre-existing shared memory block") || time.Since(began) > stopTimeout {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-tick.C:
		}
	}
}

// answers succeeds when the server takes connections: it listens before that.
func (p *Postgres) answers(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, filepath.Join(p.bin, "pg_isready"), "-h", "127.0.0.1", "-p", p.ports[0].String(), "-U", "reservoir").CombinedOutput()
	if err != nil {
		return fmt.Errorf("pg_isready: %w: %s", err, out)
	}
	return nil
}
