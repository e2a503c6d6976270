package lifecycle

import (
	"fmt"
	"log/slog"
	"math"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

const (
	// memoryShare is what the Go runtime may use of what the container has; the rest is for stacks, maps of files and the
	// other processes there.
	memoryShare = 0.9
	// leastMemory is where the limit would cost more than it helps: nothing but collections.
	leastMemory = 64 << 20
)

// LimitMemory tells the Go runtime how much memory the container has, so that it collects more before the kernel kills.
// GOMEMLIMIT wins, if it is set. It returns the limit in words, "none" if there is none.
func LimitMemory(log *slog.Logger) string {
	limit, err := memlimit.Set(memlimit.WithRatio(memoryShare), memlimit.WithMin(leastMemory))
	if err != nil {
		log.Debug("no limit of memory is known", "error", err)
		return "none"
	}
	if limit == math.MaxInt64 {
		return "none"
	}
	return fmt.Sprintf("%d MiB", limit>>20)
}
