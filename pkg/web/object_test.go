package web_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"example.com/base-app/pkg/web"
)

func nested(open, core, shut string, n int) string {
	return strings.Repeat(open, n) + core + strings.Repeat(shut, n)
}

func TestCheckObject(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{ // an empty want: accepted
		{"empty object", `{}`, ""},
		{"white space around", " \r\n\t{ \"a\" : 1 }\n ", ""},
		{"every kind of value", `{"a":[null,true,false,-0.5e+3,"\u00e9\ud83d\ude00"],"b":{"a":{}}}`, ""},
		{"one name in two objects", `{"a":{"x":1},"b":{"x":1}}`, ""},
		{"a number that no machine holds", `{"a":1e999}`, ""},
		{"brackets within a string", `{"a":"` + strings.Repeat("[{", 100) + `\""}`, ""},
		{"many side by side", `{"a":[` + strings.Repeat(`{"b":[]},`, 100) + `1]}`, ""},
		{"the deepest", nested(`{"a":`, "1", "}", 64), ""},
		{"the deepest array", `{"a":` + nested("[", "", "]", 63) + "}", ""},

		{"nothing", "", "json: no value, only white space"},
		{"white space", " \n", "json: no value, only white space"},
		{"an array", ` []`, "json: an object is expected at byte 1"},
		{"a string", `"{}"`, "json: an object is expected at byte 0"},
		{"a byte order mark", "\xef\xbb\xbf{}", "json: an object is expected at byte 0"},
		{"too deep", nested(`{"a":`, "1", "}", 65), "json: nested deeper than 64 at byte 320"},
		{"far too deep", `{"a":` + nested("[", "", "]", 100_000) + "}", "json: nested deeper than 64 at byte 68"},
		{"a name twice", `{"a":1,"b":2,"a":3}`, `json: the name "a" is there twice, at byte 13`},
		{"a name twice, once escaped", `{"a":1,"\u0061":2}`, `json: the name "a" is there twice, at byte 7`},
		{"a name twice, inside", `{"a":[{"é":1,"é":2}]}`, `json: the name "é" is there twice, at byte 14`},
		{"a long name twice", `{"` + strings.Repeat("n", 999) + `":1,"` + strings.Repeat("n", 999) + `":1}`,
			`json: the name "` + strings.Repeat("n", 64) + `"… is there twice, at byte 1005`},
		{"not UTF-8", "{\"a\":\"\xff\"}", "json: invalid UTF-8 at byte 6"},
		{"not UTF-8 in a name", "{\"\xc3\":1}", "json: invalid UTF-8 at byte 2"},
		{"half a surrogate pair", `{"a":"\ud800"}`, "json: invalid surrogate pair `\\ud800\"}` in string at byte 6"},
		{"something after it", `{"a":1}x`, "json: something follows the object, after byte 7"},
		{"another object after it", `{}{}`, "json: something follows the object, after byte 2"},
		{"cut off", `{"a":[1,2`, "json: it ends within the object, at byte 9"},
		{"a comma too many", `{"a":1,}`, `json: invalid character '}' at start of string (expecting '"') at byte 7`},
		{"a comment", `{/**/}`, `json: invalid character '/' at start of string (expecting '"') at byte 1`},
		{"a number with a zero in front", `{"a":01}`, `json: invalid character '1' after object value (expecting ',' or '}') at byte 6`},
		{"not a number", `{"a":NaN}`, `json: invalid character 'N' at start of value at byte 5`},
		{"a NUL", "{\"a\":\"\x00\"}", `json: invalid character '\x00' in string (expecting non-control character) at byte 6`},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := web.CheckObject([]byte(c.in))
			have := ""
			if err != nil {
				have = err.Error()
			}
			if have != c.want {
				t.Errorf("\nhave %q\nwant %q", have, c.want)
			}
		})
	}
}

// What CheckObject accepts the standard library accepts as an object of the same meaning, and its errors stay short.
func FuzzCheckObject(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":[1,{"b":null}],"c":"\u0061"}`, `{"a":1,"a":2}`, `[]`, `{"a":"\ud800"}`, "{\"\xff\":1}", ` {"a":-0.1e9} `, `{}{}`, nested(`{"a":`, "1", "}", 65)} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		given := bytes.Clone(in)
		err := web.CheckObject(in)
		if !bytes.Equal(given, in) {
			t.Fatal("the input was changed")
		}
		if err != nil {
			if len(err.Error()) > 400 {
				t.Fatalf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		if !utf8.Valid(in) || !json.Valid(in) {
			t.Fatalf("accepted %q", in)
		}
		var v map[string]any
		d := json.NewDecoder(bytes.NewReader(in))
		d.UseNumber()
		if err := d.Decode(&v); err != nil || v == nil || d.More() {
			t.Fatalf("accepted %q, which encoding/json does not: %v", in, err)
		}
		if depth(v) > 64 {
			t.Fatalf("accepted a depth of %d", depth(v))
		}
		// Without a name twice nothing is lost on the way through a map: as many names come out as went in.
		if have, want := names(v), bytes.Count(stripped(in), []byte(":")); have != want {
			t.Fatalf("accepted %q: %d names in, %d out", in, want, have)
		}
	})
}

func depth(v any) int {
	deepest := 0
	switch v := v.(type) {
	case map[string]any:
		for _, e := range v {
			deepest = max(deepest, depth(e))
		}
	case []any:
		for _, e := range v {
			deepest = max(deepest, depth(e))
		}
	default:
		return 0
	}
	return deepest + 1
}

func names(v any) int {
	n := 0
	switch v := v.(type) {
	case map[string]any:
		n = len(v)
		for _, e := range v {
			n += names(e)
		}
	case []any:
		for _, e := range v {
			n += names(e)
		}
	}
	return n
}

// stripped returns valid JSON without its strings.
func stripped(in []byte) []byte {
	var out []byte
	quoted := false
	for i := 0; i < len(in); i++ {
		switch {
		case quoted && in[i] == '\\':
			i++
		case in[i] == '"':
			quoted = !quoted
		case !quoted:
			out = append(out, in[i])
		}
	}
	return out
}
