//go:build long

package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// posted is a recorder with clients that post to it all the time, and what they know.
type posted struct {
	*recorder

	mu       sync.Mutex
	accepted map[string]bool
	refused  map[int]int
	clients  sync.WaitGroup
	enough   chan struct{}
}

func newPosted(r *recorder) *posted {
	return &posted{recorder: r, accepted: map[string]bool{}, refused: map[int]int{}, enough: make(chan struct{})}
}

// post begins n clients; one in three sends batches. Each sends the same ids until they are accepted.
func (r *posted) post(n int) {
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: n}}
	r.t.Cleanup(client.CloseIdleConnections)
	for i := range n {
		r.clients.Go(func() {
			for k := 0; ; k++ {
				ids := []string{fmt.Sprintf("%d-%d", i, k)}
				if i%3 == 0 {
					ids = append(ids, ids[0]+"-b", ids[0]+"-c", ids[0]+"-d")
				}
				for !r.send(client, ids) {
					select {
					case <-r.enough:
						return
					case <-time.After(rand.N(10 * time.Millisecond)):
					}
				}
				r.mu.Lock()
				for _, id := range ids {
					r.accepted[id] = true
				}
				r.mu.Unlock()
				select {
				case <-r.enough:
					return
				default:
				}
			}
		})
	}
}

func (r *posted) send(client *http.Client, ids []string) bool {
	body, media := `{"id":"`+ids[0]+`"}`, "application/json"
	if len(ids) > 1 {
		media = "application/x-ndjson"
		for _, id := range ids[1:] {
			body += "\n" + `{"id":"` + id + `","filler":"` + strings.Repeat("x", 2000) + `"}`
		}
	}
	answer, err := client.Post("http://"+r.addr+"/events", media, strings.NewReader(body))
	if err != nil {
		return false // the process is dead, and nobody knows how far it came
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if answer.StatusCode != http.StatusAccepted {
		r.mu.Lock()
		r.refused[answer.StatusCode]++
		r.mu.Unlock()
		return false
	}
	return err == nil && strings.Count(string(text), `"accepted"`) == len(ids)
}

// quiet ends the clients.
func (r *posted) quiet() {
	close(r.enough)
	r.clients.Wait()
}

// handled returns how often each event was handled.
func (r *posted) handled() map[string]int {
	text, err := os.ReadFile(filepath.Join(r.dir, handledFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		r.t.Fatal(err)
	}
	count := map[string]int{}
	for id := range strings.Lines(string(text)) {
		count[strings.TrimSpace(id)]++
	}
	return count
}

// judge waits until all that was accepted was handled, and asks the app for the fate of each.
func (r *posted) judge() {
	t := r.t
	t.Helper()
	var missing []string
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		missing = missing[:0]
		count := r.handled()
		for id := range r.accepted {
			if count[id] == 0 {
				missing = append(missing, id)
			}
		}
		if len(missing) == 0 || time.Now().After(deadline) {
			break
		}
	}
	if len(missing) > 0 {
		t.Fatalf("%d of %d accepted events were never handled, %v among them:\n%s", len(missing), len(r.accepted), missing[:min(3, len(missing))], r.log())
	}
	for id := range r.accepted {
		for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			status, text := r.get("/events/" + id)
			if status == http.StatusOK && strings.Contains(text, `"processed"`) {
				break
			}
			if status == http.StatusNotFound || time.Now().After(deadline) {
				_, health := r.get("/healthz")
				t.Fatalf("%s was accepted and handled, the app says %d %s; it is\n%s\n%s", id, status, text, health, r.log())
			}
		}
	}
	count := r.handled()
	twice := 0
	for _, n := range count {
		twice += n - 1
	}
	t.Logf("%d events accepted, %d handled, %d times again after a crash; answers that were not 202: %v", len(r.accepted), len(count), twice, r.refused)
	if len(r.accepted) < fewest {
		t.Errorf("want a test that has posted something, have %d events", len(r.accepted))
	}
}

const (
	// fewest is how many events must have been accepted for a test to mean something.
	fewest = 100
	// mostKills ends a test on a machine on which no life gets to its work.
	mostKills = 600
)

func (r *posted) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.accepted)
}

// The process is killed with -9 at random moments, 200 times, some of them before it has started. No event that was
// answered with 202 is lost, and the fate of each is known.
func TestNoAcceptedEventIsLostByKills(t *testing.T) {
	kills := 200
	if testing.Short() {
		kills = 20
	}
	r := newPosted(newRecorder(t, t.TempDir()))
	began := time.Now()
	r.start()
	r.ready()
	life := time.Since(began) + 150*time.Millisecond // a start, and some time at work
	r.post(6)
	// On a machine that has become slower since, few lives get as far as to their work: there are more of them then.
	for i := 0; i < kills || r.count() < fewest && i < mostKills; i++ {
		<-time.After(rand.N(life))
		r.kill()
		r.start()
	}
	r.ready()
	r.quiet()
	r.judge()
	r.stop()
}

// A disk that gets full while events come: they are refused with 503 before it is full to the last byte, the app lives
// and says that it is not ready, and takes events again when there is room.
func TestNoAcceptedEventIsLostByAFullDisk(t *testing.T) {
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk")
	if err := os.Mkdir(disk, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=160m"); err != nil {
		t.Skipf("a small disk can't be mounted here (it takes root): %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) })
	r := newPosted(newRecorder(t, dir, "DATA_DIR="+disk))
	r.start()
	r.ready()
	r.post(6)
	for round := range 3 {
		before := len(r.handled())
		for deadline := time.Now().Add(patience); len(r.handled()) < before+20; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("round %d: no events are handled:\n%s", round, r.log())
			}
		}
		filler := filepath.Join(disk, "filler")
		if err := os.WriteFile(filler, make([]byte, 120<<20), 0o600); err != nil && !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		r.await("/readyz", http.StatusServiceUnavailable, "the disk is full")
		r.await("/healthz", http.StatusOK, `"status":"degraded"`)
		r.mu.Lock()
		r.refused = map[int]int{}
		r.mu.Unlock()
		for deadline := time.Now().Add(patience); r.refusals(http.StatusServiceUnavailable) < 10; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("round %d: nobody is refused: %v\n%s", round, r.refused, r.log())
			}
		}
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		r.ready()
	}
	r.quiet()
	r.judge()
	r.stop()
}

func (r *posted) refusals(status int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.refused[status]
}

func (r *posted) await(path string, status int, text string) {
	r.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		have, body := r.get(path)
		if have == status && strings.Contains(body, text) {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("%s: want %d and %s, have %d %s\n%s", path, status, text, have, body, r.log())
		}
	}
}
