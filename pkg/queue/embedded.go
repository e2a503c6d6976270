package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/stack"
	"github.com/nats-io/nats-server/v2/server"
	"golang.org/x/sys/unix"
)

const (
	// reserve is what must be free on the disk before an event is taken: settling what is there needs room, too.
	reserve = 64 << 20
	// spaceLook is how often a full disk is looked at.
	spaceLook = 500 * time.Millisecond
	// slowestDisk is how many bytes of files are read in a second at least, after an end that was not clean.
	slowestDisk = 10 << 20
)

// embedded is a JetStream server in this process. It has no port: the connection is a pipe. A server that could not
// write stays unusable until it is opened again, so after a full disk the next one is started in its place.
type embedded struct {
	options *server.Options
	dir     string
	log     *slog.Logger
	doom    func(error)

	mu      sync.Mutex
	server  *server.Server
	full    bool // it met a full disk and must be started again
	lost    []uint64
	mending chan struct{}
	ended   bool
	late    chan struct{} // closed when a server has ended that did not begin in time; nil: there is none
}

// startEmbedded starts the server on the folder's files; clean says that the last one to use them came to its end.
func startEmbedded(ctx context.Context, o Options, clean bool, doom func(error)) (*embedded, error) {
	e := &embedded{dir: o.Dir, log: o.Log, doom: doom, mending: make(chan struct{}), options: &server.Options{
		ServerName: "embedded", DontListen: true, NoSigs: true, DisableJetStreamBanner: true, MaxPayload: maxMessage,
		JetStream: true, StoreDir: o.Dir, SyncAlways: true, JetStreamMaxStore: 4*o.MaxBytes + deadBytes(o.MaxBytes), JetStreamMaxMemory: 1 << 20}}
	close(e.mending)
	if !clean {
		if err := e.forgetConsumer(); err != nil {
			return nil, fault.Config("make DATA_DIR writable", fmt.Errorf("queue: %w", err))
		}
	}
	return e, e.start(ctx, clean)
}

// forgetConsumer removes what the server has on disk of its consumer. It may be newer than what it has of the stream: an
// event could be settled in one and wait in the other, and never be delivered again. A new consumer delivers all that is
// there, in order and at once; what was settled is found in DONE. The server itself must not be asked for it: killed while
// it removes the files it would find no consumer the next time, and give what is left of them to the new one.
func (e *embedded) forgetConsumer() error {
	consumers, err := filepath.Glob(filepath.Join(e.dir, "jetstream", "*", "streams", streamEvents, "obs"))
	for _, c := range consumers {
		err = errors.Join(err, os.RemoveAll(c))
	}
	return err
}

func (e *embedded) start(ctx context.Context, clean bool) error {
	var found []damage
	var err error
	if !clean { // else the server's own summaries are right, and it looks at what they say
		if found, err = checkFiles(ctx, e.dir, e.log); err == nil {
			err = e.forgetIndex()
		}
	}
	if ctx.Err() != nil {
		return late(ctx)
	}
	if err != nil {
		return fault.Config("free some space in DATA_DIR, and look whether its disk can be read", fmt.Errorf("queue: %w", err))
	}
	lost := tell(e.log, found)
	e.mu.Lock()
	e.lost = append(e.lost, lost...)
	e.mu.Unlock()
	s, err := server.NewServer(e.options)
	if err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	s.SetLoggerV2(serverLog{e}, false, false, false)
	began := make(chan struct{})
	go stack.Labelled(context.Background(), serverLabel, func(context.Context) { s.Start(); close(began) }) // ends when the files are read
	select {
	case <-began:
	case <-ctx.Done():
		e.abandon(s, began)
		return late(ctx)
	}
	if !s.JetStreamEnabled() {
		s.Shutdown()
		return fault.Config("free some space, or mend the folder DATA_DIR/queue",
			errors.New("queue: the server in this process could not open its files"))
	}
	e.swap(s)
	return nil
}

// serverLabel names the server's goroutines in a dump.
const serverLabel = "queue-server"

func late(ctx context.Context) error {
	return fault.Dependency("queue", fmt.Errorf("the server in this process did not start in time: %w", context.Cause(ctx)))
}

// abandon ends a server that did not begin in time, as soon as that can be: it can't be interrupted while it reads files.
func (e *embedded) abandon(s *server.Server, began chan struct{}) {
	ended := make(chan struct{})
	e.mu.Lock()
	e.late = ended
	e.mu.Unlock()
	go func() {
		defer close(ended)
		<-began
		s.Shutdown()
		s.WaitForShutdown()
	}()
}

// startTime is what a start may take.
func startTime(dir string, clean bool) time.Duration {
	if clean {
		return openTime
	}
	return openTime + time.Duration(filesSize(dir)/slowestDisk)*time.Second
}

