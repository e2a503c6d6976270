package web

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestACredentialInJSONIsHiddenAsAWhole(t *testing.T) {
	for text, want := range map[string]string{
		`{"a":1,"password":["a]s3cret"],"b":2}`:      `{"a":1,"password":[redacted],"b":2}`,
		`{"token":{"v":"}s3cret"}}`:                  `{"token":[redacted]}`,
		`{"pass\u0077ord" : "s3cret"}`:               `{"pass\u0077ord":[redacted]}`,
		`{"pin":123456,"sessionId":null}`:            `{"pin":[redacted],"sessionId":[redacted]}`,
		`[{"a":{"jwt":"s3cret"}},"password"]`:        `[{"a":{"jwt":[redacted]}},"password"]`,
		"{\"pw\":\"s3cret\"}\n{\"pw\":\"s3cret\"}\n": "{\"pw\":[redacted]}\n{\"pw\":[redacted]}\n",
		`{"password":"x","password":"s3cret"}`:       `{"password":[redacted],"password":[redacted]}`,
		`{"a":1,"token":["s3cret","s3c`:              `{"a":1,"token":[redacted]`,
		`{"a":"half of wh`:                           `{"a":"half of wh`,
		`{"a":1,,"password":["a]s3cret"]}`:           `{"a":1[redacted]`,
		`{"password":"x":["s3cret"]}`:                `{"password":[redacted][redacted]`,
		``:                                           ``,
		"{\"a\":\"\xff\",\"auth\":\"\xff s3cret\"}":  "{\"a\":\"\xff\",\"auth\":[redacted]}",
	} {
		if have := hideCredentials(text); have != want {
			t.Errorf("%s:\nwant %s\nhave %s", text, want, have)
		}
	}
}

// What stands under a credential's name never shows, whatever it is, wherever it stands, and wherever the body was cut.
func FuzzHideCredentials(f *testing.F) {
	f.Add("x", "]}", `"`, 0, 40)
	f.Add("\\", "},", "\xff", 1, 1000)
	f.Add(`"}`, "\"", "", 2, 25)
	f.Fuzz(func(t *testing.T, other, before, after string, form, cut int) {
		const core = "s3cr3ts3cr3t"
		if strings.Contains(other+before+after, "s3cr3t") {
			return
		}
		quoted := func(s string) string {
			b, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			return string(b)
		}
		secret := quoted(before + core + after)
		forms := []string{secret, "[" + quoted(other) + "," + secret + "]", "{" + quoted(other) + ":[" + secret + "]}", "{" + secret + ":1}"}
		value := forms[uint(form)%uint(len(forms))]
		for _, name := range []string{`"password"`, `"\u0070\u0069n"`, `"userSession"`} {
			text := fmt.Sprintf(`[%s,{%s:[%s],%s : %s,"z":1},2]`, quoted(other), quoted(other), quoted(after), name, value)
			text = text[:min(uint(cut), uint(len(text)))]
			if have := hideCredentials(text); strings.Contains(have, "s3cr3t") {
				t.Errorf("%s\nshows as %s", text, have)
			}
		}
	})
}
