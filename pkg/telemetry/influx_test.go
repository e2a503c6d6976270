package telemetry

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/influxdata/line-protocol/v2/lineprotocol"
)

// influxServer takes what InfluxDB's write API takes, and answers what it is told to.
type influxServer struct {
	*httptest.Server
	t      *testing.T
	answer func(n int, w http.ResponseWriter) bool // answers the nth request and says so; nil: 204

	mu     sync.Mutex
	asked  int
	points map[string]int // measurement → lines
	fields map[string]map[string]float64
	tags   map[string]string // of build_info
}

func influxDB(t *testing.T, answer func(n int, w http.ResponseWriter) bool) *influxServer {
	s := &influxServer{t: t, answer: answer, points: map[string]int{}, fields: map[string]map[string]float64{}, tags: map[string]string{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *influxServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	q := r.URL.Query()
	if err != nil || r.Method != http.MethodPost || r.URL.Path != "/api/v2/write" || q.Get("bucket") != "b ü" || q.Get("org") != "o&o" ||
		q.Get("precision") != "ns" || r.Header.Get("Authorization") != "Token t0ken" || !strings.HasPrefix(r.Header.Get("Content-Type"), "text/plain") {
		s.t.Errorf("influx: %s %s %v %v", r.Method, r.URL, r.Header, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if s.answer != nil {
		if s.answer(s.asked, w) {
			return
		}
	}
	if err := s.read(body); err != nil {
		s.t.Errorf("influx: %v", err)
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *influxServer) read(body []byte) error {
	d := lineprotocol.NewDecoderWithBytes(body)
	for d.Next() {
		name, err := d.Measurement()
		if err != nil {
			return err
		}
		last := ""
		for {
			key, value, err := d.NextTag()
			if err != nil {
				return err
			}
			if key == nil {
				break
			}
			if string(key) <= last || len(value) == 0 {
				return fmt.Errorf("%s: the tag %s stands behind %s", name, key, last)
			}
			if last = string(key); string(name) == "build_info" {
				s.tags[last] = string(value)
			}
		}
		s.points[string(name)]++
		fields := map[string]float64{}
		for {
			key, value, err := d.NextField()
			if err != nil {
				return err
			}
			if key == nil {
				break
			}
			fields[string(key)] = value.FloatV()
		}
		s.fields[string(name)] = fields
		if at, err := d.Time(lineprotocol.Nanosecond, time.Time{}); err != nil || time.Since(at) > time.Hour || time.Since(at) < 0 {
			return fmt.Errorf("%s: time %v, %v", name, at, err)
		}
	}
	return nil
}

var influxTo = func(url string) Influx { return Influx{URL: url, Token: "t0ken", Org: "o&o", Bucket: "b ü"} }

func TestInfluxDBGetsSnapshots(t *testing.T) {
	s := influxDB(t, nil)
	tel, _ := open(t, Options{Influx: influxTo(s.URL + "/")})
	exercise(t, tel)
	flush(t, tel)
	for _, m := range []string{"request_count_total", "queue_depth", "build_info", "go_goroutine_count"} {
		if s.points[m] != 1 || s.fields[m]["value"] < 1 {
			t.Errorf("%s: have %d lines, %v", m, s.points[m], s.fields[m])
		}
	}
	if f := s.fields["request_latency_seconds"]; f["count"] != 1 || f["+Inf"] != 1 || f["sum"] <= 0 {
		t.Errorf("have %v", f)
	}
	if want := "map[app:shop commit:abc deployment:blue device:box-1 go:go1 version:1.2.3]"; fmt.Sprint(s.tags) != want {
		t.Errorf("want %s, have %v", want, s.tags)
	}
}
