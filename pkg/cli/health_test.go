package cli

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/base-app/pkg/base"
)

// writePair writes a new certificate and its key.
func writePair(t *testing.T, dir string) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	like := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), NotAfter: time.Now().Add(time.Hour)}
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

// freeAddr returns an address that was free a moment ago.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestHealthKnowsTheAppByItsCertificate(t *testing.T) {
	dir, data := t.TempDir(), t.TempDir()
	cert, key := writePair(t, dir)
	addr := freeAddr(t)
	vars := []string{"WEB_TLS_CERT_FILE=" + cert, "WEB_TLS_KEY_FILE=" + key, "WEB_ADDR=" + addr, "DATA_DIR=" + data}
	probe := func(name string, code int, says string, vars ...string) {
		t.Helper()
		if have, out, err := call(t, nil, vars, "health"); have != code || !strings.Contains(out+err, says) {
			t.Errorf("%s: want %d and %s, have %d, %s%s", name, code, says, have, out, err)
		}
	}
	_, out, _ := call(t, func(rt *base.Runtime) error {
		rt.Serve(func(*http.ServeMux) {})
		rt.Started()
		probe("with the same file", 0, "ok, up", vars...)
		probe("with the same file alone", 0, "ok, up", vars[:3]...) // no control socket
		if _, out, err := call(t, nil, vars, "ctl", "status"); !strings.Contains(out, "certificate") {
			t.Errorf("want the certificate in the status, have %s%s", out, err)
		}
		other, otherKey := writePair(t, t.TempDir())
		probe("somebody else's certificate", 1, "its certificate is neither", "WEB_TLS_CERT_FILE="+other, "WEB_TLS_KEY_FILE="+otherKey, "WEB_ADDR="+addr)
		if err := os.WriteFile(cert, []byte("broken"), 0o600); err != nil {
			t.Fatal(err)
		}
		probe("when the file is broken, and the app goes on with the old one", 0, "ok, up", vars...)
		rt.Done("tested")
		return rt.Wait()
	}, vars)
	if !strings.Contains(out, `"url":"https://`+addr) {
		t.Errorf("want the url with https, have\n%s", out)
	}
}
