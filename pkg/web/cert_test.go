package web

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// WritePair writes a new certificate with that serial number and its key.
func WritePair(t *testing.T, dir string, serial int64) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	like := &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, like, like, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, b := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func TestTheCertificateIsReadAnewWhenItChanges(t *testing.T) {
	dir := t.TempDir()
	cert, key := WritePair(t, dir, 1)
	var told bytes.Buffer
	c, err := newCertificate(cert, key, slog.New(slog.NewTextHandler(&told, nil)))
	if err != nil {
		t.Fatal(err)
	}
	shows := func(when string, later time.Duration, want int64, warnings int) {
		t.Helper()
		c.checked = c.checked.Add(-later)
		pair, err := c.get(nil)
		if err != nil || pair.Leaf.SerialNumber.Int64() != want {
			t.Errorf("%s: have %v, %v, want %d", when, pair.Leaf.SerialNumber, err, want)
		}
		if have := strings.Count(told.String(), "can't be used"); have != warnings {
			t.Errorf("%s: have %d warnings, want %d: %s", when, have, warnings, &told)
		}
	}
	shows("at first", certEvery, 1, 0)
	WritePair(t, dir, 2)
	shows("too soon after the last look", 0, 1, 0)
	shows("changed", certEvery, 2, 0)
	if err := os.WriteFile(cert, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	shows("broken", certEvery, 2, 1)
	shows("broken as before", certEvery, 2, 1)
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	shows("gone", certEvery, 2, 2)
	WritePair(t, dir, 3)
	shows("mended", certEvery, 3, 2)
	if strings.Contains(told.String(), "PRIVATE") {
		t.Errorf("the key is in the log: %s", &told)
	}
}
