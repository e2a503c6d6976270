package docker_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// nightly runs the cron job of the backup with a program app that does what the script says, and returns what it
// printed, whether it succeeded, and the pings.
func nightly(t *testing.T, script string, env ...string) (out string, ok bool, pings []string) {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("needs curl")
	}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		pings = append(pings, r.URL.Path+" "+string(body)) // one at a time
	}))
	defer server.Close()
	dir := t.TempDir()
	for name, text := range map[string]string{"app": "#!/bin/bash\n" + script + "\n", "url": server.URL + "/secret\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for i := range env {
		env[i] = strings.ReplaceAll(env[i], "$DIR", dir)
	}
	cmd := exec.Command("bash", "../healthcheck.sh", "backup")
	cmd.Env = append(os.Environ(), append(env, "PATH="+dir+":"+os.Getenv("PATH"))...)
	text, err := cmd.CombinedOutput()
	if strings.Contains(string(text), server.URL) {
		t.Errorf("the address is a secret, and is printed:\n%s", text)
	}
	return string(text), err == nil, pings
}

func TestTheNightlyBackupPingsACheckOfItsOwn(t *testing.T) {
	const pinged = "HC_BACKUP_PING_URL_FILE=$DIR/url"
	for _, c := range []struct {
		name, app string
		env       []string
		ok        bool
		printed   string
		ping      string // its begin, and behind a * its end
	}{
		{"all is well", `echo "did $*"`, []string{pinged}, true, "did backup\ndid backup verify\n", "/secret *did backup\ndid backup verify"},
		{"the backup fails", `echo "no space" >&2; exit 69`, []string{pinged}, false, "no space\n", "/secret/fail *no space"},
		{"it can't be restored", `[ "$*" = backup ] && echo made || { echo damaged; exit 1; }`, []string{pinged}, false, "made\ndamaged\n", "/secret/fail *made\ndamaged"},
		{"nobody is to be told", `echo "did $*"`, nil, true, "did backup\ndid backup verify\n", ""},
		{"the address can't be read", `echo "did $*"`, []string{"HC_BACKUP_PING_URL_FILE=$DIR/none"}, true, "can't be read", ""},
		{"the queue is a cluster's", `echo "did $*"`, []string{pinged, "QUEUE_URL=nats://a:4222"}, true, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, ok, pings := nightly(t, c.app, c.env...)
			if ok != c.ok || !strings.Contains(out, c.printed) || c.printed == "" && out != "" {
				t.Errorf("want %q, success %v, have %q, %v", c.printed, c.ok, out, ok)
			}
			begin, end, _ := strings.Cut(c.ping, "*")
			switch {
			case c.ping == "" && len(pings) > 0, c.ping != "" && len(pings) != 1:
				t.Errorf("want %q, have %q", c.ping, pings)
			case c.ping != "" && (!strings.HasPrefix(pings[0], begin) || !strings.HasSuffix(pings[0], end)):
				t.Errorf("want %q, have %q", c.ping, pings[0])
			}
		})
	}
}
