package stack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"
)

// MySQL is a running MariaDB server, which speaks MySQL's protocol, with one
// database, "reservoir". What it committed survives its own end, not that of the
// machine.
type MySQL struct{ Server }

// StartMySQL starts a MariaDB server on a free loopback port, in a temporary
// directory that Close removes, and returns when it answers. ctx bounds the start only.
func StartMySQL(ctx context.Context) (*MySQL, error) {
	m := &MySQL{}
	m.name, m.ready = "mariadb", m.greets
	if err := m.configure(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start mariadb: %w", err), m.Close())
	}
	if err := m.firstStart(ctx); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

const mysqlUser = `CREATE DATABASE IF NOT EXISTS reservoir CHARACTER SET utf8mb4;
CREATE USER IF NOT EXISTS reservoir@'127.0.0.1';
GRANT ALL ON *.* TO reservoir@'127.0.0.1';
`

func (m *MySQL) configure(ctx context.Context) (err error) {
	if m.path, err = databaseBinary("mariadbd", "/usr/sbin/mariadbd", "/opt/homebrew/opt/mariadb/bin/mariadbd"); err != nil {
		return err
	}
	install, err := databaseBinary("mariadb-install-db", "/opt/homebrew/opt/mariadb/bin/mariadb-install-db")
	if err != nil {
		return err
	}
	if err := m.prepareDatabase(ctx, "mysql", "mariadbd"); err != nil {
		return err
	}
	data, first := filepath.Join(m.dir, "data"), filepath.Join(m.dir, "init.sql")
	if err := os.WriteFile(first, []byte(mysqlUser), 0o644); err != nil {
		return err
	}
	if err := m.setUp(ctx, install, "--no-defaults", "--datadir="+data, "--tmpdir="+m.dir, "--auth-root-authentication-method=normal", "--skip-test-db"); err != nil {
		return err
	}
	m.args = []string{
		"--no-defaults", "--datadir=" + data, "--tmpdir=" + m.dir, "--port=" + m.ports[0].String(), "--bind-address=127.0.0.1", "--skip-name-resolve",
		"--socket=" + filepath.Join(m.dir, "mariadb.sock"), "--pid-file=" + filepath.Join(m.dir, "mariadb.pid"), "--init-file=" + first,
		"--innodb-flush-log-at-trx-commit=2", "--innodb-buffer-pool-size=64M",
	}
	return nil
}

// DSN returns the address of the database for github.com/go-sql-driver/mysql, for a
// user who may do everything.
func (m *MySQL) DSN() string { return "reservoir@tcp(" + m.ports[0].addr() + ")/reservoir" }

// greets succeeds when the server says who it is.
func (m *MySQL) greets(ctx context.Context) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", m.ports[0].addr())
	if err != nil {
		return err
	}
	var first [5]byte
	err = conn.SetDeadline(time.Now().Add(time.Second))
	if err == nil {
		_, err = conn.Read(first[:])
	}
	if err == nil && first[4] == 0xff {
		err = errors.New("it refuses connections")
	}
	return errors.Join(err, conn.Close())
}
