package queue_test

import (
	"os"
	"path/filepath"
	"testing"

	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/queue"
)

func FuzzTheFileOfInterruptedEvents(f *testing.F) {
	f.Add([]byte(`{"id":"a","delivery":1}` + "\n"))
	f.Add([]byte("clean\n"))
	f.Add([]byte("\x00\x00{\"id\":\"a.b\"}\n\n{"))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "inflight")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		list, err := queue.ReadSlots(path, 4)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range list {
			if err := event.CheckID(a.ID); err != nil {
				t.Errorf("want ids that name one event, have %q", a.ID)
			}
		}
		if again, err := queue.ReadSlots(path, 4); err != nil || len(again) > 0 {
			t.Errorf("want an empty file afterwards, have %v, %v", again, err)
		}
	})
}

func FuzzTheHeadersOfADeadLetter(f *testing.F) {
	f.Add("1", "2", "reason", []byte("x"))
	f.Add("-1", "4294967296", "\r\n", []byte(nil))
	f.Fuzz(func(t *testing.T, sequence, deliveries, reason string, data []byte) {
		d, err := queue.ReadDeadLetter(sequence, deliveries, reason, data)
		if err == nil && d.ID != "x" {
			t.Errorf("want the id of the subject, have %+v", d)
		}
	})
}

func FuzzDamagedFiles(f *testing.F) {
	dir := f.TempDir()
	q, err := tryOpen(queue.Options{Dir: dir})
	if err != nil {
		f.Fatal(err)
	}
	publish(f, q, makeSome("x", 20)...)
	end(f, q)
	data, err := os.ReadFile(filepath.Join(dir, "jetstream", "$G", "streams", "EVENTS", "msgs", "1.blk"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(data[:len(data)/2])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		msgs := filepath.Join(dir, "jetstream", "$G", "streams", "EVENTS", "msgs")
		if err := os.MkdirAll(msgs, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(msgs, "1.blk"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := queue.CheckFiles(dir); err != nil {
			t.Fatal(err)
		}
		if found, err := queue.CheckFiles(dir); err != nil || found > 0 {
			t.Errorf("want nothing found in what was mended, have %d, %v", found, err)
		}
	})
}
