package web

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"example.com/base-app/pkg/fault"
)

// certEvery is how often a handshake checks whether the certificate's files have changed. They change every few weeks; a
// check costs two system calls.
const certEvery = 2 * time.Second

// certificate is a pair of files and the certificate in them. When the files have changed, the next handshake reads them
// again. If they can't be read, that is logged once and the old certificate stays.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger
	pair              atomic.Pointer[tls.Certificate]

	mu      sync.Mutex
	checked time.Time
	seen    [2]fs.FileInfo // the files at the last check; nil: missing
}

// newCertificate reads the files. It returns nil if none are set: no TLS. Its errors name the setting.
func newCertificate(certFile, keyFile string, log *slog.Logger) (*certificate, error) {
	const hint = "set WEB_TLS_CERT_FILE and WEB_TLS_KEY_FILE to a certificate chain and its private key, both as PEM, or leave both empty"
	switch {
	case certFile == "" && keyFile == "":
		return nil, nil
	case certFile == "":
		return nil, fault.Config(hint, errors.New("web: tls: WEB_TLS_KEY_FILE is set, and WEB_TLS_CERT_FILE is not"))
	case keyFile == "":
		return nil, fault.Config(hint, errors.New("web: tls: WEB_TLS_CERT_FILE is set, and WEB_TLS_KEY_FILE is not"))
	}
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log, checked: time.Now()}
	c.seen = c.look()
	if err := c.read(); err != nil {
		return nil, fault.Config(hint, err)
	}
	return c, nil
}

// get is tls.Config.GetCertificate. One handshake at a time checks the files; the others don't wait for it.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c.mu.TryLock() {
		c.refresh()
		c.mu.Unlock()
	}
	return c.pair.Load(), nil
}

func (c *certificate) refresh() {
	if time.Since(c.checked) < certEvery {
		return
	}
	c.checked = time.Now()
	now := c.look()
	if same(now[0], c.seen[0]) && same(now[1], c.seen[1]) {
		return
	}
	c.seen = now // before reading: the next check sees a change in between
	if err := c.read(); err != nil {
		c.log.Warn("the new certificate can't be used, the old one stays", "error", err, "expires", c.pair.Load().Leaf.NotAfter)
		return
	}
	c.log.Info("certificate read anew", "expires", c.pair.Load().Leaf.NotAfter)
}

func (c *certificate) look() (list [2]fs.FileInfo) {
	for i, name := range []string{c.certFile, c.keyFile} {
		if info, err := os.Stat(name); err == nil {
			list[i] = info
		}
	}
	return list
}

func same(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

func (c *certificate) read() error {
	cert, err := os.ReadFile(c.certFile)
	if err != nil {
		return fmt.Errorf("web: tls: WEB_TLS_CERT_FILE: %w", err)
	}
	key, err := os.ReadFile(c.keyFile)
	if err != nil {
		return fmt.Errorf("web: tls: WEB_TLS_KEY_FILE: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil { // its text says which of them, and repeats nothing of the key
		return fmt.Errorf("web: tls: WEB_TLS_CERT_FILE %s with WEB_TLS_KEY_FILE %s: %w", c.certFile, c.keyFile, err)
	}
	c.pair.Store(&pair)
	return nil
}

// Certificate returns the certificate that the server shows; nil without TLS.
func (s *Server) Certificate() *x509.Certificate {
	if s.cert == nil {
		return nil
	}
	return s.cert.pair.Load().Leaf
}

// errorLog logs net/http's own messages. A failed handshake is ordinary on an open port, so it is logged at debug.
type errorLog struct{ log *slog.Logger }

func (e errorLog) Write(b []byte) (int, error) {
	at := slog.LevelWarn
	if bytes.HasPrefix(b, []byte("http: TLS handshake error")) {
		at = slog.LevelDebug
	}
	e.log.Log(context.Background(), at, strings.TrimSpace(string(b)))
	return len(b), nil
}
