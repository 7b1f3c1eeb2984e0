package redisstream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Mode says how the servers are found.
type Mode string

// The modes of a Config.
const (
	Single   Mode = "single"   // one server, named by its address
	Sentinel Mode = "sentinel" // the master that the Sentinels at the addresses name
	Cluster  Mode = "cluster"  // a Redis Cluster that is found through any of the addresses
)

// Config says how to reach Redis. Either URL or Addrs must be set; a field that
// is set wins over the same part of the URL.
type Config struct {
	// URL is one of
	//
	//	redis://[user:password@]host[:port][/db]
	//	redis+sentinel://[user:password@]host[:port][,host[:port]…]/master[/db]
	//	redis+cluster://[user:password@]host[:port][,host[:port]…]
	//	unix://[user:password@]/path/to/socket[?db=n]
	//
	// or the same with rediss for TLS. User and password are those of the
	// servers, percent-encoded where needed.
	URL string

	Addrs      []string // host:port of the server, the Sentinels or some cluster nodes; port 6379 (26379) by default
	Mode       Mode     // default Single
	MasterName string   // Sentinel's name of the master

	Username         string // ACL user; empty for the default user
	Password         string
	SentinelUsername string // of the Sentinels themselves
	SentinelPassword string
	DB               int // database number; 0 in a cluster

	TLS TLS

	DialTimeout time.Duration // default 5s
	// ReadTimeout bounds how long a server may stay silent while an answer is
	// due, and how long a write may block; default 10s.
	ReadTimeout time.Duration
	// ClientName is shown by CLIENT LIST; default "reservoir".
	ClientName string
}

// TLS configures encrypted connections, to Sentinels too.
type TLS struct {
	Enabled    bool   // implied by rediss and by any of the other fields
	CAFile     string // PEM; default: the system's authorities
	CertFile   string // PEM, of the client, together with KeyFile
	KeyFile    string
	ServerName string // expected in the certificate; default: the host of the address
	SkipVerify bool   // accept any certificate
}

func (t TLS) enabled() bool { return t != TLS{} }

// Validate names the first field that cannot work, and what would be right. It
// opens no files and no connections.
func (c Config) Validate() error {
	_, err := c.resolve()
	return err
}

// resolve returns the configuration with the URL's parts and the defaults
// filled in.
func (c Config) resolve() (Config, error) {
	if c.URL != "" {
		if err := c.mergeURL(); err != nil {
			return c, err
		}
	}
	if c.Mode == "" {
		c.Mode = Single
	}
	setDefault(&c.DialTimeout, 5*time.Second)
	setDefault(&c.ReadTimeout, 10*time.Second)
	setDefault(&c.ClientName, "reservoir")
	if err := c.check(); err != nil {
		return c, err
	}
	port := "6379"
	if c.Mode == Sentinel {
		port = "26379"
	}
	c.Addrs = slices.Clone(c.Addrs)
	for i, addr := range c.Addrs {
		c.Addrs[i] = withPort(addr, port)
	}
	return c, nil
}

func (c Config) check() error {
	switch {
	case !slices.Contains([]Mode{Single, Sentinel, Cluster}, c.Mode):
		return fmt.Errorf("mode: unknown value %q: want single, sentinel or cluster", c.Mode)
	case len(c.Addrs) == 0:
		return errors.New("url: no address: want a URL such as redis://localhost:6379, or addrs")
	case slices.Contains(c.Addrs, ""):
		return errors.New("addrs: an address is empty: want host:port")
	case c.Mode == Single && len(c.Addrs) > 1:
		return fmt.Errorf("addrs: %d addresses for a single server: want one, or mode sentinel or cluster", len(c.Addrs))
	case c.Mode == Sentinel && c.MasterName == "":
		return errors.New("master_name: empty: want the name by which the Sentinels know the master, such as mymaster")
	case c.Mode != Sentinel && c.MasterName != "":
		return fmt.Errorf("master_name: set in mode %s: want mode sentinel, or none", c.Mode)
	case c.DB < 0:
		return fmt.Errorf("db: %d is negative: want 0 or more", c.DB)
	case c.Mode == Cluster && c.DB != 0:
		return fmt.Errorf("db: %d in a cluster: a cluster has database 0 only", c.DB)
	case c.Username != "" && c.Password == "":
		return errors.New("password: empty although username is set")
	case (c.TLS.CertFile == "") != (c.TLS.KeyFile == ""):
		return errors.New("tls.cert_file and tls.key_file: want both or neither")
	case c.DialTimeout < 0:
		return fmt.Errorf("dial_timeout: %s is negative: want more than zero", c.DialTimeout)
	case c.ReadTimeout < 0:
		return fmt.Errorf("read_timeout: %s is negative: want more than zero", c.ReadTimeout)
	}
	return nil
}

