package web

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"time"
)

// Shown is the one that the web server shows.
type Shown struct {
	Subject string    `json:"subject"`
	Expires time.Time `json:"expires"`
	SHA256  string    `json:"sha256"` // of the whole certificate
}

// ShownOf describes c, nil if that is nil.
func ShownOf(c *x509.Certificate) *Shown {
	if c == nil {
		return nil
	}
	return &Shown{c.Subject.String(), c.NotAfter, Fingerprint(c.Raw)}
}

// Fingerprint is the SHA-256 of a certificate in DER, as Shown has it.
func Fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}
