package control

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/web"
)

const (
	dialTimeout = 2 * time.Second
	// The server's own limits for reading and writing, and a little more: so the server's answer comes first.
	callTimeout = readTimeout + writeTimeout + 5*time.Second
	// A GET is answered at once, or the app hangs; some commands take longer.
	askTimeout = 10 * time.Second
	// A dump of thousands of goroutines is a few megabytes.
	maxAnswer = 16 << 20
)

// Client sends commands to an app's socket. It holds no connection between two calls.
type Client struct {
	path string
	http http.Client
}

// NewClient returns a client for the socket at path. It connects with the first call.
func NewClient(path string) *Client {
	dialer := &net.Dialer{Timeout: dialTimeout}
	return &Client{path: path, http: http.Client{
		Timeout: callTimeout,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, "unix", path)
			},
		},
	}}
}

// Get asks for path ("/status") and unmarshals the answer's JSON into out, unless that is nil.
//
// It blocks until the answer is there, ctx ends or 10 s are over. If the app can't be reached or doesn't answer, the error
// is of fault.KindDependency; if the app refuses the command (4xx), of fault.KindUsage. Both have a hint.
func (c *Client) Get(ctx context.Context, path string, out any) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return c.call(ctx, http.MethodGet, path, nil, out)
}

// Post sends the command path ("/dump") with in as its JSON, unless that is nil. Otherwise it is as Get, but has 70 s.
func (c *Client) Post(ctx context.Context, path string, in, out any) error {
	return c.call(ctx, http.MethodPost, path, in, out)
}

func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	if err := checkPath(c.path); err != nil {
		return err
	}
	var body io.Reader // nil without in, and then no Content-Length
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("control: %s %s: %w", method, path, err)
		}
		body = bytes.NewReader(text)
	}
	// The host is for the protocol only: the dialer knows where to go.
	req, err := http.NewRequestWithContext(ctx, method, "http://app/"+strings.TrimPrefix(path, "/"), body)
	if err != nil {
		return fmt.Errorf("control: %s %s: %w", method, path, err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.unreachable(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return c.unreachable(err)
	case len(text) > maxAnswer:
		return fmt.Errorf("control: %s %s: the answer is longer than %d bytes", method, path, maxAnswer)
	case resp.StatusCode >= 400:
		return refused(method, path, resp.StatusCode, text)
	case out == nil:
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("control: %s %s: the answer: %w", method, path, err)
	}
	return nil
}

// unreachable returns an error that says why there was no answer, with a hint.
func (c *Client) unreachable(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err // its text is about a host that isn't there
	}
	var hint string
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		hint = "is the app running? set DATA_DIR or CONTROL_SOCKET as it has"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		hint = "only root and the app's own user may; it may also just have ended"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		hint = "the app does not answer in time: it may be overloaded, stuck or stopped"
	}
	return &fault.Error{Kind: fault.KindDependency, Op: "control", Subject: c.path, Hint: hint, Err: err}
}

// refused returns the error for a command that was answered with a failure.
func refused(method, path string, status int, text []byte) error {
	var p web.Problem
	_ = json.Unmarshal(text, &p) // whatever else answers has a status at least
	e := &fault.Error{Op: "control", Subject: method + " " + path, Hint: p.Hint,
		Err: errors.New(cmp.Or(p.Detail, p.Title, http.StatusText(status), fmt.Sprint(status)))}
	if status < 500 {
		e.Kind = fault.KindUsage
	}
	if status == http.StatusNotFound && e.Hint == "" {
		e.Hint = "the running app does not know this command; is it of the same version?"
	}
	return e
}
