package queue_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"example.com/base-app/pkg/queue"
)

// damaged makes a queue of 100 events, ends its process with kill -9, and changes the file that holds them.
func damaged(t *testing.T, change func(data []byte) []byte) (*queue.Queue, *logged) {
	t.Helper()
	p := embedded(t)
	c := startChild(t, p.options())
	c.doing("ok", "publish x 100")
	for i := range 10 {
		c.doing(fmt.Sprintf("x%d 1", i), "next")
		c.doing("ok", "ack x%d", i)
	}
	until(t, "the tenth is processed", func() bool { return c.do("state x9") == "processed" })
	c.kill()
	path := filepath.Join(p.dirs(), "jetstream", "$G", "streams", "EVENTS", "msgs", "1.blk")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(data), 0o600); err != nil {
		t.Fatal(err)
	}
	var log logged
	return p.open(t, log.into), &log
}

// at is where the record of an event begins.
func at(data []byte, id string) int { return bytes.Index(data, []byte("events."+id)) - 22 }

func TestWhatADamagedFileHoldsBesidesSurvivesAndTheLossIsTold(t *testing.T) {
	var from10 []int
	for i := 10; i < 100; i++ {
		from10 = append(from10, i)
	}
	for _, c := range []struct {
		name   string
		change func([]byte) []byte
		lost   []int // the events
		word   string
		count  bool // the sequences are known
	}{
		{"nothing", func(d []byte) []byte { return d }, nil, "", true},
		{"a flipped bit in a body", func(d []byte) []byte { d[at(d, "x50")+60] ^= 1; return d }, []int{50}, "x50", true},
		{"a flipped bit in a length", func(d []byte) []byte { d[at(d, "x50")+2] ^= 8; return d }, []int{50}, "lost records", true},
		{"a flipped bit in a sequence", func(d []byte) []byte { d[at(d, "x50")+9] ^= 8; return d }, []int{50}, "x50", true},
		{"a flipped bit in what was processed", func(d []byte) []byte { d[at(d, "x5")+60] ^= 1; return d }, nil, "", true},
		{"three events of zeros", func(d []byte) []byte { clear(d[at(d, "x50"):at(d, "x53")]); return d }, []int{50, 51, 52}, "lost records", true},
		{"zeros at the beginning", func(d []byte) []byte { clear(d[:at(d, "x11")+5]); return d }, []int{10, 11}, "lost records", false},
		{"a torn end", func(d []byte) []byte { return d[:at(d, "x99")+30] }, []int{99}, "the last record of a file was not written to its end", false},
		// What nothing points to can't be told, but what comes after is delivered.
		{"a missing end", func(d []byte) []byte { return d[:at(d, "x98")] }, []int{98, 99}, "", false},
		{"an empty file", func(d []byte) []byte { return nil }, from10, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			q, log := damaged(t, c.change)
			publishIDs(t, q, "new") // it must not be passed over
			got := map[string]bool{}
			for !got["new"] || len(got) < 91-len(c.lost) {
				e := next(t, q)
				got[e.ID] = true
				ack(t, q, e)
			}
			for i := range 100 {
				id := fmt.Sprint("x", i)
				if want := i >= 10 && !slices.Contains(c.lost, i); got[id] != want {
					t.Errorf("%s: want delivered %v, have %v", id, want, got[id])
				}
			}
			if !log.has(c.word) || c.word == "" && log.has("lost records") {
				t.Errorf("want a word of %q, have %s", c.word, log.String())
			}
			if s, err := q.Stats(within(t)); err != nil || c.count && len(s.Lost) != len(c.lost) {
				t.Errorf("want %d lost, have %v, %v", len(c.lost), s.Lost, err)
			}
		})
	}
}

func TestEventsAfterALostEndAreDelivered(t *testing.T) {
	t.Parallel()
	p := embedded(t)
	q := p.open(t)
	publish(t, q, makeSome("x", 50)...)
	for range 20 {
		ack(t, q, next(t, q))
	}
	untilState(t, q, "x19", queue.StateProcessed)
	end(t, q) // in order, so that the server knows what it had delivered
	path := filepath.Join(p.dirs(), "jetstream", "$G", "streams", "EVENTS", "msgs", "1.blk")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data[:at(data, "x5")], 0o600); err != nil {
		t.Fatal(err)
	}
	q = p.open(t)
	publish(t, q, makeSome("new", 30)...)
	got := map[string]bool{}
	for len(got) < 30 {
		e := next(t, q)
		got[e.ID] = true
		ack(t, q, e)
	}
	for _, e := range makeSome("new", 30) {
		if !got[e.ID] {
			t.Errorf("want %s delivered, have %v", e.ID, got)
		}
	}
}

// The server writes what it knows of its consumer and of the stream apart, and a crash may come between the two.
func TestWhatIsSettledForTheConsumerAloneIsDeliveredAgain(t *testing.T) {
	for name, crash := range map[string]func(consumer string) error{
		"the files of the consumer are whole": func(string) error { return nil },
		// The process is killed while they are removed: the server finds no consumer, and gives what is left to the next one.
		"they are removed by half": func(consumer string) error { return os.Remove(filepath.Join(consumer, "meta.sum")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testSettledForTheConsumerAlone(t, crash)
		})
	}
}

func testSettledForTheConsumerAlone(t *testing.T, crash func(consumer string) error) {
	p := embedded(t)
	c := startChild(t, p.options())
	c.doing("ok", "publish x 2")
	c.kill()
	stream := filepath.Join(p.dirs(), "jetstream", "$G", "streams", "EVENTS")
	before, err := os.ReadFile(filepath.Join(stream, "msgs", "1.blk"))
	if err != nil {
		t.Fatal(err)
	}
	q := p.open(t)
	for range 2 {
		ack(t, q, next(t, q))
	}
	until(t, "the queue is empty", func() bool { return depth(t, q) == 0 })
	end(t, q)                      // the consumer's state is on the disk
	c = startChild(t, p.options()) // and this crash is an unclean end
	c.kill()
	blocks, err := filepath.Glob(filepath.Join(stream, "msgs", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks {
		if err := os.Remove(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(stream, "msgs", "1.blk"), before, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := crash(filepath.Join(stream, "obs", "app")); err != nil {
		t.Fatal(err)
	}
	q = p.open(t)
	until(t, "what was processed leaves the queue", func() bool { return depth(t, q) == 0 })
	nothing(t, q, 50*time.Millisecond)
}
