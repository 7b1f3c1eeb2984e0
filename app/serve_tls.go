package app

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/reservoirhq/reservoir/config"
	"github.com/reservoirhq/reservoir/internal/remedy"
)

// serverTLS gives how the server secures connections; nil: it does not.
func serverTLS(c config.ServerTLS) (*tls.Config, error) {
	if c.CertFile == "" {
		return nil, nil //nolint:nilnil // no TLS
	}
	pair := &keyPair{files: c}
	if _, err := pair.get(nil); err != nil {
		return nil, remedy.Wrap(fmt.Errorf("server.tls: %w", err), "name a certificate and its private key, both PEM")
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, GetCertificate: pair.get}, nil
}

// keyPair is a certificate that is read again when its file has changed.
type keyPair struct {
	files config.ServerTLS

	mu      sync.Mutex
	changed time.Time
	pair    *tls.Certificate
}

// get gives the certificate. A new one that cannot be read yet, as while it is being
// replaced, leaves the old one.
func (p *keyPair) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	info, err := os.Stat(p.files.CertFile)
	if err == nil && p.pair != nil && info.ModTime().Equal(p.changed) {
		return p.pair, nil
	}
	if err == nil {
		var pair tls.Certificate
		if pair, err = tls.LoadX509KeyPair(p.files.CertFile, p.files.KeyFile); err == nil {
			p.pair, p.changed = &pair, info.ModTime()
		}
	}
	if p.pair != nil {
		return p.pair, nil
	}
	return nil, err
}
