package proxies_test

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// nginx starts nginx on the sample and waits until it answers.
func nginx(t *testing.T, list []*replica) (*process, string) {
	t.Helper()
	path := installed(t, "nginx")
	addr := "127.0.0.1:" + freePort(t, "127.0.0.1")
	p := proxy(t, "docker/nginx/nginx.conf", func(folder, config string) []string {
		return []string{path, "-p", folder, "-c", config, "-e", "stderr", "-g", "daemon off;"}
	}, "listen 8080", "listen "+addr, "/tmp/nginx", "$FOLDER/nginx", "app-1:8080", list[0].addr, "app-2:8080", list[1].addr)
	c := client(t, "127.0.0.1")
	until(t, "nginx's start", func() bool {
		if !p.running() {
			t.Fatalf("nginx ended at its start:\n%s", p.said())
		}
		_, _, _, err := ask(c, http.MethodGet, "http://"+addr+"/readyz", "")
		return err == nil
	})
	return p, "http://" + addr
}

// A client that asks too often is told so, and the app doesn't hear of it; another one is served meanwhile.
func TestNginxLimitsEachClientByItself(t *testing.T) {
	installed(t, "nginx")
	list, _ := replicas(t)
	_, url := nginx(t, list)
	done := make(chan struct{})
	var flood sync.WaitGroup
	var mu sync.Mutex
	var refusal http.Header
	var refused string
	seen := map[int]int{}
	for range 20 {
		c := client(t, "127.0.0.21")
		flood.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				status, header, text, err := ask(c, http.MethodGet, url+"/events/none", "")
				mu.Lock()
				if seen[status]++; status == http.StatusTooManyRequests {
					refusal, refused = header, string(text)
				}
				if err != nil {
					t.Error(err)
				}
				mu.Unlock()
			}
		})
	}
	end := sync.OnceFunc(func() { close(done); flood.Wait() })
	defer end()
	until(t, "a refusal", func() bool { mu.Lock(); defer mu.Unlock(); return seen[http.StatusTooManyRequests] > 0 })
	other := client(t, "127.0.0.22")
	for range 20 {
		if status, _, text, err := ask(other, http.MethodPost, url+"/events", `{"type":"order.created"}`); err != nil || status != http.StatusAccepted {
			t.Errorf("want another client served during the flood, have %d, %v: %s", status, err, text)
		}
	}
	end()
	for name, want := range map[string]string{"Retry-After": "1", "Content-Type": "application/problem+json", "RateLimit": `"edge";r=0;t=2`, "RateLimit-Policy": `"edge";q=200;w=2`} {
		if have := refusal.Get(name); have != want {
			t.Errorf("%s: want %s, have %s", name, want, have)
		}
	}
	if id := refusal.Get("X-Request-Id"); id == "" || !strings.Contains(refused, `"request_id":"`+id+`"`) {
		t.Errorf("want the id %q in the problem document, have %s", id, refused)
	}
	if len(seen) != 2 || seen[http.StatusNotFound] < 200 {
		t.Errorf("want 200 or more answers of the app, then refusals, have %v", seen)
	}
}

// In an IPv6 network of 64 bits everybody picks addresses at will. nginx is told the addresses by a header, since this machine has
// only one.
func TestNginxTakesAnIPv6NetworkForOneClient(t *testing.T) {
	path := installed(t, "nginx")
	addr := "127.0.0.1:" + freePort(t, "127.0.0.1")
	proxy(t, "docker/nginx/nginx.conf", func(folder, config string) []string {
		return []string{path, "-p", folder, "-c", config, "-e", "stderr", "-g", "daemon off;"}
	}, "listen 8080;", "listen "+addr+"; set_real_ip_from 127.0.0.1; real_ip_header X-Address;", "/tmp/nginx", "$FOLDER/nginx",
		"app-1:8080", "127.0.0.11:9", "app-2:8080", "127.0.0.12:9", "rate=100r/s", "rate=1r/m", "burst=200 ", "")
	c := client(t, "127.0.0.1")
	until(t, "nginx's start", func() bool {
		_, _, _, err := ask(c, http.MethodGet, "http://"+addr+"/events/none", "", "X-Address", "192.0.2.1")
		return err == nil
	})
	for _, step := range []struct {
		address string
		limited bool
	}{
		{"2001:db8:0:1::1", false}, {"2001:db8:0:1::1", true}, {"2001:db8:0:1:ffff::2", true}, {"2001:db8:0:2::1", false},
		{"::1", false}, {"192.0.2.2", false}, {"192.0.2.3", false}, {"192.0.2.2", true},
	} {
		status, _, _, err := ask(c, http.MethodGet, "http://"+addr+"/events/none", "", "X-Address", step.address)
		if want := map[bool]int{false: http.StatusBadGateway, true: http.StatusTooManyRequests}[step.limited]; err != nil || status != want {
			t.Errorf("%s: want %d, have %d, %v", step.address, want, status, err)
		}
	}
}

