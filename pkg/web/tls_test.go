package web_test

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/web"
)

func TestTLSWithHTTP2(t *testing.T) {
	cert, key := web.WritePair(t, t.TempDir(), 1)
	h := newHold()
	e := start(t, web.Options{Handler: h, TLSCertFile: cert, TLSKeyFile: key})
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
	client := http.Client{Timeout: patience, Transport: transport}
	defer transport.CloseIdleConnections()
	resp, err := client.Get("https://" + e.addr)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	if resp.ProtoMajor != 2 || resp.StatusCode != 200 {
		t.Errorf("have %s %s, want HTTP/2", resp.Proto, resp.Status)
	}
	t.Run("older than 1.2 is refused, and no warning", func(t *testing.T) {
		if c, err := tls.Dial("tcp", e.addr, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}); err == nil {
			_ = c.Close()
			t.Error("it is spoken")
		}
		e.until(t, 1, func() int { return strings.Count(e.logs.String(), "TLS handshake error") })
		if strings.Contains(e.logs.String(), "WARN") {
			t.Errorf("have %s", e.logs)
		}
	})
	t.Run("at the end a stream in flight is served", func(t *testing.T) {
		answered := make(chan string, 1)
		go func() {
			resp, err := client.Get("https://" + e.addr + "/hold")
			if err != nil {
				answered <- err.Error()
				return
			}
			_ = resp.Body.Close()
			answered <- resp.Status
		}()
		<-h.arrived
		e.stop()
		for c, err := net.Dial("tcp", e.addr); err == nil; c, err = net.Dial("tcp", e.addr) { // until the end has begun
			_ = c.Close()
		}
		close(h.letGo)
		if have := <-answered; have != "200 OK" {
			t.Errorf("have %s", have)
		}
		if err := e.ended(t); err != nil {
			t.Error(err)
		}
	})
}

func TestFilesThatAreNoCertificateAreRefusedAtStart(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	cert, key := web.WritePair(t, dir, 1)
	_, otherKey := web.WritePair(t, other, 2)
	for _, c := range []struct{ name, cert, key, want string }{
		{"no key", cert, "", "WEB_TLS_KEY_FILE is not"},
		{"no certificate", "", key, "WEB_TLS_CERT_FILE is not"},
		{"a key that is not there", cert, dir + "/none", "WEB_TLS_KEY_FILE: open"},
		{"a certificate that is not there", dir + "/none", key, "WEB_TLS_CERT_FILE: open"},
		{"swapped", key, cert, "WEB_TLS_CERT_FILE " + key},
		{"another's key", cert, otherKey, "does not match"},
	} {
		_, err := web.Listen(t.Context(), web.Options{Addr: "127.0.0.1:0", Handler: http.HandlerFunc(ok), TLSCertFile: c.cert, TLSKeyFile: c.key, Log: slog.New(slog.DiscardHandler)})
		if fault.Of(err) != fault.KindConfig || !strings.Contains(err.Error(), c.want) || !strings.Contains(fault.Hint(err), "WEB_TLS_") {
			t.Errorf("%s: have %v, want %s", c.name, err, c.want)
		}
	}
}