// forgetIndex removes the server's summaries of its own files, which only a clean end leaves up to date.
func (e *embedded) forgetIndex() error {
	summaries, err := filepath.Glob(filepath.Join(e.dir, "jetstream", "*", "streams", "*", "msgs", "index.db"))
	for _, s := range summaries {
		err = errors.Join(err, os.Remove(s))
	}
	return err
}

// InProcessConn makes it what nats.InProcessServer wants.
func (e *embedded) InProcessConn() (net.Conn, error) {
	e.mu.Lock()
	s := e.server
	e.mu.Unlock()
	if s == nil {
		return nil, errors.New("the server in this process is being started again")
	}
	var c net.Conn
	var err error
	stack.Labelled(context.Background(), serverLabel, func(context.Context) { c, err = s.InProcessConn() })
	return c, err
}

// space tells whether there is room on the disk for another n bytes.
func (e *embedded) space(n int) error {
	e.mu.Lock()
	full := e.full
	e.mu.Unlock()
	if full {
		return errors.New("the disk was full, the store is being opened again")
	}
	return e.free(n)
}

func (e *embedded) free(n int) error {
	var s unix.Statfs_t
	if err := unix.Statfs(e.dir, &s); err != nil {
		return fmt.Errorf("statfs %s: %w", e.dir, err)
	}
	if free := int64(s.Bavail) * s.Bsize; free < reserve+int64(n) {
		return fmt.Errorf("the disk is full: %d MiB are free, %d are kept in reserve", free>>20, reserve>>20)
	}
	return nil
}

// broken is called with what the server says about its files.
func (e *embedded) broken(text string) {
	if strings.Contains(text, "no space left") || strings.Contains(text, "disk quota exceeded") {
		e.mu.Lock()
		defer e.mu.Unlock()
		if !e.full && !e.ended {
			e.full, e.mending = true, make(chan struct{})
			go e.mend(e.mending)
		}
		return
	}
	for _, harmless := range []string{"store is closed", "shutting down", "maximum messages", "message too large"} {
		if strings.Contains(text, harmless) { // a server that is being ended, as by mend; or a limit
			return
		}
	}
	// Nobody knows what is on the disk after a failed fsync. Go on, and an event might be acknowledged that isn't there:
	// https://www.usenix.org/conference/atc20/presentation/rebello
	e.doom(&fault.Error{Kind: fault.KindUnhandled, Op: "queue",
		Hint: "the disk of DATA_DIR fails: look at the kernel's log", Err: errors.New(text)})
}

// mend waits for room on the disk and starts the server again.
func (e *embedded) mend(done chan struct{}) {
	defer close(done)
	e.log.Error("queue: the disk is full; events are refused until there is room again", "folder", e.dir)
	look := time.NewTicker(spaceLook)
	defer look.Stop()
	for range look.C {
		if e.over() {
			return
		}
		if e.free(0) == nil {
			break
		}
	}
	if old := e.swap(nil); old != nil {
		old.Shutdown()
		old.WaitForShutdown()
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTime(e.dir, false))
	defer cancel()
	if err := e.start(ctx, false); err != nil {
		e.doom(err)
		return
	}
	e.mu.Lock()
	e.full = false
	e.mu.Unlock()
	e.log.Warn("queue: there is room on the disk again, events are accepted")
}

func (e *embedded) losses() []uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.lost
}

func (e *embedded) over() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.ended
}

func (e *embedded) swap(s *server.Server) (old *server.Server) {
	e.mu.Lock()
	defer e.mu.Unlock()
	old, e.server = e.server, s
	return old
}

// stop ends the server; what is not on the disk by then was not promised to anybody. It waits until ctx ends; the channel
// is closed when nobody uses the files any more.
func (e *embedded) stop(ctx context.Context) <-chan struct{} {
	e.mu.Lock()
	e.ended = true
	mending := e.mending
	e.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		<-mending
		e.mu.Lock()
		s, late := e.server, e.late
		e.mu.Unlock()
		if s != nil {
			s.Shutdown()
			s.WaitForShutdown()
		}
		if late != nil {
			<-late
		}
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	return ended
}

// serverLog passes on what the server complains of. Its news, twenty lines at each start, are of no use here.
type serverLog struct{ e *embedded }

func (l serverLog) say(level slog.Level, format string, v []any) {
	l.e.log.Log(context.Background(), level, "queue: server: "+fmt.Sprintf(format, v...))
}

func (l serverLog) Noticef(string, ...any)         {}
func (l serverLog) Debugf(string, ...any)          {}
func (l serverLog) Tracef(string, ...any)          {}
func (l serverLog) Warnf(format string, v ...any)  { l.say(slog.LevelWarn, format, v) }
func (l serverLog) Fatalf(format string, v ...any) { l.Errorf(format, v...) }

// Errorf is also how the server tells that it could not write.
func (l serverLog) Errorf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	l.e.log.Error("queue: server: " + text)
	if strings.Contains(strings.ToLower(text), "critical write error") {
		l.e.broken(text)
	}
}
