package telemetry

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/base-app/internal/testlog"
)

// A real InfluxDB takes what we write, and gives it back. Debian's is version 1.6, which has the line protocol and not yet the
// write API of version 2: a proxy translates address and token, and leaves the lines as they are.
func TestInfluxDBTakesIt(t *testing.T) {
	program, err := exec.LookPath("influxd")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("influxd is not installed: .ci/run should have done it")
		}
		t.Skip("influxd is not installed (Debian's package influxdb)")
	}
	db := startInfluxDB(t, program)
	db.query(t, "", "CREATE USER shop WITH PASSWORD 'pa55' WITH ALL PRIVILEGES")
	db.query(t, "", `CREATE DATABASE "metrics"`)
	tel, log := open(t, Options{Prometheus: true, Influx: Influx{URL: db.front(t), Token: "shop:pa55", Bucket: "metrics/autogen"}})
	exercise(t, tel)
	flush(t, tel)
	have := map[string]bool{}
	for _, row := range db.query(t, "metrics", "SHOW MEASUREMENTS") {
		have[row[0].(string)] = true
	}
	for _, m := range Metrics() {
		if !have[m.Exported()] && m.Name != "go.memory.limit" {
			t.Errorf("want %s among the measurements", m.Exported())
		}
	}
	row := db.query(t, "metrics", `SELECT "value", "version", "app", "device" FROM "build_info"`)
	if len(row) != 1 || fmt.Sprint(row[0][1:]) != "[1 1.2.3 shop box-1]" {
		t.Errorf("want the build's row, have %v", row)
	}
	row = db.query(t, "metrics", `SELECT "count", "sum", "+Inf" FROM "request_latency_seconds"`)
	if len(row) != 1 || fmt.Sprint(row[0][1]) != "1" || row[0][2] == nil || fmt.Sprint(row[0][3]) != "1" {
		t.Errorf("want the histogram of one request, have %v", row)
	}
	if t.Failed() {
		t.Log(log)
	}
}

// influxDB1 is a server of version 1.
type influxDB1 struct{ addr string }

func startInfluxDB(t *testing.T, program string) influxDB1 {
	t.Helper()
	dir := t.TempDir()
	db := influxDB1{free(t)}
	cmd := exec.Command(program)
	cmd.Env = []string{"HOME=" + dir, "INFLUXDB_META_DIR=" + filepath.Join(dir, "meta"), "INFLUXDB_DATA_DIR=" + filepath.Join(dir, "data"), "INFLUXDB_DATA_WAL_DIR=" + filepath.Join(dir, "wal"),
		"INFLUXDB_HTTP_BIND_ADDRESS=" + db.addr, "INFLUXDB_BIND_ADDRESS=" + free(t), "INFLUXDB_REPORTING_DISABLED=true", "INFLUXDB_MONITOR_STORE_ENABLED=false", "INFLUXDB_HTTP_AUTH_ENABLED=true"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	said := &testlog.Log{}
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		if t.Failed() {
			t.Log(said)
		}
	})
	for deadline := time.Now().Add(time.Minute); ; <-time.After(20 * time.Millisecond) {
		if answer, err := oneCall.Get("http://" + db.addr + "/ping"); err == nil {
			_ = answer.Body.Close()
			return db
		}
		select {
		case <-ended:
			t.Fatalf("influxd has ended:\n%s", said)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("influxd does not answer:\n%s", said)
		}
	}
}

var oneCall = &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}

// free returns an address that nobody listens on.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// front is the address of a proxy that makes a version 2 of it.
func (db influxDB1) front(t *testing.T) string {
	t.Helper()
	proxy := &httputil.ReverseProxy{Transport: &http.Transport{DisableKeepAlives: true}, Rewrite: func(p *httputil.ProxyRequest) {
		name, policy, _ := strings.Cut(p.In.URL.Query().Get("bucket"), "/")
		user, password, _ := strings.Cut(strings.TrimPrefix(p.In.Header.Get("Authorization"), "Token "), ":")
		p.Out.URL = &url.URL{Scheme: "http", Host: db.addr, Path: "/write", RawQuery: url.Values{"db": {name}, "rp": {policy}, "precision": {"n"}}.Encode()}
		p.Out.SetBasicAuth(user, password)
	}}
	s := httptest.NewServer(proxy)
	t.Cleanup(s.Close)
	return s.URL
}

// query returns the rows of the first series of the answer.
func (db influxDB1) query(t *testing.T, name, text string) [][]any {
	t.Helper()
	ask, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+db.addr+"/query?"+url.Values{"q": {text}, "db": {name}}.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	ask.SetBasicAuth("shop", "pa55") // who makes the first user is not asked
	answer, err := oneCall.Do(ask)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var told struct {
		Error   string
		Results []struct {
			Error  string
			Series []struct{ Values [][]any }
		}
	}
	if err := json.NewDecoder(answer.Body).Decode(&told); err != nil || told.Error != "" || len(told.Results) != 1 || told.Results[0].Error != "" {
		t.Fatalf("%s: %v, %+v", text, err, told)
	}
	if len(told.Results[0].Series) == 0 {
		return nil
	}
	return told.Results[0].Series[0].Values
}
