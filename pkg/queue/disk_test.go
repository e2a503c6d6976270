package queue_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/queue"
	"golang.org/x/sys/unix"
)

// smallDisk mounts a disk of its own for the test.
func smallDisk(t *testing.T, mib int) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", mib)); err != nil {
		t.Skipf("a disk to be filled can't be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill leaves so much free on the disk; the function that it returns frees it again.
func fill(t *testing.T, disk string, left int64) (free func()) {
	t.Helper()
	file, err := os.CreateTemp(disk, "ballast")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	var s unix.Statfs_t
	if err := unix.Statfs(disk, &s); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fallocate(int(file.Fd()), 0, 0, int64(s.Bavail)*s.Bsize-left); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(file.Name()); err != nil {
			t.Error(err)
		}
	}
}

func TestADiskThatGetsFullRefusesBeforeItIsFull(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, 128)
	p := &place{opts: queue.Options{AckWait: ackWait}, dirs: func() string { return filepath.Join(disk, "queue") }}
	var log logged
	q := p.open(t, log.into)
	publish(t, q, makeSome("x", 100)...)
	free := fill(t, disk, 32<<20)
	if _, err := q.Publish(within(t), make1("late")); !errors.Is(err, queue.ErrUnavailable) || fault.Of(err) != fault.KindDependency || !strings.Contains(err.Error(), "the disk is full") {
		t.Errorf("want ErrUnavailable of a dependency because of the disk, have %v", err)
	}
	if err := q.Err(); !errors.Is(err, queue.ErrUnavailable) {
		t.Errorf("want Err to say so, have %v", err)
	}
	for _, want := range makeSome("x", 100) { // what is there is handled meanwhile
		ack(t, q, nextID(t, q, want.ID, 1))
	}
	untilState(t, q, "x99", queue.StateProcessed)
	free()
	publishIDs(t, q, "late")
	if err := q.Err(); err != nil {
		t.Errorf("want no error any more, have %v", err)
	}
	ack(t, q, nextID(t, q, "late", 1))
	if log.has("level=ERROR") {
		t.Errorf("want no write to have failed, have %s", log.String())
	}
}

func TestADiskThatIsFullToTheLastByteLosesNothing(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, 128)
	p := &place{opts: queue.Options{AckWait: ackWait}, dirs: func() string { return filepath.Join(disk, "queue") }}
	var log logged
	q := p.open(t, log.into)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(log.String())
		}
	})
	for i := range 100 {
		publish(t, q, heavy(fmt.Sprint("x", i), 8))
	}
	for _, want := range makeSome("x", 10) {
		ack(t, q, nextID(t, q, want.ID, 1))
	}
	untilState(t, q, "x9", queue.StateProcessed)
	free := fill(t, disk, 0)
	for _, e := range makeSome("x", 30)[10:] { // their end can't be written, alone (the server is broken then) or in a batch
		if err := q.Dead(nextID(t, q, e.ID, 1).Receipt, errors.New("bad")); err != nil {
			t.Fatal(err)
		}
		if e.ID == "x10" {
			until(t, "the server met the full disk", func() bool { return log.has("the disk is full; events are refused") })
		}
	}
	for range 3 {
		if _, err := q.Publish(within(t), make1("late")); !errors.Is(err, queue.ErrUnavailable) {
			t.Errorf("want ErrUnavailable, have %v", err)
		}
	}
	free()
	until(t, "events are accepted again", func() bool {
		_, err := q.Publish(within(t), make1("late"))
		return err == nil
	})
	untilState(t, q, "x29", queue.StateDead)
	got := map[string]int{}
	for len(got) < 71 {
		e := next(t, q)
		got[e.ID]++
		ack(t, q, e)
	}
	if got["late"] == 0 || got["x30"] == 0 || got["x99"] == 0 {
		t.Errorf("want x30 to x99 and late, have %v", got)
	}
	until(t, "the queue is empty", func() bool { return depth(t, q) == 0 })
	if s, err := q.Stats(within(t)); err != nil || len(s.Lost) > 0 {
		t.Errorf("want nothing lost, have %+v, %v", s, err)
	}
}

func TestOpenOnAFullDisk(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, 128)
	p := &place{opts: queue.Options{AckWait: ackWait}, dirs: func() string { return filepath.Join(disk, "queue") }}
	free := fill(t, disk, 0)
	began := time.Now()
	if q, err := tryOpen(p.options()); fault.Of(err) != fault.KindConfig || !strings.Contains(fault.Hint(err), "free some space") {
		if err == nil {
			end(t, q)
		}
		t.Errorf("new: want an error that says to free some space, have %v, %q after %v", err, fault.Hint(err), time.Since(began))
	}
	free()
	q := p.open(t)
	publish(t, q, makeSome("x", 3)...)
	end(t, q)

	free = fill(t, disk, 0)
	q, err := tryOpen(p.options())
	if err != nil {
		t.Fatalf("with events: want it to start, have %v, %q", err, fault.Hint(err))
	}
	t.Cleanup(func() { end(t, q) })
	nextID(t, q, "x0", 1)
	free()
	publishIDs(t, q, "late")
	nextID(t, q, "x1", 1)
}
