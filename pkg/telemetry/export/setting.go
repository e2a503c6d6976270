package export

import (
	"fmt"
	"net/url"
	"strconv"

	"example.com/base-app/pkg/fault"
)

// Wrong returns the error of a setting, of fault.KindConfig: its name, what to do, and what is wrong with it.
func Wrong(name, hint, format string, args ...any) error {
	return fault.Config(hint, fmt.Errorf("telemetry: "+name+": "+format, args...))
}

// IsPort returns whether s is the number of a port.
func IsPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// IsControl returns whether r would end a header or a line.
func IsControl(r rune) bool { return r < ' ' || r == 0x7f }

// CheckURL accepts an absolute http URL without credentials, which have a setting of their own: they would stand in error
// messages.
func CheckURL(name, text, credentials string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Port() != "" && !IsPort(u.Port()) {
		return Wrong(name, "write http://host:port or https://host", "not an http URL")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return Wrong(name, "put credentials into "+credentials,
			"a URL with credentials, query or fragment is not taken")
	}
	return nil
}
