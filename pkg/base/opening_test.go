package base

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/base-app/pkg/heartbeat"
	"example.com/base-app/pkg/zmq"
)

// While the queue is opened the monitor is told so: a cluster that is away, or files that are read after a crash, may take
// longer than its patience with a start, and have a deadline of their own.
func TestTheMonitorIsToldThatTheQueueIsOpened(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	sockets := zmq.NewContext(zmq.Options{})
	addr := "ipc://" + filepath.Join(t.TempDir(), "beats")
	beats, err := sockets.Bind(ctx, zmq.Pull, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer beats.Close()
	ended := make(chan int, 1)
	runtimes := make(chan *Runtime, 1)
	logs := &lockedText{}
	go func() {
		ended <- callTo(t, logs, func(rt *Runtime) error {
			runtimes <- rt
			_, err := rt.OpenQueue(1, 0)
			return err
		}, []string{"HEARTBEAT_ADDR=" + addr, "HEARTBEAT_EVERY=10ms", "QUEUE_URL=nats://127.0.0.1:1", "DATA_DIR=" + t.TempDir()})
	}()
	for {
		beat, err := beats.Recv(ctx)
		if err != nil {
			t.Fatalf("no beat says that the queue is opened: %v\n%s", err, logs)
		}
		if strings.HasSuffix(string(beat), "phase=opening") {
			break
		}
	}
	rt := <-runtimes
	rt.Done("tested")
	if code := <-ended; code != 0 {
		t.Errorf("want a clean end, have %d\n%s", code, logs)
	}
}

func TestOnceTheQueueIsOpenTheStartHasItsOwnTime(t *testing.T) {
	run := func(rt *Runtime) error {
		if _, err := rt.OpenQueue(1, 0); err != nil {
			return err
		}
		if p := rt.phase(); p != heartbeat.Starting {
			t.Errorf("want %s, have %s", heartbeat.Starting, p)
		}
		rt.opens(time.Minute)
		if p := rt.phase(); p != heartbeat.Opening {
			t.Errorf("want %s, have %s", heartbeat.Opening, p)
		}
		rt.Started()
		if p := rt.phase(); p != heartbeat.Running {
			t.Errorf("want %s, have %s", heartbeat.Running, p)
		}
		rt.Done("tested")
		return rt.Wait()
	}
	logs := &lockedText{}
	if code := callTo(t, logs, run, []string{"DATA_DIR=" + t.TempDir()}); code != 0 {
		t.Errorf("have %d\n%s", code, logs)
	}
}
