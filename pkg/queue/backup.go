package queue

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/nats-io/nats-server/v2/server/archive"
	"github.com/nats-io/nats.go"
)

// copied are the streams in the order in which they are copied: an event that moves on meanwhile is then in two of the
// copies rather than in none. Only a replay goes the other way, and waits.
var copied = [...]string{streamEvents, streamDead, streamTries, streamDone}

const (
	// MaxPiece is the longest piece that Export writes, the largest that the server sends.
	MaxPiece = 1 << 20
	// copyWindow is how much the server sends ahead. It is what a copy costs in memory.
	copyWindow = 4 * MaxPiece
	// pieceTime bounds the wait for one piece. The server itself gives up when it hears nothing for five seconds.
	pieceTime = 30 * time.Second
)

// Content is what the copy of one stream holds.
type Content struct {
	Stream   string `json:"stream"`
	Messages uint64 `json:"messages"`
	Bytes    uint64 `json:"bytes"`          // of their subjects, headers and bodies
	First    uint64 `json:"first_sequence"` // of the first message; 0 if there is none
	Last     uint64 `json:"last_sequence"`
	Position uint64 `json:"position"` // the highest sequence that the stream had given away: the next one follows it
	SHA256   string `json:"sha256"`   // of all messages: sequence, time, subject, headers and body
	Lost     uint64 `json:"lost"`     // messages that the disk has damaged: the stream has lost them, the copy hasn't got them
}

// Export copies the queue while it is used: the events that wait, the dead letters, what is known of attempts and of
// events that were processed. For each stream it calls begin with a head, which Import wants, and writes what follows
// in pieces of at most MaxPiece. What was in flight is in the copy as waiting. A record that turns out to be damaged
// ends it with an error; those that the stream has lost before are counted.
//
// It blocks until all is written, ctx ends, or begin or a writer fails; a writer that takes longer than five seconds
// for a few pieces is an error, too. One Export runs at a time, and dead letters are not replayed meanwhile.
func (q *Queue) Export(ctx context.Context, begin func(stream string, head []byte) (io.Writer, error)) ([]Content, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(q.stopped, cancel)()
	select {
	case q.moves <- struct{}{}:
		defer func() { <-q.moves }()
	case <-ctx.Done():
		return nil, fmt.Errorf("queue: export: %w", context.Cause(ctx))
	}
	return exportAll(ctx, q.nc, begin)
}

func exportAll(ctx context.Context, nc *nats.Conn, begin func(stream string, head []byte) (io.Writer, error)) ([]Content, error) {
	var contents []Content
	for _, stream := range copied {
		c, err := export(ctx, nc, stream, begin)
		if err != nil {
			return nil, fmt.Errorf("queue: export %s: %w", stream, err)
		}
		contents = append(contents, c)
	}
	return contents, nil
}

// head is what the server says of a stream before its copy, and wants to hear before it takes one:
// io.nats.jetstream.api.v1.stream_restore_request.
type head struct {
	Config json.RawMessage `json:"config"`
	State  json.RawMessage `json:"state"`
}

// export copies one stream: the server sends pieces, each to be acknowledged, and in the end one that is empty. It
// leaves the consumer out: a new one delivers what waits, in order.
func export(ctx context.Context, nc *nats.Conn, stream string, begin func(string, []byte) (io.Writer, error)) (Content, error) {
	sub, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		return Content{}, err
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only with the connection; it also makes the server stop
	var h head
	if err := ask(ctx, nc, "$JS.API.STREAM.SNAPSHOT."+stream, map[string]any{"deliver_subject": sub.Subject, "no_consumers": true,
		"chunk_size": MaxPiece, "window_size": copyWindow}, &h); err != nil {
		return Content{}, err
	}
	text, err := json.Marshal(h)
	if err != nil {
		return Content{}, err
	}
	w, err := begin(stream, text)
	if err != nil {
		return Content{}, err
	}
	sum := startSum()
	err = pieces(ctx, sub, io.MultiWriter(w, sum))
	c, sumErr := sum.end(err)
	if err := errors.Join(err, sumErr); err != nil {
		return Content{}, err
	}
	if c.Lost, err = damaged(ctx, nc, stream, h.State, c, sum.gaps); err != nil {
		return Content{}, err
	}
	c.Stream = stream
	return c, nil
}

// damaged counts what the disk has damaged. The server passes over records that it can't read, here as elsewhere; so if
// less came than it had, what is missing must be deleted. Where very much is deleted that is not looked into: the
// server would make a list of it in memory.
func damaged(ctx context.Context, nc *nats.Conn, stream string, before json.RawMessage, c Content, gaps []gap) (uint64, error) {
	var had struct {
		Messages uint64 `json:"messages"`
	}
	if err := json.Unmarshal(before, &had); err != nil {
		return 0, err
	}
	type state struct {
		First      uint64   `json:"first_seq"`
		NumDeleted int      `json:"num_deleted"`
		Deleted    []uint64 `json:"deleted"`
		Lost       *struct {
			Messages []uint64 `json:"msgs"`
		} `json:"lost"` // found when the files were opened
	}
	var now struct {
		State state `json:"state"`
	}
	if err := ask(ctx, nc, "$JS.API.STREAM.INFO."+stream, struct{}{}, &now); err != nil {
		return 0, err
	}
	n := uint64(0)
	if l := now.State.Lost; l != nil {
		n = uint64(len(l.Messages))
	}
	if c.Messages == had.Messages || now.State.NumDeleted > maxDeleted {
		return n, nil
	}
	if err := ask(ctx, nc, "$JS.API.STREAM.INFO."+stream, map[string]bool{"deleted_details": true}, &now); err != nil {
		return 0, err
	}
	deleted := make(map[uint64]struct{}, len(now.State.Deleted))
	for _, sequence := range now.State.Deleted {
		deleted[sequence] = struct{}{}
	}
	for _, g := range gaps {
		for sequence := max(g.from, now.State.First); sequence <= g.to; sequence++ {
			if _, ok := deleted[sequence]; !ok {
				n++
			}
		}
	}
	return n, nil
}

