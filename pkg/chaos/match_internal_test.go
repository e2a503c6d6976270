package chaos

import (
	"regexp"
	"strings"
	"testing"
)

func TestAPatternFits(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"handler", "handler", true}, {"handler", "handlers", false}, {"", "", true}, {"", "x", false},
		{"*", "", true}, {"*", "zmq.send:ipc:///tmp/a", true}, {"zmq.*", "zmq.send:inproc://a", true}, {"zmq.*", "queue.next", false},
		{"*:inproc://app-*", "zmq.send:inproc://app-relay", true}, {"worker:handler-*", "worker:handler-12", true},
		{"a*a", "a", false}, {"a*a", "aa", true}, {"a*b*c", "a-b-b-c", true}, {"a*b*c", "a-c-b", false}, {"**", "x", true},
	} {
		if have := match(c.pattern, c.name); have != c.want {
			t.Errorf("%q and %q: want %v, have %v", c.pattern, c.name, c.want, have)
		}
	}
}

// The regular expression that means the same is the oracle.
func FuzzMatch(f *testing.F) {
	f.Add("a*b*c", "a-b-b-c")
	f.Add("*:inproc://app-*", "zmq.send:inproc://app-relay")
	f.Add("aa*aa", "aaa")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		parts := strings.Split(pattern, "*")
		for i := range parts {
			parts[i] = regexp.QuoteMeta(parts[i])
		}
		re, err := regexp.Compile(`(?s)\A` + strings.Join(parts, ".*") + `\z`)
		if err != nil {
			t.Skip("not UTF-8")
		}
		if want, have := re.MatchString(name), match(pattern, name); want != have {
			t.Errorf("%q and %q: want %v, have %v", pattern, name, want, have)
		}
	})
}
