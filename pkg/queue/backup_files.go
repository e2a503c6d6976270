package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"example.com/base-app/pkg/fault"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Files are a queue's files without a Queue: a copy of those of an app that is down, or new ones that are filled from a
// backup. Nothing is delivered from them. Whoever opens them makes sure that nobody else does, and syncs what was filled.
type Files struct {
	server *server.Server
	nc     *nats.Conn
	lost   map[string]uint64 // messages of each stream that were damaged when the files were opened
}

// plenty bounds nothing: what the files hold is bounded by the disk.
const plenty = 1 << 50

// OpenFiles opens the files in dir, or makes new ones there. It blocks until they are read, and fails if ctx has
// ended by then. It takes out what is damaged, tells it, and does not sync what it writes: give it a copy, and never the
// only files of a queue.
func OpenFiles(ctx context.Context, dir string, log *slog.Logger) (*Files, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	found, err := checkFiles(ctx, dir, log)
	if err == nil {
		err = (&embedded{dir: dir}).forgetIndex() // a server that trusts it doesn't look for itself
	}
	if err != nil {
		return nil, fmt.Errorf("queue: open %s: %w", dir, err)
	}
	tell(log, found)
	f, err := serveFiles(ctx, dir, log)
	if err != nil {
		return nil, err
	}
	for _, d := range found {
		if !d.torn {
			f.lost[d.stream] += d.to - d.from
		}
	}
	return f, nil
}

func serveFiles(ctx context.Context, dir string, log *slog.Logger) (*Files, error) {
	s, err := server.NewServer(&server.Options{ServerName: "files", DontListen: true, NoSigs: true,
		DisableJetStreamBanner: true, MaxPayload: maxMessage,
		JetStream: true, StoreDir: dir, JetStreamMaxStore: plenty, JetStreamMaxMemory: 1 << 20})
	if err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	s.SetLoggerV2(filesLog{log}, false, false, false)
	f := &Files{server: s, lost: map[string]uint64{}}
	s.Start() // until the files are read: one that is ended before goes on writing
	if err := context.Cause(ctx); err != nil {
		f.Close()
		return nil, fmt.Errorf("queue: open %s: %w", dir, err)
	}
	if !s.JetStreamEnabled() {
		f.Close()
		return nil, fault.Config("free some space, or make the folder writable", fmt.Errorf("queue: the files in %s can't be opened", dir))
	}
	if f.nc, err = nats.Connect("", nats.InProcessServer(s), nats.NoReconnect()); err != nil {
		f.Close()
		return nil, fmt.Errorf("queue: %w", err)
	}
	return f, nil
}

// Close writes everything and closes the files.
func (f *Files) Close() {
	if f.nc != nil {
		f.nc.Close()
	}
	f.server.Shutdown()
	f.server.WaitForShutdown()
}

// Export is Queue's Export. A stream that is not there, since the queue was never opened, is an error.
func (f *Files) Export(ctx context.Context, begin func(stream string, head []byte) (io.Writer, error)) ([]Content, error) {
	contents, err := exportAll(ctx, f.nc, begin)
	for i := range contents {
		contents[i].Lost += f.lost[contents[i].Stream]
	}
	return contents, err
}

// Import begins to make a stream of the head and the pieces that Export gave. What is written goes to the server; End
// is called after the last piece. There are no limits in the new stream, of age for example, so that it holds what the copy
// holds; Open sets them to the present settings.
func (f *Files) Import(ctx context.Context, stream string, given []byte) (*Import, error) {
	var h head
	var config map[string]any
	if err := errors.Join(json.Unmarshal(given, &h), json.Unmarshal(h.Config, &config)); err != nil {
		return nil, fmt.Errorf("queue: import %s: its head: %w", stream, err)
	}
	config["num_replicas"] = 1
	config["max_bytes"], config["max_msgs_per_subject"], config["max_age"] = -1, -1, 0
	delete(config, "placement")
	var answer struct {
		Subject string `json:"deliver_subject"`
	}
	if err := ask(ctx, f.nc, "$JS.API.STREAM.RESTORE."+stream, map[string]any{"config": config, "state": h.State}, &answer); err != nil {
		return nil, fmt.Errorf("queue: import %s: %w", stream, err)
	}
	return &Import{nc: f.nc, stream: stream, subject: answer.Subject}, nil
}

// Import is a stream that is being filled.
type Import struct {
	nc              *nats.Conn
	stream, subject string
}

// Write gives one piece, of at most MaxPiece, to the server, and waits until it has taken it.
func (i *Import) Write(ctx context.Context, piece []byte) error {
	if len(piece) == 0 { // would be the end
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, pieceTime)
	defer cancel()
	m, err := i.nc.RequestWithContext(ctx, i.subject, piece)
	if err == nil && len(m.Data) > 0 {
		err = answered(m.Data, &struct{}{})
	}
	if err != nil {
		return fmt.Errorf("queue: import %s: %w", i.stream, err)
	}
	return nil
}

// End waits until the server has made the stream. It fails if the copy was not whole.
func (i *Import) End(ctx context.Context) error {
	m, err := i.nc.RequestWithContext(ctx, i.subject, nil)
	if err == nil {
		err = answered(m.Data, &struct{}{})
	}
	if err != nil {
		return fmt.Errorf("queue: import %s: %w", i.stream, err)
	}
	return nil
}

// filesLog passes on what the server complains of.
type filesLog struct{ log *slog.Logger }

func (l filesLog) Noticef(string, ...any) {}
func (l filesLog) Debugf(string, ...any)  {}
func (l filesLog) Tracef(string, ...any)  {}
func (l filesLog) Warnf(format string, v ...any) {
	l.log.Warn("queue: server: " + fmt.Sprintf(format, v...))
}
func (l filesLog) Errorf(format string, v ...any) {
	l.log.Error("queue: server: " + fmt.Sprintf(format, v...))
}
func (l filesLog) Fatalf(format string, v ...any) { l.Errorf(format, v...) }
