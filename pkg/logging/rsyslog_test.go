package logging_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const rsyslogd = "/usr/sbin/rsyslogd"

// rsyslogConfig takes messages from all three kinds of sockets and writes their header and the fields of their
// JSON, as rsyslog understood them, to a file.
const rsyslogConfig = `
module(load="imudp")
module(load="imtcp")
module(load="imuxsock" SysSock.Use="off")
module(load="mmjsonparse")
template(name="all" type="string" string="%%syslogfacility-text%%.%%syslogseverity-text%% %%timestamp:::date-rfc3339%% %%hostname%% %%app-name%% %%procid%% %%msgid%% %%$!all-json%%\n")
ruleset(name="r") {
	action(type="mmjsonparse")
	if $msgid == "till" and $!msg == "sold" then action(type="omfile" file="%s" template="all")
}
input(type="imudp" address="127.0.0.1" port="%d" ruleset="r")
input(type="imtcp" address="127.0.0.1" port="%d" ruleset="r")
input(type="imuxsock" socket="%s" useSpecialParser="off" ruleset="r")
`

// freePort returns a port of 127.0.0.1 that is free now, since rsyslog's udp input can't say which it took.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func TestRsyslogUnderstandsEachField(t *testing.T) {
	if _, err := os.Stat(rsyslogd); err != nil {
		t.Skip("no " + rsyslogd + " here: apt-get install rsyslog")
	}
	folder := t.TempDir()
	file, socket := filepath.Join(folder, "out"), filepath.Join(folder, "log")
	udp, tcp := freePort(t), freePort(t)
	config := filepath.Join(folder, "rsyslog.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, rsyslogConfig, file, udp, tcp, socket), 0o600); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	daemon := exec.Command(rsyslogd, "-n", "-f", config, "-i", filepath.Join(folder, "pid"))
	daemon.Stdout, daemon.Stderr = &said, &said
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		daemon.Process.Kill()
		daemon.Wait()
		if t.Failed() {
			t.Log(said.String())
		}
	}()
	until(t, "rsyslog's tcp port", func() bool {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", tcp))
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	until(t, "rsyslog's socket", func() bool { _, err := os.Stat(socket); return err == nil })

	addresses := []string{fmt.Sprintf("udp://127.0.0.1:%d", udp), fmt.Sprintf("tcp://127.0.0.1:%d", tcp), "unix://" + socket}
	for i, address := range addresses {
		o := all
		o.Syslog = address
		l, out := open(t, o)
		l.Logger().Warn("sold", "worker", "till", "item", "ä \"pen\"\nblue", "n", i, slog.Group("g", "k", true))
		l.Logger().Warn("not sold", "worker", "till")
		if err := l.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		text := func() string { b, _ := os.ReadFile(file); return string(b) }
		until(t, address, func() bool { return strings.Count(text(), "\n") > i })
		line := strings.Split(text(), "\n")[i]
		head, fields, _ := strings.Cut(line, "{")
		m, sent := object(t, "{"+fields), object(t, out.lines()[0])
		stamp, rest, _ := strings.Cut(strings.TrimPrefix(head, "user.warning "), " ")
		if want := fmt.Sprintf("pi shop %d till ", os.Getpid()); rest != want {
			t.Errorf("%s:\nwant %s\nhave %s", address, want, head)
		}
		if seconds := len("2026-01-02T15:04:05"); stamp[:seconds] != sent["time"].(string)[:seconds] {
			t.Errorf("%s: stamped %s, was %v", address, stamp, sent["time"])
		}
		if want, have := fmt.Sprint(sent), fmt.Sprint(m); have != want {
			t.Errorf("%s:\nwant %s\nhave %s", address, want, have)
		}
	}
}
