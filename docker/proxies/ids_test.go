package proxies_test

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// line is what the access logs of the app, HAProxy and nginx have in common.
type line struct {
	Msg, Remote, Path string
	RequestID         string `json:"request_id"`
}

// logged returns the lines about a request in what somebody has logged.
func logged(t *testing.T, text, id string) (list []line) {
	t.Helper()
	for entry := range strings.Lines(text) {
		var l line
		if !strings.Contains(entry, id) {
			continue
		}
		if err := json.Unmarshal([]byte(entry), &l); err != nil {
			t.Errorf("want JSON, have %s: %v", entry, err)
		}
		if l.Msg == "request" && l.RequestID == id {
			list = append(list, l)
		}
	}
	return list
}

// made is an id that a proxy has made: a UUID, or its digits.
var made = regexp.MustCompile(`^[0-9a-f-]{32,36}$`)

func TestBothProxiesTellWhoAsksUnderOneID(t *testing.T) {
	for _, p := range []struct {
		name  string
		begin func(t *testing.T, list []*replica, port string) (*process, string)
	}{
		{"haproxy", func(t *testing.T, list []*replica, port string) (*process, string) {
			h := haproxy(t, list, port)
			return h.process, h.url
		}},
		{"nginx", func(t *testing.T, list []*replica, _ string) (*process, string) { return nginx(t, list) }},
	} {
		t.Run(p.name, func(t *testing.T) {
			installed(t, p.name)
			list, port := replicas(t)
			proxy, url := p.begin(t, list, port)
			c := client(t, "127.0.0.21")
			for _, r := range []struct{ name, requestID, traceID, want string }{
				{"none", "", "", ""},
				{"a good one", "good-1.A_b", "", "good-1.A_b"},
				{"another name", "", "trace-1", "trace-1"},
				{"both", "good-2", "trace-2", "trace-2"},
				{"as long as may be", strings.Repeat("x", 128), "", strings.Repeat("x", 128)},
				{"too long", strings.Repeat("y", 129), "", ""},
				{"for a log", `wrong","level":"ERROR`, "", ""},
				{"for a terminal", "wrong\tid", "", ""},
				{"with a space", "wrong id", "", ""},
				{"not ASCII", "wröng", "", ""},
				{"a bad one beside a good one", "good-3", "wrong id", "good-3"},
			} {
				headers := []string{"X-Forwarded-For", "203.0.113.9", "X-Request-ID", r.requestID, "X-Trace-ID", r.traceID}
				status, header, text, err := ask(c, http.MethodPost, url+"/events?token=secret", `{"type":"order.created"}`, headers...)
				if err != nil || status != http.StatusAccepted {
					t.Fatalf("%s: want 202, have %d, %v: %s", r.name, status, err, text)
				}
				ids := header["X-Request-Id"]
				if len(ids) != 1 || r.want != "" && ids[0] != r.want || r.want == "" && !made.MatchString(ids[0]) {
					t.Errorf("%s: want one id, %q or a new one, have %q", r.name, r.want, ids)
					continue
				}
				for _, who := range []struct {
					name, remote string
					said         func() string
				}{
					{"the app", "127.0.0.21", func() string { return list[0].said() + list[1].said() }},
					{p.name, "127.0.0.21", proxy.said},
				} {
					var lines []line
					until(t, r.name+": the line of "+who.name, func() bool { lines = logged(t, who.said(), ids[0]); return len(lines) > 0 })
					if len(lines) != 1 || lines[0].Remote != who.remote || lines[0].Path != "/events" {
						t.Errorf("%s: want one line of %s about %s, have %+v", r.name, who.name, who.remote, lines)
					}
				}
			}
		})
	}
}

func TestBothProxiesKeepTheProbesToThemselves(t *testing.T) {
	installed(t, "haproxy")
	installed(t, "nginx")
	list, port := replicas(t)
	_, nginxURL := nginx(t, list)
	c := client(t, "127.0.0.1")
	for name, url := range map[string]string{"HAProxy": haproxy(t, list, port).url, "nginx": nginxURL} {
		for _, path := range []string{"/healthz", "/readyz", "/%68ealthz", "/readyz?x=1", "/./healthz", "//healthz", "/x/../readyz"} {
			status, header, text := get(t, c, url+path)
			if status == http.StatusOK || strings.Contains(string(text), "workers") {
				t.Errorf("%s tells how the replica is under %s: %d %s", name, path, status, text)
			}
			if id := header.Get("X-Request-Id"); status == http.StatusNotFound && (header.Get("Content-Type") != "application/problem+json" || id == "" || !strings.Contains(string(text), id)) {
				t.Errorf("%s, %s: want a problem document with the request id, have %v %s", name, path, header, text)
			}
		}
	}
}
