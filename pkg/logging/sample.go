package logging

import "time"

// sampleWindow is how long a sample lasts: a number of what was left out comes once in it for each message, which is
// seldom enough to be no flood itself.
const sampleWindow = time.Minute

// newSample thins out lines for LOG_SAMPLE: of those with the same level and message, whatever their attributes, n in a
// minute pass, and beyond that one in n. It is nil, which lets all pass, if n is 0.
func newSample(n int, report func(leftOut)) *quota {
	if n <= 0 {
		return nil
	}
	return newQuota(n, n, sampleWindow, report)
}
