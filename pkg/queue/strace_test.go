package queue_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"example.com/base-app/pkg/queue"
)

// straced returns strace with its arguments.
func straced(t *testing.T, args ...string) []string {
	t.Helper()
	path, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed: what reaches the disk, and when, can't be shown")
	}
	if out, err := exec.Command(path, "-f", "-o", os.DevNull, "true").CombinedOutput(); err != nil {
		t.Skipf("strace may not trace here: %v %s", err, out)
	}
	return append([]string{path, "-f", "-qq"}, args...)
}

func TestTheDiskIsSyncedBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	p := embedded(t)
	trace := filepath.Join(t.TempDir(), "trace")
	c := startChild(t, p.options(), straced(t, "-y", "-s", "2000", "-o", trace, "-e", "trace=pwrite64,fsync,write")...)
	c.doing("ok", "publish single 1")
	c.doing("ok", "publish batch 40")
	c.doing("ok", "close")
	c.end()
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	from := position(t, lines, 0, `write\(1<.*"open\\n"`)
	for _, id := range []string{"single0", "batch39"} {
		written := position(t, lines, from, `pwrite64\(\d+<.*/EVENTS/msgs/\d+\.blk>.*events\.`+id+`[^0-9]`)
		// A call that another thread interrupts in the trace has two lines; its end counts.
		synced := position(t, lines, written+1, `fsync\(\d+<.*/EVENTS/msgs/\d+\.blk>`)
		if strings.Contains(lines[synced], "unfinished") {
			thread, _, _ := strings.Cut(lines[synced], " ")
			synced = position(t, lines, synced+1, "^"+thread+` +<\.\.\. fsync resumed>`)
		}
		answered := position(t, lines, from+1, `write\(1<.*"ok\\n"`)
		if !strings.Contains(lines[synced], "= 0") || answered < synced {
			t.Errorf("%s: want the record written, synced and then answered, have lines %d, %d, %d of\n%s", id, written, synced, answered, strings.Join(lines[from:answered+1], "\n"))
		}
		from = answered
	}
}

// position finds the first line that matches, from the one given on.
func position(t *testing.T, lines []string, from int, pattern string) int {
	t.Helper()
	r := regexp.MustCompile(pattern)
	for i := from; i < len(lines); i++ {
		if r.MatchString(lines[i]) {
			return i
		}
	}
	t.Fatalf("want a line like %s after line %d, have\n%s", pattern, from, strings.Join(lines[min(from, len(lines)):], "\n"))
	return 0
}

func TestAnErrorOfFsyncMakesTheQueueUnusable(t *testing.T) {
	for _, stream := range []string{"EVENTS", "DONE"} {
		t.Run(stream, func(t *testing.T) {
			t.Parallel()
			p := embedded(t)
			q := p.open(t)
			publishIDs(t, q, "before", "kept")
			ack(t, q, nextID(t, q, "before", 1))
			untilState(t, q, "before", queue.StateProcessed)
			end(t, q)
			file := filepath.Join(p.dirs(), "jetstream", "$G", "streams", stream, "msgs", "1.blk")
			c := startChild(t, p.options(), straced(t, "-o", os.DevNull, "-P", file, "-e", "trace=fsync", "-e", "inject=fsync:error=EIO:when=2+")...)
			if stream == "EVENTS" {
				c.doing("ok", "publish good 1")
				c.fails("publish bad 1", "input/output error")
			} else {
				c.doing("ok", "publish good 2")
				for range 3 { // the second end meets the error, or the third if they were written together
					id, _, _ := strings.Cut(c.do("next"), " ")
					c.doing("ok", "ack %s", id)
				}
			}
			until(t, "Next tells", func() bool { return strings.Contains(c.do("next"), "input/output error") })
			for i := range 3 {
				c.fails(fmt.Sprintf("publish late%d 1", i), "error")
			}
			c.kill()
			until(t, "the traced process is gone, too", func() (gone bool) {
				q, err := tryOpen(p.options())
				if err == nil {
					end(t, q)
				}
				return err == nil
			})
			q = p.open(t) // the disk works again
			if s, err := q.Status(within(t), "kept"); err != nil || stream == "EVENTS" && s.State != queue.StateAccepted {
				t.Errorf("want what was accepted to be there, have %+v, %v", s, err)
			}
		})
	}
}

// fails is do with an error that must come.
func (c *child) fails(command, want string) {
	c.t.Helper()
	if have := c.do("%s", command); !strings.HasPrefix(have, "error: ") || !strings.Contains(have, want) {
		c.t.Errorf("%s: want an error with %q, have %q", command, want, have)
	}
}
