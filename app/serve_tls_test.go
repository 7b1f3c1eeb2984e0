package app

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/reservoirhq/reservoir/config"
)

// writePair writes a certificate with that serial number, and its key.
func writePair(t *testing.T, files config.ServerTLS, serial int64, changed time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{files.CertFile: {Type: "CERTIFICATE", Bytes: certificate}, files.KeyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(files.CertFile, changed, changed); err != nil {
		t.Fatal(err)
	}
}

// A server takes a new certificate without a restart, and keeps the old one while the new
// one cannot be read.
func TestServerCertificate(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	files := config.ServerTLS{CertFile: filepath.Join(dir, "tls.crt"), KeyFile: filepath.Join(dir, "tls.key")}
	if _, err := serverTLS(files); err == nil {
		t.Fatal("without files")
	}
	writePair(t, files, 1, now)
	secure, err := serverTLS(files)
	if err != nil {
		t.Fatal(err)
	}
	want := func(serial int64) {
		t.Helper()
		pair, err := secure.GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(pair.Certificate[0])
		if err != nil || leaf.SerialNumber.Int64() != serial {
			t.Errorf("certificate %v, want %d, %v", leaf.SerialNumber, serial, err)
		}
	}
	want(1)
	writePair(t, files, 2, now.Add(time.Second))
	want(2)
	if err := os.Remove(files.KeyFile); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(files.CertFile, now.Add(time.Minute), now.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	want(2)
	writePair(t, files, 3, now.Add(time.Hour))
	want(3)
	if none, err := serverTLS(config.ServerTLS{}); none != nil || err != nil {
		t.Errorf("%v, %v", none, err)
	}
}
