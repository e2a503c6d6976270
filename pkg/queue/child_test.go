package queue_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/queue"
)

// childEnv holds the options of the queue that the test binary shall open and use as its standard input says.
const childEnv = "QUEUE_TEST_CHILD"

// child is a process with a queue, to be killed.
type child struct {
	t     testing.TB
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   *bufio.Reader
}

// startChild starts one; wrap is put before its command.
func startChild(t testing.TB, o queue.Options, wrap ...string) *child {
	t.Helper()
	o.Log = nil
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	args := append(wrap, os.Args[0])
	c := &child{t: t, cmd: exec.Command(args[0], args[1:]...)}
	c.cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	c.cmd.Stderr = os.Stderr
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.out = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.kill)
	c.expect("open")
	return c
}

// do tells the child what to do and returns its answer.
func (c *child) do(format string, args ...any) string {
	c.t.Helper()
	if _, err := fmt.Fprintf(c.stdin, format+"\n", args...); err != nil {
		c.t.Fatal(err)
	}
	return c.answer()
}

func (c *child) answer() string {
	c.t.Helper()
	line, err := c.out.ReadString('\n')
	if err != nil {
		c.t.Fatalf("the child ended: %v", err)
	}
	return strings.TrimSpace(line)
}

func (c *child) expect(want string) {
	c.t.Helper()
	if have := c.answer(); have != want {
		c.t.Fatalf("want the child to say %q, have %q", want, have)
	}
}

// doing is do with the answer that must come.
func (c *child) doing(want, format string, args ...any) {
	c.t.Helper()
	if have := c.do(format, args...); have != want {
		c.t.Fatalf("%s: want the child to say %q, have %q", fmt.Sprintf(format, args...), want, have)
	}
}

// kill is kill -9.
func (c *child) kill() {
	if c.cmd != nil {
		_ = c.cmd.Process.Kill()
		_ = c.stdin.Close()
		_ = c.cmd.Wait()
		c.cmd = nil
	}
}

// end lets it come to its end.
func (c *child) end() {
	c.t.Helper()
	if err := errors.Join(c.stdin.Close(), c.cmd.Wait()); err != nil {
		c.t.Errorf("want the child to end well, have %v", err)
	}
	c.cmd = nil
}

// runChild opens the queue and does what it reads: "publish prefix n", "next", "begin id", "ack id", "retry id",
// "state id", "record done id", "close".
func runChild() int {
	var o queue.Options
	if err := json.Unmarshal([]byte(os.Getenv(childEnv)), &o); err != nil {
		fmt.Println("options:", err)
		return 2
	}
	o.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	q, err := tryOpen(o)
	if err != nil {
		fmt.Println("open:", err)
		return 1
	}
	fmt.Println("open")
	have := map[string]event.Event{}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		fmt.Println(childDoes(q, have, strings.Fields(in.Text())))
	}
	return 0
}

func childDoes(q *queue.Queue, have map[string]event.Event, words []string) string {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var err error
	switch words[0] {
	case "publish":
		n, _ := strconv.Atoi(words[2])
		_, err = publishPatiently(ctx, q, makeSome(words[1], n))
	case "next":
		var e event.Event
		if e, err = q.Next(ctx); err == nil {
			have[e.ID] = e
			return fmt.Sprintf("%s %d", e.ID, e.Delivery)
		}
	case "begin":
		err = q.Begin(have[words[1]].Receipt)
	case "ack":
		err = q.Ack(have[words[1]].Receipt)
	case "retry":
		_, err = q.Retry(have[words[1]].Receipt, 10*time.Millisecond, errors.New("failed"))
	case "state":
		var s queue.Status
		if s, err = q.Status(ctx, words[1]); err == nil {
			return string(s.State)
		}
	case "record": // that it is done, without an ack: the process dies between the two
		e := have[words[2]]
		_, err = q.Conn().RequestWithContext(ctx, words[1]+"."+e.ID, fmt.Appendf(nil, `{"sequence":%d,"deliveries":1}`, e.Sequence))
	case "close":
		err = q.Close(ctx)
	default:
		return "what?"
	}
	if err != nil {
		return "error: " + strings.ReplaceAll(err.Error(), "\n", " ")
	}
	return "ok"
}
