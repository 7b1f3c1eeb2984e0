package stack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// ClickHouseOptions says how to run the ClickHouse engine.
type ClickHouseOptions struct {
	Dir    string   // data and log; default a temporary one, removed by Close
	Config string   // XML elements added to <clickhouse>, such as <users>…</users>
	Args   []string // more `clickhouse local` arguments
	// Relay puts a relay before both ports. The engine, unlike a server, aborts when a
	// client resets a connection, as one does that is killed or that cancels: with a
	// relay it never sees that. It costs a little speed.
	Relay bool
}

// ClickHouse is a running ClickHouse engine. It speaks the native and the HTTP
// protocol as a server does, but has no Keeper, no ON CLUSTER, no replicated
// tables and no CREATE USER.
type ClickHouse struct {
	Server
	opts   ClickHouseOptions
	relays []*relay
}

// StartClickHouse starts the ClickHouse engine on two free loopback ports and returns
// when it answers. ctx bounds the start only; Close ends the engine.
func StartClickHouse(ctx context.Context, opts ClickHouseOptions) (*ClickHouse, error) {
	c := &ClickHouse{opts: opts}
	c.name, c.ready, c.byStdin = "the ClickHouse engine", c.ping, true
	if err := c.configure(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start the ClickHouse engine: %w", err), c.Close())
	}
	if err := c.firstStart(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	if err := c.startRelays(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// startRelays makes the last two ports those that clients know.
func (c *ClickHouse) startRelays(ctx context.Context) error {
	if !c.opts.Relay {
		return nil
	}
	for i := range 2 {
		r, err := startRelay(ctx, c.ports[2+i].addr(), c.ports[i].addr())
		if err != nil {
			return err
		}
		c.relays = append(c.relays, r)
	}
	return nil
}

// Close stops the engine as Server.Close does.
func (c *ClickHouse) Close() error {
	var err error
	for _, r := range c.relays {
		err = errors.Join(err, r.close())
	}
	c.relays = nil
	return errors.Join(err, c.Server.Close())
}

// known is the port that clients know of one that the engine listens on.
func (c *ClickHouse) known(i int) *port { return c.ports[i+2*min(len(c.relays), 1)] }

// It listens until its standard input ends.
const listen = "SYSTEM START LISTEN TCP; SYSTEM START LISTEN HTTP; SELECT count() FROM file('stdin', 'LineAsString', 'l String')"

// Of the directory (twice), the two ports, and more elements. The pool is as large as a
// server's: in one of `clickhouse local`, of 2, a mutation of five parts finds it full, and
// waits for up to a second before it looks again.
const clickHouseConfig = `<clickhouse>
  <path>%s/data/</path>
  <tmp_path>%s/tmp/</tmp_path>
  <listen_host>127.0.0.1</listen_host>
  <tcp_port>%s</tcp_port>
  <http_port>%s</http_port>
  <background_pool_size>16</background_pool_size>
%s
</clickhouse>
`

func (c *ClickHouse) configure(ctx context.Context) error {
	library, err := libchdb()
	if err != nil {
		return err
	}
	ports := 2
	if c.opts.Relay {
		ports = 4
	}
	if err := c.prepare(ctx, "chengine", c.opts.Dir, ports); err != nil {
		return err
	}
	config := fmt.Sprintf(clickHouseConfig, c.dir, c.dir, c.ports[0], c.ports[1], c.opts.Config)
	file := filepath.Join(c.dir, "config.xml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return err
	}
	c.args = append([]string{library, "--config-file=" + file}, c.opts.Args...)
	c.args = append(c.args, "--query", listen)
	return nil
}

// libchdb returns the path of the engine's library for this platform.
func libchdb() (string, error) {
	const variable = "RESERVOIR_TOOL_LIBCHDB"
	if path := os.Getenv(variable); path != "" {
		return path, nil
	}
	platform := map[string]string{
		"linux/amd64":  "linux-x64-gnu",
		"linux/arm64":  "linux-arm64-gnu",
		"darwin/amd64": "darwin-x64",
		"darwin/arm64": "darwin-arm64",
	}[runtime.GOOS+"/"+runtime.GOARCH]
	path, err := nodeModule("@chdb/lib-"+platform, "libchdb.so")
	if err != nil {
		return "", fmt.Errorf("libchdb: %w (run `make tools`, or set %s to its path)", ErrNoBinary, variable)
	}
	return path, nil
}

// nodeModule returns the path of a file in an npm package that `make tools` installed.
func nodeModule(name ...string) (string, error) {
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(append([]string{cache, "node", "node_modules"}, name...)...)
	if _, err := os.Stat(path); err != nil {
		return "", err
	}
	return path, nil
}

// Addr returns the address of the native protocol as host:port.
func (c *ClickHouse) Addr() string { return c.known(0).addr() }

// URL returns the URL of the native protocol, for clickhouse-go.
func (c *ClickHouse) URL() string { return "clickhouse://" + c.Addr() + "/default" }

// HTTPURL returns the URL of the HTTP protocol.
func (c *ClickHouse) HTTPURL() string { return "http://" + c.known(1).addr() }

// Query runs one statement over HTTP, as the default user, and returns the output in
// the format that the statement names, TabSeparated if none.
func (c *ClickHouse) Query(ctx context.Context, statement string) (output string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.HTTPURL(), strings.NewReader(statement))
	if err != nil {
		return "", fmt.Errorf("query ClickHouse: %w", err)
	}
	body, err := do(req)
	if err != nil {
		return "", fmt.Errorf("query ClickHouse: %w", err)
	}
	return string(body), nil
}

func (c *ClickHouse) ping(ctx context.Context) error {
	return get(ctx, "http://"+c.ports[1].addr()+"/ping")
}

// get succeeds when the URL answers 200.
func get(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	_, err = do(req)
	return err
}

// do returns the body of a 200 answer, and an error with the body for any other. It
// leaves no connection behind.
func do(req *http.Request) (body []byte, err error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	body, err = io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(body))
	}
	return body, nil
}
