package schedule

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"example.com/base-app/pkg/fault"
)

// specHint is how to write a spec.
const specHint = "write minute, hour, day of the month, month and weekday, such as 30 2 * * 1-5, or " +
	"@hourly, @daily, @weekly, @monthly, @yearly, or @every 10m; times are UTC"

// every begins the specs of intervals.
const every = "@every "

// parseSpec reads a spec. The times of the schedule that it returns are in UTC if it is asked in UTC.
func parseSpec(spec string) (cron.Schedule, error) {
	when, err := parse(spec)
	if err != nil {
		return nil, fault.Config(specHint, fmt.Errorf("the spec %q: %w", spec, err))
	}
	return when, nil
}

func parse(spec string) (cron.Schedule, error) {
	if strings.Contains(spec, "TZ=") {
		return nil, errors.New("times are UTC, and no zone can be set: a daily job would be left out or done twice when the clocks change")
	}
	if interval, ok := strings.CutPrefix(spec, every); ok {
		// The library makes a second of what is shorter, also of what is negative.
		if d, err := time.ParseDuration(interval); err == nil && d < time.Second {
			return nil, errors.New("the shortest interval is 1s")
		}
	}
	when, err := cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor).Parse(spec)
	if err != nil {
		return nil, err
	}
	if when.Next(time.Now().UTC()).IsZero() {
		return nil, errors.New("there is no such time")
	}
	return when, nil
}