// pieces writes what the server sends to w.
func pieces(ctx context.Context, sub *nats.Subscription, w io.Writer) error {
	for {
		within, cancel := context.WithTimeout(ctx, pieceTime)
		m, err := sub.NextMsgWithContext(within)
		cancel()
		switch {
		case err != nil:
			return fmt.Errorf("the server sends nothing: %w", err)
		case len(m.Data) > 0:
			if _, err := w.Write(m.Data); err != nil {
				return err
			}
			if m.Reply == "" { // the last one
				continue
			}
			if err := m.Respond(nil); err != nil {
				return err
			}
		case m.Header.Get("Status") == "" || m.Header.Get("Status") == "204":
			return nil
		default:
			return errors.New("the server gave up: " + m.Header.Get("Description"))
		}
	}
}

// ask asks the server and unmarshals its answer into out, unless it is a refusal.
func ask(ctx context.Context, nc *nats.Conn, subject string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, pieceTime)
	defer cancel()
	m, err := nc.RequestWithContext(ctx, subject, body)
	if err != nil {
		return err
	}
	return answered(m.Data, out)
}

func answered(data []byte, out any) error {
	var refused struct {
		Error *struct {
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(data, &refused); err != nil {
		return err
	}
	if refused.Error != nil {
		return errors.New(refused.Error.Description)
	}
	return json.Unmarshal(data, out)
}

// sum reads a copy as it passes.
type sum struct {
	*io.PipeWriter
	done    chan struct{}
	content Content
	gaps    []gap
	err     error
}

// maxDeleted bounds the list of what is deleted, to about a megabyte.
const maxDeleted = 100_000

// gap is a range of sequences that are not in a copy.
type gap struct{ from, to uint64 }

// maxGaps bounds what is remembered of them. Where there are more, what is behind is not looked at.
const maxGaps = 1 << 20

func startSum() *sum {
	r, w := io.Pipe()
	s := &sum{PipeWriter: w, done: make(chan struct{})}
	go func() { // ends with the pipe
		defer close(s.done)
		s.content, s.gaps, s.err = readContent(r)
		_ = r.CloseWithError(s.err) // always nil
	}()
	return s
}

// end tells what has passed; with an error, nothing.
func (s *sum) end(err error) (Content, error) {
	_ = s.CloseWithError(err) // always nil
	<-s.done
	if err != nil {
		return Content{}, nil
	}
	return s.content, s.err
}

// endOfCopy is how the server marks that nothing is missing: an entry without a name and a sequence.
const endOfCopy = ""

// readContent reads the copy of a stream to its end: S2, and in it the server's own archive (its
// server/stream_backup.go), which begins with the stream's state.
func readContent(r io.Reader) (c Content, gaps []gap, err error) {
	entries := archive.NewReader(s2.NewReader(r))
	first, err := entries.Next()
	if err != nil || first.Name != "state.json" || first.PayloadSize > MaxPiece {
		return c, nil, fmt.Errorf("what the server sent is no copy of a stream: %w", errors.Join(err, errDamaged))
	}
	var state struct {
		FirstSeq uint64 `json:"first_seq"`
		LastSeq  uint64 `json:"last_seq"`
	}
	if err := json.NewDecoder(io.LimitReader(entries, MaxPiece)).Decode(&state); err != nil {
		return c, nil, fmt.Errorf("state: %w", err)
	}
	c.Position = state.LastSeq
	next := state.FirstSeq
	missing := func(to uint64) {
		if next <= to && len(gaps) < maxGaps {
			gaps = append(gaps, gap{next, to})
		}
	}
	digest, buffer := sha256.New(), make([]byte, 32<<10)
	for {
		e, err := entries.Next()
		if err != nil {
			return c, nil, fmt.Errorf("after message %d: %w", c.Last, errors.Join(err, errDamaged))
		}
		if e.Sequence == 0 && e.Name == endOfCopy {
			missing(state.LastSeq)
			c.SHA256 = hex.EncodeToString(digest.Sum(nil))
			_, err := io.Copy(io.Discard, r)
			return c, gaps, err
		}
		if e.Sequence <= c.Last {
			return c, nil, fmt.Errorf("message %d after %d: %w", e.Sequence, c.Last, errDamaged)
		}
		missing(e.Sequence - 1)
		next = e.Sequence + 1
		fixed := make([]byte, 0, 40)
		for _, n := range []uint64{e.Sequence, uint64(e.Timestamp), uint64(len(e.Name)), uint64(e.HeaderSize), uint64(e.PayloadSize)} {
			fixed = binary.BigEndian.AppendUint64(fixed, n)
		}
		_, _ = digest.Write(append(fixed, e.Name...)) // never fails
		size := e.HeaderSize + e.PayloadSize
		if n, err := io.CopyBuffer(digest, entries, buffer); err != nil || n != size {
			return c, nil, fmt.Errorf("message %d: %w", e.Sequence, errors.Join(err, errDamaged))
		}
		if c.Messages == 0 {
			c.First = e.Sequence
		}
		c.Messages, c.Last, c.Bytes = c.Messages+1, e.Sequence, c.Bytes+uint64(len(e.Name))+uint64(size)
	}
}

var errDamaged = errors.New("the copy is cut short or damaged")
