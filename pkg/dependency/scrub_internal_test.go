package dependency

import (
	"errors"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestNoSecretIsShown(t *testing.T) {
	for in, want := range map[string]string{
		"connection refused": "connection refused",
		"dial tcp 10.0.0.1:5432: connect: connection refused":                     "dial tcp 10.0.0.1:5432: connect: connection refused",
		`Get "https://api.example/v1/x?key=s3cret": context deadline exceeded`:    `Get "https://api.example": context deadline exceeded`,
		"https://user:s3cret@api.example:8443/x: EOF":                             "https://api.example:8443: EOF",
		"https://api.example: EOF":                                                "https://api.example: EOF",
		"POST https://hooks.example/services/s3cret: 500":                         "POST https://hooks.example: 500",
		"https://api.example/bots3cret/sendMessage":                               "https://api.example",
		"postgres://app:s3/cr#et@db/x failed":                                     "postgres://[redacted] failed",
		`parse "postgres://app:s3 cret@db/x": invalid userinfo`:                   `parse "postgres://db": invalid userinfo`,
		`parse 'postgres://app:s3 cret@db/x': invalid userinfo`:                   `parse 'postgres://db': invalid userinfo`,
		"open app:s3cret@tcp(db:3306)/x":                                          "open [redacted]@tcp(db:3306)/x",
		"host=db user=app password=s3cret sslmode=off":                            "host=db user=app password=[redacted] sslmode=off",
		`{"api_key": "s3cret with a space", "x": 1}`:                              `{"api_key": [redacted], "x": 1}`,
		`{"password":"a\"s3cret","x":"a\"b"}`:                                     `{"password":[redacted],"x":"a\"b"}`,
		`{"token": ["s3cret", "s3cret"], "x": 1}`:                                 `{"token": [redacted], "x": 1}`,
		`{"secret": {"user": "s3cret", "pin": "s3cret"}, "x": 1}`:                 `{"secret": [redacted], "x": 1}`,
		`"body":"{\"pwd\":\"s3cret s3cret\",\"x\":1}"`:                            `"body":"{\"pwd\":[redacted],\"x\":1}"`,
		`password='a\'s3cret' x`:                                                  `password=[redacted] x`,
		`password="s3cret, cut short`:                                             `password=[redacted]`,
		`{"pin":"s3cret", "user_pass":"s3cret", "session_id":["s3cret"], "x": 1}`: `{"pin":[redacted], "user_pass":[redacted], "session_id":[redacted], "x": 1}`,
		"pw=s3cret private_key=s3cret card-number: s3cret":                        "pw=[redacted] private_key=[redacted] card-number: [redacted]",
		"auth: no such user; session: closed; spin=3":                             "auth: no such user; session: closed; spin=3",
		"sent eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl twice":            "sent [redacted] twice",
		"Authorization: Bearer s3cret":                                            "Authorization: [redacted]",
		"sent bearer s3cret-s3cret.x":                                             "sent bearer [redacted]",
		`password authentication failed for user "app"`:                           `password authentication failed for user "app"`,
		"two\nlines\x1b[31m":                                                      "two lines [31m",
		"\xff broken":                                                             "? broken",
	} {
		if have := scrub(errors.New(in)); have != want {
			t.Errorf("%q:\nwant %q\nhave %q", in, want, have)
		}
	}
	long := scrub(errors.New(strings.Repeat("ä", 5000)))
	if len(long) > maxShown+len("…") || !utf8.ValidString(long) {
		t.Errorf("want it short and whole, have %d bytes", len(long))
	}
}

// A secret in a URL that url.URL wrote never shows, whatever stands around it.
func FuzzScrub(f *testing.F) {
	f.Add("Get ", "api.example", "s3cr3t-s3cr3t", ": EOF")
	f.Add(`x" `, "h:1", "s3cr3t/s3cr3t?x@y", `"`)
	f.Add(strings.Repeat("x ", 2040), "h", "s3cr3t s3cr3t", "")
	f.Fuzz(func(t *testing.T, before, host, secret, after string) {
		const core = "s3cr3ts3cr3t"
		secret = core + secret + core
		if strings.Contains(before+host+after, "s3cr3t") {
			return
		}
		u := url.URL{Scheme: "https", Host: "api.example", Path: "/" + secret, User: url.UserPassword("app", secret), RawQuery: "q=" + url.QueryEscape(secret)}
		for _, text := range []string{before + " " + u.String() + after, before + ` "` + u.String() + `"` + after, before + " password=" + core + " " + after} {
			have := scrub(errors.New(text))
			if strings.Contains(have, core) || !utf8.ValidString(have) || len(have) > maxShown+len("…") || strings.ContainsAny(have, "\n\r\x1b") {
				t.Errorf("%q\nshows as %q", text, have)
			}
		}
	})
}

func TestANameThatSoundsLikeACredential(t *testing.T) {
	for name, want := range map[string]bool{"password": true, "userPassword": true, "X-Api-Key": true, "apiKey": true, "pass": true, "userPin": true, "PIN": true, "card_number": true,
		"cardNumber": true, "private_key": true, "auth": true, "sessionId": true, "id_jwt": true, "pw": true, "": false, "author": false, "passed": false, "spin": false, "greeting": false} {
		if have := IsCredential(name); have != want {
			t.Errorf("%s: want %v, have %v", name, want, have)
		}
	}
}
