package control_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/base-app/pkg/control"
	"example.com/base-app/pkg/fault"
)

// streaming is a client of a server whose command /stream is answered by write.
func streaming(t *testing.T, write func(context.Context, io.Writer) error) (*socket, *control.Client) {
	t.Helper()
	s := start(t, filepath.Join(t.TempDir(), "s"))
	s.Handle("POST /stream", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { control.Stream(w, r, write) }))
	return s, control.NewClient(s.path)
}

func TestAStreamArrivesWholeHoweverLong(t *testing.T) {
	piece := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	_, c := streaming(t, func(_ context.Context, w io.Writer) error {
		for range 40 {
			if _, err := w.Write(piece); err != nil {
				return err
			}
		}
		return nil
	})
	var have bytes.Buffer
	if err := c.Stream(t.Context(), "/stream", &have); err != nil || !bytes.Equal(have.Bytes(), bytes.Repeat(piece, 40)) {
		t.Errorf("want %d bytes, have %d, %v", 40*len(piece), have.Len(), err)
	}
}

func TestAStreamThatFailsTellsWhy(t *testing.T) {
	_, c := streaming(t, func(_ context.Context, w io.Writer) error {
		_, _ = io.WriteString(w, "half")
		return fault.Config("buy\na disk", errors.New("no\nspace"))
	})
	var have strings.Builder
	err := c.Stream(t.Context(), "/stream", &have)
	if err == nil || !strings.Contains(err.Error(), "no space") || fault.Hint(err) != "buy a disk" || have.String() != "half" {
		t.Errorf("want half, no space and the hint, have %q, %v, %q", have.String(), err, fault.Hint(err))
	}
	if err := c.Stream(t.Context(), "/other", io.Discard); fault.Of(err) != fault.KindUsage {
		t.Errorf("want a refusal of an unknown command, have %v", err)
	}
}

func TestAStreamThatIsCutIsAnError(t *testing.T) {
	begun := make(chan struct{})
	s, c := streaming(t, func(ctx context.Context, w io.Writer) error {
		_, _ = io.WriteString(w, "half")
		close(begun)
		panic(http.ErrAbortHandler)
	})
	var have strings.Builder
	if err := c.Stream(t.Context(), "/stream", &have); fault.Of(err) != fault.KindDependency || fault.Hint(err) == "" {
		t.Errorf("want a dependency's error with a hint, have %v", err)
	}
	<-begun
	s.stop()
	if err := c.Stream(t.Context(), "/stream", &have); fault.Of(err) != fault.KindDependency || !strings.Contains(fault.Hint(err), "is the app running?") {
		t.Errorf("want the hint for an app that is gone, have %v", err)
	}
}

func TestAStreamEndsWhenItsReaderFailsOrItsContextEnds(t *testing.T) {
	ended := make(chan error, 1)
	_, c := streaming(t, func(ctx context.Context, w io.Writer) error {
		var err error
		for err == nil {
			_, err = w.Write(make([]byte, 1<<20))
		}
		ended <- err
		return err
	})
	full := errors.New("full")
	if err := c.Stream(t.Context(), "/stream", &limited{left: 1 << 20, err: full}); !errors.Is(err, full) {
		t.Errorf("want the writer's own error, have %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := c.Stream(ctx, "/stream", &limited{left: 1 << 20, then: cancel}); !errors.Is(err, context.Canceled) {
		t.Errorf("want the context's end, have %v", err)
	}
	for range 2 {
		select {
		case err := <-ended:
			if err == nil {
				t.Error("want the server's side to end with an error")
			}
		case <-time.After(patience):
			t.Fatal("the server's side does not end")
		}
	}
}

// limited takes so many bytes, then it fails or calls something.
type limited struct {
	left int
	err  error
	then func()
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		if l.err != nil {
			return 0, l.err
		}
		l.then()
	}
	return len(p), nil
}
