package chstore_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/internal/stack"
	"github.com/reservoirhq/reservoir/internal/stack/stacktest"
)

// TestTLS connects over both protocols to a server behind one that ends TLS, with a
// certificate of an authority of its own: with that authority it works, without it the
// error says why not. The engine itself has no TLS.
func TestTLS(t *testing.T) {
	pair, roots := certificate(t)
	const users = `<clickhouse><users><default><password></password><networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota></default>
		<ann><password>sesame</password><networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota></ann></users>
		<profiles><default></default></profiles><quotas><default></default></quotas></clickhouse>`
	file := filepath.Join(t.TempDir(), "users.xml")
	if err := os.WriteFile(file, []byte(users), 0o600); err != nil {
		t.Fatal(err)
	}
	engine := stacktest.ClickHouse(t, stack.ClickHouseOptions{Config: "<users_config>" + file + "</users_config>"})
	trusting := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	for i, url := range []string{
		"clickhouse://" + behindTLS(t, pair, engine.Addr()) + "/default?secure=true",
		"https://" + behindTLS(t, pair, strings.TrimPrefix(engine.HTTPURL(), "http://")) + "/default",
	} {
		store := open(t, chstore.Config{URL: url, User: "ann", Password: "sesame", TLS: trusting})
		table := made(t, store, "t"+number(uint64(i)), spec("MergeTree"), 100)
		if rows, err := store.Rows(t.Context(), table); err != nil || rows != 100 {
			t.Errorf("%s: %d rows, %v", url, rows, err)
		}
		_, err := chstore.Connect(t.Context(), chstore.Config{URL: url, User: "ann", Password: "sesame"})
		if err == nil || !strings.Contains(err.Error(), "certificate signed by unknown authority") {
			t.Errorf("%s without the authority: %v", url, err)
		}
		named := trusting.Clone()
		named.ServerName = "elsewhere"
		if _, err = chstore.Connect(t.Context(), chstore.Config{URL: url, User: "ann", Password: "sesame", TLS: named}); err == nil || !strings.Contains(err.Error(), "match elsewhere") {
			t.Errorf("%s with another name: %v", url, err)
		}
	}
	if _, err := chstore.Connect(t.Context(), chstore.Config{URL: engine.HTTPURL(), User: "ann", Password: "sesame", TLS: trusting}); err == nil {
		t.Error("a server without TLS was taken where TLS is asked for")
	}
}

// behindTLS is the address of a server that ends TLS before the one of that address.
func behindTLS(t *testing.T, pair tls.Certificate, addr string) string {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	t.Cleanup(func() { listener.Close(); group.Wait() })
	group.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // closed
			}
			group.Go(func() {
				defer client.Close()
				server, err := net.Dial("tcp", addr)
				if err != nil {
					t.Error(err)
					return
				}
				defer server.Close()
				group.Go(func() { pass(t, server, client); server.Close() })
				pass(t, client, server)
			})
		}
	})
	return listener.Addr().String()
}

// pass copies until one of them is closed, or the client does not trust.
func pass(t *testing.T, to, from net.Conn) {
	if _, err := io.Copy(to, from); err != nil {
		t.Log(err)
	}
}

// certificate makes one for loopback, and gives whom to trust.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	self := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	cert, err := x509.CreateCertificate(rand.Reader, self, self, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(cert)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{cert}, PrivateKey: key}, roots
}
