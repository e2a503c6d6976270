package web

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"net/http"
	"net/url"
	"time"
	"unicode/utf8"

	"golang.org/x/time/rate"
)

const (
	feedbackPath = "/feedback"
	formType     = "application/x-www-form-urlencoded"
	// formLife is how long a form is valid: time to write a few sentences, and for a telephone call in between.
	formLife = time.Hour
	// maxForm is the longest form in bytes: all its fields, with three bytes for one in the worst case, and some room.
	maxForm = 32 << 10
	// Limits in characters. A comment fits into one line of the log; the others are limits of the form itself.
	maxComment, maxName, maxEmail = 2000, 100, 200
	// macSize cuts the code to 128 bits, which nobody can guess within an hour.
	macSize = 16
	// People write seldom. Whatever sends more than one form a second is a program; twenty may come at once.
	feedbackRate, feedbackBurst = 1, 20
)

// Feedback is what a person wrote about a failure (500) on our page. The ids are the page's, and verified; anybody can
// have typed the rest.
type Feedback struct {
	ReportID  string // of the failure: in its log line as report_id
	RequestID string
	Comment   string // at most 2,000 characters, never empty
	Name      string // at most 100 characters, or empty
	Email     string // at most 200 characters, or empty; not checked
}

// feedback serves the form. The form's token is a code over both ids and the end of its life, with a key that only this
// process has. So feedback can only come from a page that this server made, less than an hour ago, for this failure. No
// cookie is needed, and another site can't forge a token, since it can't read our page. After a restart old forms are
// refused. A form can be sent more than once; a rate bounds that, since each one is logged.
type feedback struct {
	key     [sha256.Size]byte
	deliver func(context.Context, Feedback)
	rate    *rate.Limiter // of all clients together
	site    *site
}

func newFeedback(deliver func(context.Context, Feedback), s *site) *feedback {
	if deliver == nil {
		return nil
	}
	f := &feedback{deliver: deliver, rate: rate.NewLimiter(feedbackRate, feedbackBurst), site: s}
	_, _ = rand.Read(f.key[:]) // it never fails
	return f
}

// newReportID returns 32 hexadecimal digits, the form of Sentry's event ids.
func newReportID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// token is the end of the form's life in Unix seconds, 8 bytes, and the code over it and the ids.
func (f *feedback) token(reportID, requestID string, end time.Time) string {
	raw := binary.BigEndian.AppendUint64(nil, uint64(end.Unix()))
	return base64.RawURLEncoding.EncodeToString(append(raw, f.code(reportID, requestID, raw)...))
}

func (f *feedback) code(reportID, requestID string, end []byte) []byte {
	mac := hmac.New(sha256.New, f.key[:])
	for _, s := range []string{reportID, requestID} {
		mac.Write(binary.BigEndian.AppendUint32(nil, uint32(len(s))))
		mac.Write([]byte(s))
	}
	mac.Write(end)
	return mac.Sum(nil)[:macSize]
}

func (f *feedback) genuine(token, reportID, requestID string, now time.Time) bool {
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(raw) != 8+macSize {
		return false
	}
	return hmac.Equal(raw[8:], f.code(reportID, requestID, raw[:8])) && now.Unix() < int64(binary.BigEndian.Uint64(raw))
}

// ServeHTTP receives one form.
func (f *feedback) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Pattern = feedbackPath
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		WriteProblem(w, r, http.StatusMethodNotAllowed, "this path answers only to POST")
		return
	}
	text, ok := ReadBody(w, r, maxForm, formType)
	if !ok {
		return
	}
	form, err := url.ParseQuery(string(text))
	if err != nil {
		WriteProblem(w, r, http.StatusBadRequest, "the form is malformed")
		return
	}
	sent := Feedback{ReportID: form.Get("report_id"), RequestID: form.Get("request_id"),
		Comment: form.Get("comment"), Name: form.Get("name"), Email: form.Get("email")}
	switch {
	case !f.genuine(form.Get("token"), sent.ReportID, sent.RequestID, time.Now()):
		WriteProblem(w, r, http.StatusForbidden, "this form is not, or no longer, good: it is an hour old, or the server was restarted")
		return
	case sent.Comment == "":
		WriteProblem(w, r, http.StatusBadRequest, "the comment is empty")
		return
	case !fits(sent.Comment, maxComment) || !fits(sent.Name, maxName) || !fits(sent.Email, maxEmail):
		WriteProblem(w, r, http.StatusBadRequest, "a field is too long, or not UTF-8")
		return
	case !f.rate.Allow():
		w.Header().Set("Retry-After", retryAfter)
		WriteProblem(w, r, http.StatusTooManyRequests, "too many people write at once")
		return
	}
	f.deliver(r.Context(), sent)
	if prefersHTML(r.Header["Accept"]) {
		f.site.pages().write(w, http.StatusOK, page{Title: "Thank you", Detail: "What you wrote has reached us.", ReportID: sent.ReportID})
		return
	}
	WriteJSON(w, r, http.StatusOK, struct {
		ReportID string `json:"report_id"`
	}{sent.ReportID})
}

func fits(s string, most int) bool { return utf8.ValidString(s) && utf8.RuneCountInString(s) <= most }