// mergeURL fills the fields that are not set from the URL. It is read by hand:
// net/url does not take a list of hosts. No error repeats the user part.
func (c *Config) mergeURL() error {
	scheme, rest, found := strings.Cut(c.URL, "://")
	if !found {
		return errors.New("url: no scheme: want redis://, rediss://, redis+sentinel:// or redis+cluster://")
	}
	mode, secure, known := parseScheme(scheme)
	if !known {
		return fmt.Errorf("url: unknown scheme %q: want redis, rediss, redis+sentinel, redis+cluster or unix", scheme)
	}
	setDefault(&c.Mode, mode)
	c.TLS.Enabled = c.TLS.Enabled || secure
	rest, query, _ := strings.Cut(rest, "?")
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		if err := c.mergeUser(rest[:at]); err != nil {
			return err
		}
		rest = rest[at+1:]
	}
	db := ""
	if scheme == "unix" {
		setDefaultAddrs(&c.Addrs, rest)
	} else {
		hosts, path, _ := strings.Cut(rest, "/")
		if hosts != "" {
			setDefaultAddrs(&c.Addrs, strings.Split(hosts, ",")...)
		}
		db = path
		if mode == Sentinel {
			var master string
			master, db, _ = strings.Cut(path, "/")
			setDefault(&c.MasterName, master)
		}
	}
	return c.mergeDB(db, query)
}

func parseScheme(scheme string) (mode Mode, secure, known bool) {
	base, suffix, _ := strings.Cut(scheme, "+")
	switch suffix {
	case "":
		mode = Single
	case "sentinel":
		mode = Sentinel
	case "cluster":
		mode = Cluster
	default:
		return "", false, false
	}
	return mode, base == "rediss", base == "redis" || base == "rediss" || scheme == "unix"
}

func (c *Config) mergeUser(info string) error {
	user, password, _ := strings.Cut(info, ":")
	user, err := url.PathUnescape(user)
	if err != nil {
		return errors.New("url: the user name is not valid percent-encoding")
	}
	password, err = url.PathUnescape(password)
	if err != nil {
		return errors.New("url: the password is not valid percent-encoding: encode % as %25")
	}
	setDefault(&c.Username, user)
	setDefault(&c.Password, password)
	return nil
}

func (c *Config) mergeDB(path, query string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return errors.New("url: the query is not valid")
	}
	for name := range values {
		if name != "db" {
			return fmt.Errorf("url: unknown parameter %q: want db, or none", name)
		}
	}
	if path == "" {
		path = values.Get("db")
	}
	if path == "" {
		return nil
	}
	db, err := strconv.Atoi(path)
	if err != nil {
		return fmt.Errorf("url: database %q is not a number", path)
	}
	setDefault(&c.DB, db)
	return nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func setDefaultAddrs(field *[]string, addrs ...string) {
	if len(*field) == 0 {
		*field = addrs
	}
}

// withPort adds the port where addr has none; a path is a Unix socket.
func withPort(addr, port string) string {
	if strings.HasPrefix(addr, "/") {
		return addr
	}
	if _, _, err := net.SplitHostPort(addr); err == nil {
		return addr
	}
	return net.JoinHostPort(strings.Trim(addr, "[]"), port)
}

// config reads the files that t names.
func (t TLS) config() (*tls.Config, error) {
	if !t.enabled() {
		return nil, nil
	}
	out := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName, InsecureSkipVerify: t.SkipVerify}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("tls.ca_file: %w", err)
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls.ca_file: %s holds no PEM certificate", t.CAFile)
		}
	}
	if t.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("tls.cert_file: %w", err)
		}
		out.Certificates = []tls.Certificate{pair}
	}
	return out, nil
}
