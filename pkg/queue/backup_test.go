package queue_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/queue"
)

// A copy is what Export gave, in memory.
type copied struct {
	streams  []string
	heads    map[string][]byte
	pieces   map[string][][]byte
	contents []queue.Content
	current  string
}

func (c *copied) begin(stream string, head []byte) (io.Writer, error) {
	c.current, c.streams = stream, append(c.streams, stream)
	c.heads[stream] = head
	return c, nil
}

func (c *copied) Write(p []byte) (int, error) {
	c.pieces[c.current] = append(c.pieces[c.current], bytes.Clone(p))
	return len(p), nil
}

type exporter interface {
	Export(context.Context, func(string, []byte) (io.Writer, error)) ([]queue.Content, error)
}

func copyOf(t *testing.T, from exporter) *copied {
	t.Helper()
	c := &copied{heads: map[string][]byte{}, pieces: map[string][][]byte{}}
	var err error
	if c.contents, err = from.Export(inTime(t), c.begin); err != nil {
		t.Fatal(err)
	}
	return c
}

// paste makes the files of a queue from a copy and returns their folder.
func paste(t *testing.T, c *copied) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "queue")
	f := openFiles(t, dir)
	defer f.Close()
	for _, stream := range c.streams {
		i, err := f.Import(inTime(t), stream, c.heads[stream])
		for _, p := range c.pieces[stream] {
			if err == nil {
				err = i.Write(inTime(t), p)
			}
		}
		if err == nil {
			err = i.End(inTime(t))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if have := copyOf(t, f).contents; !slices.Equal(have, c.contents) {
		t.Fatalf("want what was copied\n%+v, have\n%+v", c.contents, have)
	}
	return dir
}

func openFiles(t *testing.T, dir string) *queue.Files {
	t.Helper()
	f, err := queue.OpenFiles(inTime(t), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func openAt(t *testing.T, dir string) *queue.Queue {
	t.Helper()
	q, err := queue.Open(inTime(t), queue.Options{Dir: dir, MaxDeliveries: 2, InFlight: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(inTime(t)); err != nil {
			t.Error(err)
		}
	})
	return q
}

func inTime(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func post(t *testing.T, q *queue.Queue, ids ...string) {
	t.Helper()
	var events []event.Event
	for _, id := range ids {
		events = append(events, event.Event{ID: id, RequestID: "of " + id, Body: bytes.Repeat([]byte(id), 1000)})
	}
	if _, err := q.Publish(inTime(t), events...); err != nil {
		t.Fatal(err)
	}
}

func take(t *testing.T, q *queue.Queue) event.Event {
	t.Helper()
	e, err := q.Next(inTime(t))
	if err == nil {
		err = q.Begin(e.Receipt)
	}
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// state waits until an event is in a state.
func state(t *testing.T, q *queue.Queue, id string, want queue.State) queue.Status {
	t.Helper()
	for ctx := inTime(t); ; {
		s, err := q.Status(ctx, id)
		if err == nil && s.State == want {
			return s
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("want %s %s, have %+v, %v", id, want, s, err)
		}
	}
}

// used is a queue with an event in each state: a is processed, b is dead, c was tried once, d to f wait.
func used(t *testing.T) (*queue.Queue, string) {
	dir := t.TempDir()
	q := openAt(t, dir)
	post(t, q, "a", "b", "c", "d", "e", "f")
	var err error
	err = errors.Join(err, q.Ack(take(t, q).Receipt), q.Dead(take(t, q).Receipt, errors.New("no use")))
	_, retryErr := q.Retry(take(t, q).Receipt, time.Millisecond, errors.New("not now"))
	if err := errors.Join(err, retryErr); err != nil {
		t.Fatal(err)
	}
	state(t, q, "a", queue.StateProcessed)
	state(t, q, "b", queue.StateDead)
	for s, err := q.Stats(inTime(t)); s.Retried == 0; s, err = q.Stats(inTime(t)) {
		if err != nil {
			t.Fatal(err)
		}
	}
	return q, dir
}

func TestWhatIsRestoredFromACopyIsDeliveredAsFromTheQueueItself(t *testing.T) {
	q, _ := used(t)
	c := copyOf(t, q)
	if want := []string{"EVENTS", "DEAD", "TRIES", "DONE"}; !slices.Equal(c.streams, want) {
		t.Errorf("want the streams in the order in which nothing is missed, %v, have %v", want, c.streams)
	}
	if e := c.contents[0]; e.Messages != 4 || e.First != 3 || e.Last != 6 || e.Position != 6 {
		t.Errorf("want events 3 to 6, have %+v", e)
	}

	r := openAt(t, paste(t, c))
	for i, id := range []string{"c", "d", "e", "f"} {
		e := take(t, r)
		wantDelivery := uint32(1)
		if id == "c" {
			wantDelivery = 2
		}
		if e.ID != id || e.Sequence != uint64(i+3) || e.Delivery != wantDelivery || e.RequestID != "of "+id || !bytes.Equal(e.Body, bytes.Repeat([]byte(id), 1000)) {
			t.Errorf("want %s, delivery %d, have %+v", id, wantDelivery, e)
		}
		if err := r.Ack(e.Receipt); err != nil {
			t.Error(err)
		}
		state(t, r, id, queue.StateProcessed)
	}
	if s := state(t, r, "a", queue.StateProcessed); s.Sequence != 1 || s.Deliveries != 1 {
		t.Errorf("want what is known of a, have %+v", s)
	}
	dead, _, err := r.DeadLetters(inTime(t), 0, 10)
	if err != nil || len(dead) != 1 || dead[0].ID != "b" || dead[0].Reason != "no use" {
		t.Errorf("want the dead letter, have %+v, %v", dead, err)
	}
	if n, err := r.Replay(inTime(t), "b"); n != 1 || err != nil {
		t.Errorf("want b replayed, have %d, %v", n, err)
	}
	if e := take(t, r); e.ID != "b" || e.Sequence != 7 {
		t.Errorf("want b as the seventh, have %+v", e)
	}
	answers, err := r.Publish(inTime(t), event.Event{ID: "a", Body: []byte("{}")})
	if err != nil || !answers[0].Duplicate {
		t.Errorf("want a known as processed, have %+v, %v", answers, err)
	}
}

func TestFilesAreCopiedWithoutADelivery(t *testing.T) {
	q, dir := used(t)
	want := copyOf(t, q).contents
	if err := q.Close(inTime(t)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		f := openFiles(t, dir)
		have := copyOf(t, f).contents
		f.Close()
		if !slices.Equal(have, want) {
			t.Errorf("want\n%+v, have\n%+v", want, have)
		}
	}
	paste(t, copyOf(t, openAt(t, dir)))
}

// Whatever an event does while the queue is copied, it is in the copy if it was accepted before.
func TestACopyOfABusyQueueMissesNothing(t *testing.T) {
	q := openAt(t, t.TempDir())
	var accepted []string
	for i := range 200 {
		accepted = append(accepted, fmt.Sprint("early-", i))
	}
	post(t, q, accepted...)
	ctx, stop := context.WithCancel(context.Background())
	var busy sync.WaitGroup
	busy.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			_, _ = q.Publish(ctx, event.Event{ID: fmt.Sprint("late-", i), Body: []byte("{}")})
		}
	})
	busy.Go(func() {
		for n := 0; ; n++ {
			e, err := q.Next(ctx)
			if err != nil {
				return
			}
			switch n % 3 {
			case 0:
				err = q.Ack(e.Receipt)
			case 1:
				err = q.Dead(e.Receipt, errors.New("no use"))
			default:
				_, err = q.Retry(e.Receipt, time.Millisecond, errors.New("not now"))
			}
			if err != nil {
				t.Error(err)
			}
		}
	})
	busy.Go(func() {
		for ctx.Err() == nil {
			_, _ = q.Replay(ctx, "") // refused while the copy is made
		}
	})
	var copies []*copied
	for range 2 {
		copies = append(copies, copyOf(t, q))
	}
	stop()
	busy.Wait()
	for _, c := range copies {
		for _, content := range c.contents {
			if content.Lost > 0 {
				t.Errorf("nothing is damaged, have %+v", content)
			}
		}
		r := openAt(t, paste(t, c))
		for _, id := range accepted {
			if _, err := r.Status(inTime(t), id); err != nil {
				t.Errorf("%s is not in the copy: %v", id, err)
			}
		}
	}
}

func TestAnExportEndsWithItsWriterItsContextAndItsQueue(t *testing.T) {
	q, _ := used(t)
	broken := errors.New("broken")
	if _, err := q.Export(inTime(t), func(string, []byte) (io.Writer, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Errorf("want the error of begin, have %v", err)
	}
	if _, err := q.Export(inTime(t), func(string, []byte) (io.Writer, error) { return failing{broken}, nil }); !errors.Is(err, broken) {
		t.Errorf("want the writer's error, have %v", err)
	}
	ctx, cancel := context.WithCancel(inTime(t))
	if _, err := q.Export(ctx, func(string, []byte) (io.Writer, error) { cancel(); return io.Discard, nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("want the end of the context, have %v", err)
	}
	copyOf(t, q) // none of these is in the way of the next
	_, err := q.Export(inTime(t), func(string, []byte) (io.Writer, error) { return io.Discard, q.Close(inTime(t)) })
	if err == nil {
		t.Error("want an error from a queue that is closed meanwhile")
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestACopyThatIsNotWholeIsNotImported(t *testing.T) {
	q, _ := used(t)
	c := copyOf(t, q)
	whole := bytes.Join(c.pieces["EVENTS"], nil)
	flipped := bytes.Clone(whole)
	flipped[len(flipped)/2] ^= 4
	for name, pieces := range map[string][]byte{"cut": whole[:len(whole)-20], "empty": nil, "flipped": flipped, "no copy": []byte("something else altogether")} {
		f := openFiles(t, t.TempDir())
		i, err := f.Import(inTime(t), "EVENTS", c.heads["EVENTS"])
		if err == nil {
			err = i.Write(inTime(t), pieces)
		}
		if err == nil {
			err = i.End(inTime(t))
		}
		if err == nil {
			t.Errorf("%s: want an error", name)
		}
		f.Close()
	}
	f := openFiles(t, t.TempDir())
	defer f.Close()
	for _, head := range []string{"", "{}", `{"config":{"name":"OTHER"},"state":{}}`} {
		if _, err := f.Import(inTime(t), "EVENTS", []byte(head)); err == nil {
			t.Errorf("head %q: want an error", head)
		}
	}
}

// The server passes over records that it can't read and says nothing; a copy that lacks them says so.
func TestACopyTellsWhatTheDiskHasDamaged(t *testing.T) {
	q, dir := used(t)
	if err := q.Close(inTime(t)); err != nil {
		t.Fatal(err)
	}
	blocks, _ := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", "EVENTS", "msgs", "*.blk"))
	if len(blocks) != 1 {
		t.Fatalf("want one block, have %v", blocks)
	}
	change(t, blocks[0], func(data []byte) { data[bytes.LastIndex(data, []byte("eeee"))] ^= 1 })
	type opener func(context.Context, string, *slog.Logger) (*queue.Files, error)
	for i, open := range []opener{queue.ServeFiles, queue.OpenFiles} { // found when it is read, and before
		f, err := open(inTime(t), dir, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if c := copyOf(t, f).contents; c[0].Messages != 3 || c[0].Lost != 1 || c[1].Lost+c[2].Lost+c[3].Lost != 0 {
			t.Errorf("opener %d: want 3 events and one that is lost, have %+v", i, c)
		}
		f.Close()
	}
}

func change(t *testing.T, path string, how func([]byte)) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err == nil {
		how(data)
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A server that meets a bad record without its summary, as after a crash, cuts off what follows it.
func TestFilesOfACrashLoseWhatIsDamagedAlone(t *testing.T) {
	p := embedded(t)
	c := startChild(t, p.options())
	c.doing("ok", "publish x 100")
	c.kill()
	path := filepath.Join(p.dirs(), "jetstream", "$G", "streams", "EVENTS", "msgs", "1.blk")
	change(t, path, func(data []byte) { data[at(data, "x50")+60] ^= 1 })
	f := openFiles(t, p.dirs())
	defer f.Close()
	for range 2 {
		if c := copyOf(t, f).contents; c[0].Messages != 99 || c[0].Lost != 1 || c[0].Last != 100 || c[1].Lost+c[2].Lost+c[3].Lost != 0 {
			t.Errorf("want 99 events and one that is lost, have %+v", c)
		}
	}
}
