package queue_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/queue"
)

// certificates writes a CA and a certificate for 127.0.0.1 with its key.
func certificates(t *testing.T) (ca, cert, key string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	must := func(der []byte, err error) []byte {
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	root, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	authority := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	own := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: authority.NotBefore, NotAfter: authority.NotAfter, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	ca = write("ca.pem", "CERTIFICATE", must(x509.CreateCertificate(rand.Reader, authority, authority, &root.PublicKey, root)))
	cert = write("cert.pem", "CERTIFICATE", must(x509.CreateCertificate(rand.Reader, own, authority, &leaf.PublicKey, root)))
	key = write("key.pem", "EC PRIVATE KEY", must(x509.MarshalECPrivateKey(leaf)))
	return ca, cert, key
}

func TestOpenSaysWhichSettingIsWrong(t *testing.T) {
	ca, cert, key := certificates(t)
	otherCA, otherCert, otherKey := certificates(t)
	junk := filepath.Join(t.TempDir(), "junk")
	if err := os.WriteFile(junk, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	plain := startNodes(t, 1)[0]
	narrow := startNodes(t, 1, "max_payload: 2MB", "max_payload: 1MB")[0]
	tiny := startNodes(t, 1, "max_file: 8GB", "max_file: 1MB")[0]
	bare := startNodes(t, 1, "A1 { jetstream: enabled,", "A1 {")[0]
	secure := startNodes(t, 1, "max_payload: 2MB", fmt.Sprintf("max_payload: 2MB\ntls { ca_file: %q, cert_file: %q, key_file: %q, verify: true }", ca, cert, key))[0]
	for _, c := range []struct {
		name string
		o    queue.Options
		kind fault.Kind
		hint string
	}{
		{"no such user", queue.Options{URL: strings.Replace(plain.url(0), "secret", "wrong", 1)}, fault.KindConfig, "QUEUE_CREDENTIALS_FILE"},
		{"no credentials file", queue.Options{URL: plain.url(0), Credentials: junk + "2"}, fault.KindConfig, "QUEUE_CREDENTIALS_FILE"},
		{"junk as credentials", queue.Options{URL: plain.url(0), Credentials: junk}, fault.KindConfig, "QUEUE_CREDENTIALS_FILE"},
		{"no CA file", queue.Options{URL: plain.url(0), CA: junk + "2"}, fault.KindConfig, "QUEUE_TLS_CA_FILE"},
		{"junk as CA", queue.Options{URL: plain.url(0), CA: junk}, fault.KindConfig, "QUEUE_TLS_CA_FILE"},
		{"a key that is another's", queue.Options{URL: plain.url(0), CA: ca, Cert: cert, Key: otherKey}, fault.KindConfig, "QUEUE_TLS_CERT_FILE"},
		{"a server without TLS", queue.Options{URL: plain.url(0), CA: ca}, fault.KindConfig, "QUEUE_TLS_CA_FILE"},
		{"a server that the CA doesn't know", queue.Options{URL: secure.url(0), CA: otherCA}, fault.KindConfig, "QUEUE_TLS_CA_FILE"},
		{"a certificate that the server doesn't know", queue.Options{URL: secure.url(0), CA: ca, Cert: otherCert, Key: otherKey}, fault.KindConfig, "QUEUE_TLS_CERT_FILE"},
		{"no certificate for a server that wants one", queue.Options{URL: secure.url(0), CA: ca}, fault.KindConfig, "QUEUE_TLS_CERT_FILE"},
		{"a server of small messages", queue.Options{URL: narrow.url(0)}, fault.KindConfig, "max_payload"},
		{"a server without room", queue.Options{URL: tiny.url(0)}, fault.KindConfig, "max_file"},
		{"an account without JetStream", queue.Options{URL: bare.url(1)}, fault.KindConfig, "JetStream"},
		{"more replicas than nodes", queue.Options{URL: plain.url(0), Replicas: 3}, fault.KindConfig, "QUEUE_REPLICAS"},
		{"no URL", queue.Options{URL: "http://x y"}, fault.KindConfig, "QUEUE_URL"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.o.Dir, c.o.MaxBytes = t.TempDir(), 64<<20
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			q, err := queue.Open(ctx, c.o)
			if err == nil {
				end(t, q)
			}
			if fault.Of(err) != c.kind || !strings.Contains(fault.Hint(err), c.hint) || ctx.Err() != nil {
				t.Errorf("want kind %v and a hint about %s at once, have %v, %v, %q", c.kind, c.hint, err, fault.Of(err), fault.Hint(err))
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("want no password in the error, have %v", err)
			}
		})
	}
	t.Run("mutual TLS", func(t *testing.T) {
		t.Parallel()
		p := &place{opts: queue.Options{URL: secure.url(0), CA: ca, Cert: cert, Key: key}, dirs: t.TempDir}
		publishIDs(t, p.open(t), "x")
	})
}

func TestOpenWithoutAServerIsADependencysTrouble(t *testing.T) {
	port := freePorts(t, 1)[0]
	ctx, cancel := context.WithTimeout(context.Background(), 700*time.Millisecond)
	defer cancel()
	_, err := queue.Open(ctx, queue.Options{Dir: t.TempDir(), URL: fmt.Sprintf("nats://u:geheim@127.0.0.1:%d", port)})
	if fault.Of(err) != fault.KindDependency || !strings.Contains(err.Error(), "QUEUE_URL") || strings.Contains(err.Error(), "geheim") {
		t.Errorf("want a dependency's error that names QUEUE_URL, have %v, %v", err, fault.Of(err))
	}
}

func TestOpenWaitsForAServerThatComesLater(t *testing.T) {
	n := startNodes(t, 1)[0]
	n.kill()
	opened := make(chan error)
	p := &place{opts: queue.Options{URL: n.url(0)}, dirs: t.TempDir}
	go func() {
		q, err := tryOpen(p.options())
		if err == nil {
			err = q.Close(context.Background())
		}
		opened <- err
	}()
	select {
	case err := <-opened:
		t.Fatalf("want it to wait, have %v", err)
	case <-time.After(600 * time.Millisecond):
	}
	n.start(t)
	if err := <-opened; err != nil {
		t.Error(err)
	}
}

func TestAFolderIsOpenedByOneProcess(t *testing.T) {
	p := embedded(t)
	p.open(t)
	if q, err := tryOpen(p.options()); fault.Of(err) != fault.KindConfig {
		if err == nil {
			end(t, q)
		}
		t.Errorf("want a second open refused, have %v", err)
	}
}

func TestOpenInAPlaceThatCannotBeWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := tryOpen(queue.Options{Dir: filepath.Join(file, "queue")}); fault.Of(err) != fault.KindConfig || !strings.Contains(fault.Hint(err), "DATA_DIR") {
		t.Errorf("want a config error about DATA_DIR, have %v", err)
	}
}

func TestALineOfTheInterruptedThatIsTornIsTold(t *testing.T) {
	p := embedded(t)
	o := p.options()
	line := []byte(`{"id":"a","delivery":`)
	if err := os.WriteFile(filepath.Join(o.Dir, "inflight"), append(bytes.Repeat([]byte{' '}, 200), line...), 0o600); err != nil {
		t.Fatal(err)
	}
	var log logged
	q := p.open(t, log.into)
	publishIDs(t, q, "a")
	ack(t, q, nextID(t, q, "a", 1))
	if !log.has("can't be read") {
		t.Errorf("want a warning, have %s", log.String())
	}
}
