package main

import (
	"testing"
	"time"
)

func TestThePauseGrowsAndHasJitter(t *testing.T) {
	for delivery, longest := range map[uint32]time.Duration{0: firstPause, 1: firstPause, 2: 2 * firstPause, 4: 8 * firstPause, 7: longestPause, 1 << 31: longestPause} {
		least, most := longest, time.Duration(0)
		for range 1000 {
			p := pause(delivery)
			least, most = min(least, p), max(most, p)
		}
		if least <= 0 || least > longest/10 || most < longest*9/10 || most > longest+time.Millisecond {
			t.Errorf("delivery %d: want pauses all over 0 to %v, have %v to %v", delivery, longest, least, most)
		}
	}
}
