package cli

import (
	"cmp"
	"fmt"
	"io"
	"time"

	"example.com/base-app/pkg/schedule"
)

type scheduleCommand struct{}

// Run shows the jobs.
func (scheduleCommand) Run(p *program, c *ctl) error { return get(p, c, "/jobs", printJobs) }

// printJobs is what `app ctl jobs` prints.
func printJobs(w io.Writer, list []schedule.Status) {
	fmt.Fprintln(w, "JOB\tSPEC\tSTATE\tBEGAN\tTOOK\tOUTCOME\tNEXT\tDONE\tFAILED\tSKIPPED\tLAST ERROR")
	for _, j := range list {
		began, took := "-", "-"
		if !j.Began.IsZero() {
			began = j.Began.Format(time.RFC3339)
		}
		if j.Ended.After(j.Began) {
			took = j.Ended.Sub(j.Began).Round(time.Millisecond).String()
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\t%s\n", j.Name, j.Spec, j.State, began, took, cmp.Or(string(j.Outcome), "-"),
			j.Next.Format(time.RFC3339),
			j.Runs[schedule.Done], j.Runs[schedule.Failed]+j.Runs[schedule.TimedOut], j.Runs[schedule.Skipped], cmp.Or(j.Error, "-"))
	}
}
