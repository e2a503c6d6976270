package queue_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/queue"
)

// payload of the benchmarks' events.
var payload = bytes.Repeat([]byte("x"), 256)

// syncRate writes and syncs one record after the other, as the measure of the disk.
func syncRate(b *testing.B) float64 {
	b.Helper()
	file, err := os.Create(filepath.Join(b.TempDir(), "file"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	const n = 400
	began := time.Now()
	for range n {
		if _, err := file.Write(payload); err != nil {
			b.Fatal(err)
		}
		if err := file.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	return n / time.Since(began).Seconds()
}

// BenchmarkPublish tells how many times the rate of write and fsync, one after another, is reached.
func BenchmarkPublish(b *testing.B) {
	for _, c := range []struct {
		name          string
		callers, size int
	}{{"one_caller", 1, 1}, {"64_callers", 64, 1}, {"batches_of_1000", 1, 1000}} {
		b.Run(c.name, func(b *testing.B) {
			q := embedded(b).open(b)
			disk := syncRate(b)
			var n atomic.Int64
			b.SetParallelism(max(1, c.callers/runtime.GOMAXPROCS(0)))
			b.ResetTimer()
			work := func(next func() bool) {
				for next() {
					batch := make([]event.Event, c.size)
					for i := range batch {
						n.Add(1)
						batch[i] = event.Event{Body: payload}
					}
					if _, err := q.Publish(context.Background(), batch...); err != nil {
						b.Error(err)
						return
					}
				}
			}
			if c.callers == 1 {
				work(b.Loop)
			} else {
				b.RunParallel(func(pb *testing.PB) { work(pb.Next) })
			}
			rate := float64(n.Load()) / b.Elapsed().Seconds()
			b.ReportMetric(rate, "events/s")
			b.ReportMetric(rate/((disk+syncRate(b))/2), "x_disk")
		})
	}
}

func BenchmarkConsume(b *testing.B) {
	q := embedded(b).open(b)
	for n := 0; n < b.N; n += 1000 {
		batch := make([]event.Event, 1000)
		for i := range batch {
			batch[i] = event.Event{ID: fmt.Sprint("e", n+i), Body: payload}
		}
		if _, err := q.Publish(context.Background(), batch...); err != nil {
			b.Fatal(err)
		}
	}
	b.ResetTimer()
	for range b.N {
		e, err := q.Next(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		if err := q.Begin(e.Receipt); err != nil {
			b.Fatal(err)
		}
		if err := q.Ack(e.Receipt); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkOpen opens and closes a queue, new, small, and with a million events that wait (QUEUE_BENCH_WAITING changes
// how many).
func BenchmarkOpen(b *testing.B) {
	b.Run("new", func(b *testing.B) {
		dir := b.TempDir()
		i := 0
		openAndClose(b, func() string { i++; return filepath.Join(dir, fmt.Sprint(i)) })
	})
	b.Run("small", func(b *testing.B) {
		dir := b.TempDir()
		openAndClose(b, func() string { return dir })
	})
	for _, unclean := range []bool{false, true} {
		b.Run(fmt.Sprintf("million/unclean=%v", unclean), func(b *testing.B) {
			waiting := 1_000_000
			if s := os.Getenv("QUEUE_BENCH_WAITING"); s != "" {
				if _, err := fmt.Sscan(s, &waiting); err != nil {
					b.Fatal(err)
				}
			}
			p := embedded(b)
			q := p.open(b)
			fillUp(b, q, waiting)
			end(b, q)
			q = nil
			openAndClose(b, func() string {
				if unclean {
					if err := os.WriteFile(filepath.Join(p.dirs(), "inflight"), bytes.Repeat([]byte{' '}, 192), 0o600); err != nil {
						b.Fatal(err)
					}
				}
				return p.dirs()
			})
		})
	}
}

func fillUp(b *testing.B, q *queue.Queue, waiting int) {
	b.Helper()
	for n := 0; n < waiting; n += 1000 {
		batch := make([]event.Event, 1000)
		for i := range batch {
			batch[i] = event.Event{ID: fmt.Sprint("waiting-", n+i), Body: payload}
		}
		if _, err := q.Publish(context.Background(), batch...); err != nil {
			b.Fatal(err)
		}
	}
}

func openAndClose(b *testing.B, dir func() string) {
	b.Helper()
	var opening, closing time.Duration
	var heap uint64
	n := 0
	for b.Loop() {
		n++
		runtime.GC()
		began := time.Now()
		q, err := tryOpen(queue.Options{Dir: dir()})
		if err != nil {
			b.Fatal(err)
		}
		opening += time.Since(began)
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		heap = max(heap, m.HeapSys-m.HeapReleased)
		began = time.Now()
		end(b, q)
		closing += time.Since(began)
	}
	b.ReportMetric(float64(opening.Microseconds())/1000/float64(n), "open_ms")
	b.ReportMetric(float64(closing.Microseconds())/1000/float64(n), "close_ms")
	b.ReportMetric(float64(heap)/(1<<20), "heap_MiB")
}

// BenchmarkKnown publishes what is known already, into a queue in which many wait: the look-up alone.
func BenchmarkKnown(b *testing.B) {
	for _, waiting := range []int{1000, 200_000} {
		for _, size := range []int{1, 1000} {
			b.Run(fmt.Sprintf("%d_waiting/batch_%d", waiting, size), func(b *testing.B) {
				q := embedded(b).open(b)
				fillUp(b, q, waiting)
				batch := make([]event.Event, size)
				for i := range batch {
					batch[i] = event.Event{ID: fmt.Sprint("waiting-", i*(waiting/size))}
				}
				for b.Loop() {
					if _, err := q.Publish(context.Background(), batch...); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkIdle tells how much of a core an open queue takes that nobody uses.
func BenchmarkIdle(b *testing.B) {
	embedded(b).open(b)
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	const long = 4 * time.Second
	var share float64
	for b.Loop() {
		at := used()
		time.Sleep(long)
		share = float64(used()-at) / float64(long) * 100
	}
	b.ReportMetric(share, "percent_of_a_core")
}
