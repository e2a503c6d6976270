package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/text"
)

const (
	// The trailers say how a stream ended: the status is sent before its first byte.
	trailerError = "Control-Error"
	trailerHint  = "Control-Hint"
	trailerDone  = "Control-Done"
	// idleTimeout ends a stream when nothing comes: the queue's own server gives up after five seconds.
	idleTimeout = 10 * time.Second
)

// Stream answers a command with everything that write writes. The answer ends when write returns, with a trailer that has
// its error. The whole may take any time, but a single write only writeTimeout.
func Stream(w http.ResponseWriter, r *http.Request, write func(context.Context, io.Writer) error) {
	c := http.NewResponseController(w)
	w.Header().Set("Content-Type", "application/octet-stream")
	w.WriteHeader(http.StatusOK)
	_ = c.Flush() // the caller sees that the app answers
	err := write(r.Context(), &patient{w, c})
	_ = c.SetWriteDeadline(time.Now().Add(writeTimeout))
	if err != nil {
		w.Header().Set(http.TrailerPrefix+trailerError, text.OneLine(err.Error()))
		w.Header().Set(http.TrailerPrefix+trailerHint, text.OneLine(fault.Hint(err)))
	}
	w.Header().Set(http.TrailerPrefix+trailerDone, "1")
}

// streamTime bounds the whole stream: any backup is done by then.
const streamTime = time.Hour

// patient moves the deadline on with each write.
type patient struct {
	io.Writer
	control *http.ResponseController
}

func (p *patient) Write(data []byte) (int, error) {
	_ = p.control.SetWriteDeadline(time.Now().Add(writeTimeout)) // else the old one holds
	return p.Writer.Write(data)
}

// Stream sends the command path (a POST) and copies the answer of the server's Stream to w. It returns an error if the
// server's write failed, if nothing comes for 10 s, or if ctx ends; kinds and hints are those of Get.
func (c *Client) Stream(ctx context.Context, path string, w io.Writer) error {
	if err := checkPath(c.path); err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://app/"+strings.TrimPrefix(path, "/"), nil)
	if err != nil {
		return fmt.Errorf("control: POST %s: %w", path, err)
	}
	dialer := &net.Dialer{Timeout: dialTimeout}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, "unix", c.path)
		if err != nil {
			return nil, err
		}
		return &impatient{conn}, nil
	}
	client := http.Client{Timeout: streamTime, Transport: &http.Transport{DisableKeepAlives: true, DialContext: dial}}
	resp, err := client.Do(req)
	if err != nil {
		return c.unreachable(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 400 {
		answer, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) // a part of the text is better than nothing
		return refused(http.MethodPost, path, resp.StatusCode, answer)
	}
	body := &source{Reader: resp.Body}
	_, err = io.Copy(w, body)
	switch problem := resp.Trailer.Get(trailerError); {
	case body.err != nil:
		return c.unreachable(body.err)
	case err != nil:
		return err
	case problem != "":
		return &fault.Error{Op: "control", Subject: "POST " + path, Hint: resp.Trailer.Get(trailerHint), Err: errors.New(problem)}
	case resp.Trailer.Get(trailerDone) == "":
		return c.unreachable(io.ErrUnexpectedEOF)
	}
	return nil
}

// impatient is a connection whose reads fail if nothing comes within idleTimeout.
type impatient struct{ net.Conn }

func (i *impatient) Read(p []byte) (int, error) {
	if err := i.SetReadDeadline(time.Now().Add(idleTimeout)); err != nil {
		return 0, err
	}
	return i.Conn.Read(p)
}

// source remembers its own errors, which io.Copy mixes with the writer's.
type source struct {
	io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}
