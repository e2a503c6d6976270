package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The times of the whole program, from outside: docs/performance.md has the figures. Each is a median, in
// milliseconds; beside them stands the cost of starting and ending any Go program.
//
//	go test -run '^$' -bench Process -benchtime 20x ./internal/testapp

func BenchmarkProcessBare(b *testing.B) {
	dir := b.TempDir()
	source := filepath.Join(dir, "main.go")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o644); err != nil {
		b.Fatal(err)
	}
	path := build(b, source)
	medians(b, func() map[string]float64 {
		began := time.Now()
		if err := exec.Command(path).Run(); err != nil {
			b.Fatal(err)
		}
		return map[string]float64{"ms/whole": ms(began)}
	})
}

func BenchmarkProcessStartAndStop(b *testing.B) {
	path := build(b, "../../app")
	medians(b, func() map[string]float64 {
		began := time.Now()
		p := launch(b, path)
		p.await(`"url":"http`)
		p.post(`{"greeting":"hello"}`)
		p.await("event handled")
		first := ms(began)
		began = time.Now()
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		p.wait(0)
		return map[string]float64{"ms/start-to-first-event": first, "ms/TERM-to-exit": ms(began)}
	})
}

func BenchmarkProcessPanicToExit(b *testing.B) {
	path, err := exec.LookPath("broken") // the test binary: slower to start, the same to die
	if err != nil {
		b.Fatal(err)
	}
	medians(b, func() map[string]float64 {
		p := launch(b, path)
		p.await(`"msg":"started"`)
		began := time.Now()
		p.post(`{"victim":"panic"}`)
		p.wait(1)
		return map[string]float64{"ms/panic-to-exit": ms(began)}
	})
}

func BenchmarkProcessIdle(b *testing.B) {
	const look = 5 * time.Second
	path := build(b, "../../app")
	p := launch(b, path)
	p.await(`"msg":"started"`)
	before := cpu(b, p.cmd.Process.Pid)
	for b.Loop() {
		<-time.After(look)
	}
	used := cpu(b, p.cmd.Process.Pid) - before
	b.ReportMetric(100*used.Seconds()/b.Elapsed().Seconds(), "%CPU")
	b.ReportMetric(float64(residentOf(b, p.cmd.Process.Pid))/1024, "MiB-resident")
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	p.wait(0)
}

func ms(since time.Time) float64 { return float64(time.Since(since).Microseconds()) / 1000 }

// medians runs once for each iteration and reports the median of each figure.
func medians(b *testing.B, once func() map[string]float64) {
	all := map[string][]float64{}
	for b.Loop() {
		for name, v := range once() {
			all[name] = append(all[name], v)
		}
	}
	for name, list := range all {
		slices.Sort(list)
		b.ReportMetric(list[len(list)/2], name)
	}
	b.ReportMetric(0, "ns/op") // the sum of everything, which says nothing
}

func build(b *testing.B, what string) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "program")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, what)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	return path
}

type process struct {
	b     *testing.B
	cmd   *exec.Cmd
	lines *bufio.Scanner
	out   io.Reader
	url   string
}

func launch(b *testing.B, path string) *process {
	b.Helper()
	cmd := exec.Command(path)
	cmd.Dir = b.TempDir()
	cmd.Env = append(os.Environ(), "WEB_ADDR=127.0.0.1:0", "SYSLOG_ADDRESS=off")
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	return &process{b: b, cmd: cmd, lines: bufio.NewScanner(out), out: out}
}

var listening = regexp.MustCompile(`"url":"([^"]*)"`)

func (p *process) await(text string) {
	for p.lines.Scan() {
		if m := listening.FindStringSubmatch(p.lines.Text()); m != nil {
			p.url = m[1]
		}
		if strings.Contains(p.lines.Text(), text) {
			return
		}
	}
	p.b.Fatalf("the process ended before %s stood in its log", text)
}

// post sends an event; the process may be gone before it answers.
func (p *process) post(body string) {
	answer, err := http.Post(p.url+"/events", "application/json", strings.NewReader(body))
	if err == nil {
		answer.Body.Close()
	}
}

func (p *process) wait(code int) {
	_, _ = io.Copy(io.Discard, p.out)
	_ = p.cmd.Wait()
	if have := p.cmd.ProcessState.ExitCode(); have != code {
		p.b.Fatalf("want exit %d, have %d", code, have)
	}
}

// cpu returns the processor time that a process has used.
func cpu(b *testing.B, pid int) time.Duration {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	var ticks int64
	for _, f := range fields[11:13] { // utime and stime, see proc(5)
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond // USER_HZ is 100 on every Linux that Go runs on
}
