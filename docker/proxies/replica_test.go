package proxies_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// replica is the app on an address and a data folder of its own, which it keeps when it is started again.
type replica struct {
	*process
	addr, folder string
	runs         int
}

var hosts = []string{"127.0.0.11", "127.0.0.12"}

// replicas starts one on each of hosts, all on the same port. Only the proxies' address is trusted.
func replicas(t *testing.T) (list []*replica, port string) {
	t.Helper()
	port = freePort(t, hosts...)
	for _, host := range hosts {
		r := &replica{addr: net.JoinHostPort(host, port), folder: folder(t)}
		r.start(t)
		list = append(list, r)
	}
	return list, port
}

func (r *replica) start(t *testing.T) {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path)
	cmd.Dir = r.folder
	cmd.Env = append(os.Environ(), "WEB_ADDR="+r.addr, "WEB_RATE=0", "WEB_TRUSTED_PROXIES=127.0.0.1/32", "SYSLOG_ADDRESS=off",
		"DRAIN_DELAY="+drainDelay(t))
	r.runs++
	r.process = start(t, cmd, filepath.Join(r.folder, fmt.Sprintf("log-%d", r.runs)), os.Getuid())
	until(t, "the start of "+r.addr, func() bool {
		if !r.running() {
			t.Fatalf("%s ended at its start:\n%s", r.addr, r.said())
		}
		return strings.Contains(r.said(), `"msg":"started"`)
	})
}

// drainDelay is what the app gets beside the sample.
func drainDelay(t *testing.T) string {
	t.Helper()
	return find(t, "docker/compose.edge.yml", `^ +DRAIN_DELAY: (\S+)$`)
}

// state is what the replica says about an event: accepted, processed, dead or unknown.
func (r *replica) state(t *testing.T, c *http.Client, id string) string {
	t.Helper()
	status, _, body := get(t, c, "http://"+r.addr+"/events/"+id)
	var told struct{ Status string }
	if status == http.StatusNotFound {
		return "unknown"
	}
	if err := json.Unmarshal(body, &told); status != http.StatusOK || err != nil {
		t.Fatalf("%s, event %s: %d %s", r.addr, id, status, body)
	}
	return told.Status
}

// client returns one that comes from an address of the loopback network.
func client(t *testing.T, from string) *http.Client {
	dialer := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	transport := &http.Transport{DialContext: dialer.DialContext, MaxIdleConnsPerHost: 100, ExpectContinueTimeout: patience}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 2 * patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// ask sends a request; headers are pairs of a name and a value.
func ask(c *http.Client, method, url, body string, headers ...string) (status int, header http.Header, text []byte, err error) {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return 0, nil, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	answer, err := c.Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer answer.Body.Close()
	text, err = io.ReadAll(answer.Body)
	return answer.StatusCode, answer.Header, text, err
}

func get(t *testing.T, c *http.Client, url string) (int, http.Header, []byte) {
	t.Helper()
	status, header, text, err := ask(c, http.MethodGet, url, "")
	if err != nil {
		t.Fatal(err)
	}
	return status, header, text
}

// post posts an event whose id is in the body, where a proxy doesn't see it, or in the header too, where it does.
func post(c *http.Client, url, id string, keyed bool) (int, error) {
	var headers []string
	if keyed {
		headers = []string{"Idempotency-Key", id}
	}
	status, _, text, err := ask(c, http.MethodPost, url+"/events", `{"type":"order.created","id":"`+id+`"}`, headers...)
	if err == nil && status == http.StatusAccepted && !strings.Contains(string(text), `"id":"`+id+`"`) {
		return status, fmt.Errorf("202 for another event: %s", text)
	}
	return status, err
}

// answer is what a client was told about one post.
type answer struct {
	id     string
	keyed  bool
	status int
	err    error
}

// load is clients that post all the time, each one event after the other.
type load struct {
	mu      sync.Mutex
	answers []answer
	posting sync.WaitGroup
	cancel  context.CancelFunc
}

// pace is a client's time from one post to the next: enough load to have requests on their way at any moment, and few
// enough events to look at each of them.
const pace = 25 * time.Millisecond

// begin lets eight clients post, half of them with the id in the header if keyed is true. Every fourth uses each
// connection once.
func begin(t *testing.T, url string, keyed bool) *load {
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{cancel: cancel}
	t.Cleanup(func() { l.end() })
	for i := range 8 {
		c := client(t, "127.0.0.1")
		c.Transport.(*http.Transport).DisableKeepAlives = i%4 == 0
		withKey := keyed && i%2 == 0
		l.posting.Go(func() {
			next := time.NewTicker(pace)
			defer next.Stop()
			for n := 0; ctx.Err() == nil; n++ {
				a := answer{id: fmt.Sprintf("client-%d-%d", i, n), keyed: withKey}
				a.status, a.err = post(c, url, a.id, withKey)
				l.mu.Lock()
				l.answers = append(l.answers, a)
				l.mu.Unlock()
				<-next.C
			}
		})
	}
	return l
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.answers)
}

// end stops the clients, when they have the answers that they wait for, and returns all answers.
func (l *load) end() []answer {
	l.cancel()
	l.posting.Wait()
	return l.answers
}

// processed waits until each event is processed by at least one of the replicas, and tells how many are by both.
func processed(t *testing.T, list []*replica, ids []string) (twice int) {
	t.Helper()
	c := client(t, "127.0.0.1")
	for _, id := range ids {
		var states []string
		until(t, "event "+id, func() bool {
			states = states[:0]
			done, waiting := 0, 0
			for _, r := range list {
				s := r.state(t, c, id)
				states = append(states, s)
				switch s {
				case "processed":
					done++
				case "accepted":
					waiting++
				case "dead":
					t.Fatalf("event %s is dead at %s", id, r.addr)
				}
			}
			if done+waiting == 0 {
				t.Fatalf("event %s was accepted, and no replica knows it", id)
			}
			if waiting > 0 {
				return false
			}
			twice += done - 1
			return true
		})
	}
	return twice
}
