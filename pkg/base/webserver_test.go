package base

import (
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestWrongCertificatesAreRefusedAtStart(t *testing.T) {
	serve := func(rt *Runtime) error { rt.Serve(func(*http.ServeMux) {}); return rt.Wait() }
	code, _, err := call(t, serve, []string{"WEB_TLS_CERT_FILE=/nowhere/cert.pem", "WEB_TLS_KEY_FILE=/nowhere/key.pem"})
	if code != 78 || !strings.Contains(err, "WEB_TLS_CERT_FILE") {
		t.Errorf("have %d, %s", code, err)
	}
}

func TestTheSettingsOfTheEdgeReachIt(t *testing.T) {
	_, _, _ = call(t, func(rt *Runtime) error {
		rt.Serve(func(mux *http.ServeMux) {
			mux.HandleFunc("GET /own", func(http.ResponseWriter, *http.Request) {})
		})
		client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
		for _, from := range []string{"203.0.113.1", "203.0.113.2"} {
			req, err := http.NewRequest(http.MethodGet, "http://"+rt.addr.String()+"/own", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("X-Forwarded-For", from)
			answer, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = answer.Body.Close()
			if p, l := answer.Header.Get("RateLimit-Policy"), answer.Header.Get("RateLimit"); p != `"default";q=10;w=5` || !strings.HasPrefix(l, `"default";r=9;`) {
				t.Errorf("%s: have %s and %s", from, p, l)
			}
		}
		rt.Done("tested")
		return rt.Wait()
	}, []string{"WEB_RATE=2", "WEB_BURST=10", "WEB_TRUSTED_PROXIES=127.0.0.0/8,fd00::/8"})
}

func TestFeedbackIsLogged(t *testing.T) {
	_, out, _ := call(t, func(rt *Runtime) error {
		rt.Serve(func(mux *http.ServeMux) {
			mux.HandleFunc("GET /broken", func(http.ResponseWriter, *http.Request) { panic("boom") })
		})
		client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
		req, err := http.NewRequest(http.MethodGet, "http://"+rt.addr.String()+"/broken", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", "text/html")
		answer, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		page, _ := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		form := url.Values{"comment": {"it broke when I looked"}}
		for _, m := range regexp.MustCompile(`name="([^"]*)" value="([^"]*)"`).FindAllStringSubmatch(string(page), -1) {
			form.Set(m[1], m[2])
		}
		answer, err = client.PostForm("http://"+rt.addr.String()+"/feedback", form)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode != 200 {
			t.Errorf("have %s", answer.Status)
		}
		rt.Done("tested")
		return rt.Wait()
	}, nil)
	id := regexp.MustCompile(`"msg":"feedback".*"report_id":"([0-9a-f]{32})".*"comment":"it broke when I looked"`).FindStringSubmatch(out)
	if id == nil || !regexp.MustCompile(`"msg":"failed".*"report_id":"`+id[1]+`"`).MatchString(out) {
		t.Errorf("want the feedback with the failure's report id, have\n%s", out)
	}
}

func TestWhatHasNeverBeenReadyEndsWithoutDelay(t *testing.T) {
	_, _, _ = call(t, func(rt *Runtime) error {
		if have := rt.drainDelay(); have != 0 {
			t.Errorf("while starting: have %v", have)
		}
		rt.Started()
		if have := rt.drainDelay(); have != 3*time.Second {
			t.Errorf("once started: have %v", have)
		}
		rt.Done("tested")
		return nil
	}, []string{"DRAIN_DELAY=3s"})
}
