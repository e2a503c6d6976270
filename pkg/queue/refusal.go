package queue

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"example.com/base-app/pkg/fault"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// checkURL tells what is wrong with QUEUE_URL, without its text: a password may be in it.
func checkURL(list string) error {
	for one := range strings.SplitSeq(list, ",") {
		if one = strings.TrimSpace(one); !strings.Contains(one, "://") {
			one = "nats://" + one
		}
		u, err := url.Parse(one)
		if err != nil || u.Host == "" || !strings.Contains(" nats tls ws wss ", " "+u.Scheme+" ") {
			return fault.Config("write QUEUE_URL as nats://a:4222,b:4222", errors.New("queue: the address is no list of URLs"))
		}
	}
	return nil
}

// checkCredentials tells what is wrong with the file, which would else be read again with each attempt.
func checkCredentials(path string) error {
	text, err := os.ReadFile(path)
	if err == nil && !strings.Contains(string(text), "NKEY SEED") {
		err = fmt.Errorf("%s holds no user's key", path)
	}
	if err != nil {
		return fault.Config("check QUEUE_CREDENTIALS_FILE", fmt.Errorf("queue: %w", err))
	}
	return nil
}

// tlsConfig reads the files; nil if there are none.
func (o *Options) tlsConfig() (*tls.Config, error) {
	if o.CA == "" && o.Cert == "" && o.Key == "" {
		return nil, nil
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CA != "" {
		pem, err := os.ReadFile(o.CA)
		if err != nil {
			return nil, fault.Config("check QUEUE_TLS_CA_FILE", fmt.Errorf("queue: %w", err))
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fault.Config("check QUEUE_TLS_CA_FILE", fmt.Errorf("queue: %s holds no certificate", o.CA))
		}
	}
	if o.Cert != "" || o.Key != "" {
		pair, err := tls.LoadX509KeyPair(o.Cert, o.Key)
		if err != nil {
			return nil, fault.Config("check QUEUE_TLS_CERT_FILE and QUEUE_TLS_KEY_FILE", fmt.Errorf("queue: %w", err))
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}

// connectError is a config error if another attempt to connect would end as this one did, else nil.
func connectError(err error) error {
	hint := ""
	var unknown *tls.CertificateVerificationError
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired):
		hint = "check QUEUE_CREDENTIALS_FILE, or the user in QUEUE_URL"
	case errors.Is(err, nats.ErrSecureConnWanted):
		hint = "leave QUEUE_TLS_CA_FILE and its companions empty: the server speaks no TLS"
	case errors.Is(err, nats.ErrSecureConnRequired):
		hint = "set QUEUE_TLS_CA_FILE: the server wants TLS"
	case errors.As(err, &unknown):
		hint = "check QUEUE_TLS_CA_FILE: the server's certificate is not signed by what it holds"
	case errors.Is(err, nats.ErrTLS):
		hint = "check QUEUE_TLS_CERT_FILE and QUEUE_TLS_KEY_FILE: the server ended the TLS handshake"
	default:
		return nil
	}
	return fault.Config(hint, fmt.Errorf("queue: connect: %w", err))
}

// createHint says what to do about the server's refusal to make a stream or consumer; empty if waiting may help, for a
// leader or for more nodes. The codes are JetStream's.
func createHint(err error) string {
	api, ok := errors.AsType[*jetstream.APIError](err)
	switch {
	case !ok:
		return ""
	case api.ErrorCode == 10039 || api.ErrorCode == 10076:
		return "enable JetStream in the server's configuration, for this account too"
	case api.ErrorCode == 10074:
		return "set QUEUE_REPLICAS to 1: the server is no cluster"
	case api.ErrorCode == 10047 || strings.Contains(api.Description, "insufficient storage"):
		return "give the server room for all streams (max_file: 1.5 x QUEUE_MAX_BYTES, and 8 MiB), or lower QUEUE_MAX_BYTES"
	case api.ErrorCode == 10005 || api.Code >= 500: // no suitable peers
		return ""
	}
	return "a stream of this name was made by somebody else, or QUEUE_MAX_BYTES doesn't fit what it holds"
}
