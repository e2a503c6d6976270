package worker_test

import (
	"context"
	"fmt"
	"testing"

	"example.com/base-app/pkg/worker"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestProgressIsCountedAndWaitingIsShown(t *testing.T) {
	w := worker.New("reader")
	place := "recv inproc://x"
	w.Beat()
	w.Park(&place)
	if where, parked := w.Parked(); !parked || where != place || w.Beats() != 1 {
		t.Errorf("want it parked in %q after one beat, have %q, %v, %d", place, where, parked, w.Beats())
	}
	w.Unpark()
	if _, parked := w.Parked(); parked || w.Beats() != 2 {
		t.Errorf("want it busy, the end of the wait counted as progress, have %v, %d", parked, w.Beats())
	}
}

func TestNobodyIsAWorkerToo(t *testing.T) {
	w := worker.FromContext(context.Background())
	place := "nowhere"
	w.Beat()
	w.Park(&place)
	w.Unpark()
	if _, parked := w.Parked(); parked || w.Beats() != 0 || w.Name() != "" {
		t.Errorf("want nothing of nobody, have %v, %d, %q", parked, w.Beats(), w.Name())
	}
}

func TestTellingProgressDoesNotAllocate(t *testing.T) {
	w, place := worker.New("reader"), "queue"
	if n := testing.AllocsPerRun(100, func() { w.Park(&place); w.Unpark(); w.Beat() }); n > 0 {
		t.Errorf("want none, have %v allocations", n)
	}
}

func BenchmarkWaitAndBeat(b *testing.B) {
	w, place := worker.New("reader"), "queue"
	for b.Loop() {
		w.Park(&place)
		w.Unpark()
	}
}

func ExampleFromContext() {
	ctx := worker.NewContext(context.Background(), worker.New("relay"))
	self := worker.FromContext(ctx)
	self.Beat()
	fmt.Println(self.Name(), self.Beats())
	// Output: relay 1
}