func TestNginxRepeatsOnlyWhatMayBeRepeated(t *testing.T) {
	installed(t, "nginx")
	list, _ := replicas(t)
	p, url := nginx(t, list)
	_ = list[0].Process.Signal(syscall.SIGSTOP)
	// What stands still is still sent requests, every other one.
	type told struct {
		keyed  bool
		id     string
		status int
		err    error
	}
	results := make(chan told, 100)
	var waiting []string
	sent := 0
	for late := time.Now().Add(patience); len(waiting) < 6; sent++ {
		c, keyed, id := client(t, "127.0.0.1"), sent%4 < 2, "event-"+string(rune('a'+sent))
		go func() {
			status, err := post(c, url, id, keyed)
			results <- told{keyed, id, status, err}
		}()
		select {
		case r := <-results:
			if r.err != nil || r.status != http.StatusAccepted {
				t.Errorf("%s: want 202 of the other replica, have %d, %v", r.id, r.status, r.err)
			}
			waiting = slices.DeleteFunc(waiting, func(w string) bool { return w == r.id })
			if r.id != id {
				waiting = append(waiting, id)
			}
		case <-time.After(500 * time.Millisecond):
			waiting = append(waiting, id)
		}
		if time.Now().After(late) || sent == 25 {
			t.Fatalf("want requests that wait for the one that stands still, have %q of %d", waiting, sent)
		}
	}
	_ = list[0].Process.Kill()
	cut := 0
	c := client(t, "127.0.0.1")
	for range waiting {
		r := <-results
		switch {
		case r.err != nil || r.keyed && r.status != http.StatusAccepted:
			t.Errorf("%s: nginx knew that it may be repeated (%v): have %d, %v", r.id, r.keyed, r.status, r.err)
		case r.status == http.StatusBadGateway:
			cut++
			if status, err := post(c, url, r.id, false); err != nil || status != http.StatusAccepted {
				t.Errorf("%s, repeated by the client: want 202, have %d, %v", r.id, status, err)
			}
		case r.status != http.StatusAccepted:
			t.Errorf("%s: want 202 or 502, have %d", r.id, r.status)
		}
	}
	if cut == 0 || !strings.Contains(p.said(), `"replica":"`+list[0].addr+", "+list[1].addr+`"`) {
		t.Errorf("want requests that were repeated, and some that were not, have %d of these", cut)
	}
}

// What is too large for any request nginx refuses, what is too large for one event the app.
// order returns an event of so many bytes.
func order(size int) string {
	const begin, end = `{"type":"order.created","a":"`, `"}`
	return begin + strings.Repeat("x", size-len(begin)-len(end)) + end
}

func TestNginxKnowsTheAppsSizes(t *testing.T) {
	installed(t, "nginx")
	list, _ := replicas(t)
	_, url := nginx(t, list)
	c := client(t, "127.0.0.1")
	const mib = 1 << 20
	for _, r := range []struct {
		name, media, body string
		status            int
		who               string
	}{
		{"a large event", "application/json", order(mib - 2), http.StatusAccepted, "accepted"},
		{"too large an event", "application/json", order(mib + 8), http.StatusRequestEntityTooLarge, "1048576"},
		{"a large batch", "application/x-ndjson", strings.Repeat(order(mib-1)+"\n", 8), http.StatusAccepted, "accepted"},
		{"too large a batch", "application/x-ndjson", strings.Repeat("x", 8*mib+1), http.StatusRequestEntityTooLarge, "a batch has at most 8 MiB"},
	} {
		status, header, text, err := ask(c, http.MethodPost, url+"/events", r.body, "Content-Type", r.media, "Expect", "100-continue")
		if err != nil || status != r.status || !strings.Contains(string(text), r.who) || len(header["X-Request-Id"]) != 1 {
			t.Errorf("%s: want %d with %q and one request id, have %d, %v, %q: %.200s", r.name, r.status, r.who, status, err, header["X-Request-Id"], text)
		}
	}
}
