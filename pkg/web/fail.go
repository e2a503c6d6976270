package web

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/fault"
)

// shortly is the Retry-After while a dependency fails now and then: the next call may succeed.
const shortly = time.Second

// Fail answers r for a handler that failed with err, and logs err at the level of its kind. If a dependency failed, the
// answer is a 503 with Retry-After: a second, or as long as a breaker stays open by default. Any other error is a 500,
// and reported as a panic is. The client reads nothing of err; the request id in the answer leads to it in the log. If
// the client has gone and err is only the end of the request's context, the answer is a 503 that nobody sees.
//
// Nothing may have been written yet.
func Fail(w http.ResponseWriter, r *http.Request, err error) {
	ctx, subject := r.Context(), subjectOf(r.Pattern)
	x := exchangeOf(ctx)
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		if x != nil {
			x.site.Log.DebugContext(ctx, "the client has gone", "subject", subject, "error", err)
		}
		WriteProblem(w, r, http.StatusServiceUnavailable, "the client has gone")
		return
	}
	outside := fault.Of(err) == fault.KindDependency
	if x != nil {
		if !outside && x.site.WithAttrs != nil { // a report has an id, which the page shows, too
			ctx = x.site.WithAttrs(ctx, slog.String("report_id", x.reportID()))
		}
		fault.Guard{Log: x.site.Log, Report: x.site.Report}.Handle(ctx, subject, err)
	}
	if !outside {
		WriteProblem(w, r, http.StatusInternalServerError, failedDetail)
		return
	}
	after := shortly
	if errors.Is(err, dependency.ErrOpen) {
		after = dependency.DefaultCooldown
	}
	w.Header().Set("Retry-After", strconv.Itoa(int(after.Seconds())))
	WriteProblem(w, r, http.StatusServiceUnavailable, "something that this service depends on does not answer; try again later")
}

// failedDetail is the detail of the answer after a failure of ours.
const failedDetail = "the server failed; its log tells why, under this request id"

// subjectOf names a handler in logs and errors.
func subjectOf(pattern string) string {
	if pattern == "" {
		return "handler"
	}
	return "handler " + pattern
}
