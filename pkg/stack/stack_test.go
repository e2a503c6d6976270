package stack_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"example.com/base-app/pkg/stack"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const dump = `SIGQUIT: quit
PC=0x47b661 m=0 sigcode=0

goroutine 1 gp=0xc000002380 m=nil [select, 3 minutes labels:{"worker": "re\"ader", "zone": "a"}]:
runtime.gopark(0xc0001a2f68?, 0x2?, 0x0?, 0x0?, 0xc0001a2ee4?)
	/usr/local/go/src/runtime/proc.go:435 +0xce fp=0xc0001a2d88
main.(*reader).Run({0x5c0e28, 0xc000012345}, 0xdeadbeef)
	/src/app/reader.go:42 +0x1d
created by main.start in goroutine 7
	/src/app/main.go:12 +0x99

goroutine 34 [chan receive]:
main.f(...)
	/src/app/main.go:9

rax    0x0
`

func TestParseReadsWhatTheRuntimePrints(t *testing.T) {
	have := stack.Parse([]byte(dump))
	if len(have) != 2 {
		t.Fatalf("want 2 goroutines, have %d: %+v", len(have), have)
	}
	if g := have[0]; g.ID != 1 || g.State != "select, 3 minutes" || g.Worker != `re"ader` {
		t.Errorf("want goroutine 1 of re\"ader in select for 3 minutes, have %+v", g)
	}
	if g := have[1]; g.ID != 34 || g.State != "chan receive" || g.Worker != "" {
		t.Errorf("want goroutine 34 in chan receive, have %+v", g)
	}
	for _, secret := range []string{"0x5c0e28", "0xdeadbeef", "0xc0001a2f68"} {
		if strings.Contains(have[0].Text, secret) {
			t.Errorf("argument %s was not scrubbed:\n%s", secret, have[0].Text)
		}
	}
	for _, want := range []string{"main.(*reader).Run(...)", "/src/app/reader.go:42", "created by main.start"} {
		if !strings.Contains(have[0].Text, want) {
			t.Errorf("want %q in:\n%s", want, have[0].Text)
		}
	}
}

func TestAWorkersStackIsFoundByItsLabel(t *testing.T) {
	stack.ShowLabels()
	release, started, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go stack.Labelled(context.Background(), "sleeper", func(context.Context) {
		defer close(ended)
		close(started)
		waitHere(release)
	})
	<-started
	defer func() { close(release); <-ended }()
	mine := stack.Of("sleeper", stack.All())
	if len(mine) != 1 || !strings.Contains(mine[0].Text, "stack_test.waitHere") {
		t.Fatalf("want one stack in waitHere, have %+v", mine)
	}
}

// Ids of goroutines don't tell which is older: they are handed out in blocks.
func TestAWorkersOwnStackComesBeforeThoseOfItsHelpers(t *testing.T) {
	stack.ShowLabels()
	release := make(chan struct{})
	var ready, ended sync.WaitGroup
	const workers, helpers = 50, 3
	for i := range workers {
		ready.Add(1 + helpers)
		ended.Go(func() {
			stack.Labelled(context.Background(), fmt.Sprint("worker-", i), func(context.Context) {
				for range helpers {
					ended.Go(func() { ready.Done(); <-release })
				}
				ready.Done()
				waitHere(release)
			})
		})
	}
	ready.Wait()
	defer ended.Wait()
	defer close(release)
	all := stack.All()
	for i := range workers {
		own := stack.Of(fmt.Sprint("worker-", i), all)
		if len(own) != 1+helpers || !strings.Contains(own[0].Text, "stack.Labelled(...)") {
			t.Errorf("worker %d: want its own stack first of %d, have %d, first:\n%s", i, 1+helpers, len(own), own[0].Text)
		}
	}
}

func waitHere(c <-chan struct{}) { <-c }

func TestALongStackKeepsBothEnds(t *testing.T) {
	var b strings.Builder
	b.WriteString("goroutine 1 [running]:\n")
	for i := range 500 {
		fmt.Fprintf(&b, "main.f%d(0x1)\n\t/src/main.go:%d +0x1\n", i, i)
	}
	text := stack.Parse([]byte(b.String()))[0].Text
	if len(text) > stack.MaxText {
		t.Errorf("want at most %d bytes, have %d", stack.MaxText, len(text))
	}
	for _, want := range []string{"main.f0(...)", "main.f499(...)", "…"} {
		if !strings.Contains(text, want) {
			t.Errorf("want %q in it:\n%s", want, text)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(dump))
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, g := range stack.Parse(in) {
			if len(g.Text) > stack.MaxText {
				t.Errorf("text of %d bytes", len(g.Text))
			}
		}
	})
}

func ExampleParse() {
	for _, g := range stack.Parse([]byte("goroutine 7 [select labels:{\"worker\": \"relay\"}]:\nmain.run(0xc0ffee)\n\t/src/main.go:9 +0x1\n")) {
		fmt.Printf("%s waits in %s\n%s\n", g.Worker, g.State, g.Text)
	}
	// Output:
	// relay waits in select
	// main.run(...)
	// 	/src/main.go:9 +0x1
}
