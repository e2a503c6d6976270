package web

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"net/http"
	"time"
)

//go:embed page.html
var pageText string

//go:embed page.css
var pageStyle string

// pages makes the page that people see when something went wrong. The page loads nothing else.
type pages struct {
	template *template.Template
	policy   string // Content-Security-Policy: this style, a form to us, and nothing else
}

// page is the content of the page. Empty fields are left out.
type page struct {
	Status                                   int
	Title, Detail, Hint, RequestID, ReportID string
	Token, Action                            string // of the form
	Style                                    template.CSS
}

// newPages can't fail: the template is ours.
func newPages() *pages {
	sum := sha256.Sum256([]byte(pageStyle))
	return &pages{template: template.Must(template.New("page").Parse(pageText)),
		policy: "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
			"'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"}
}

func (p *pages) write(w http.ResponseWriter, status int, content page) {
	content.Style = template.CSS(pageStyle)
	var text bytes.Buffer
	if err := p.template.Execute(&text, content); err != nil {
		panic(err) // can't happen: the template is ours, and so are the types of its values
	}
	h := w.Header()
	h.Set("Content-Security-Policy", p.policy)
	h.Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(text.Bytes())
}

// page returns the problem's page. For a failure of ours (500) it has the id of the report, and a form.
func (x *exchange) page(p *Problem) page {
	content := page{Status: p.Status, Title: p.Title, Detail: p.Detail, Hint: p.Hint, RequestID: p.RequestID}
	if p.Status == http.StatusInternalServerError {
		content.ReportID = x.reportID()
		if f := x.site.feedback; f != nil {
			content.Action, content.Token = feedbackPath, f.token(content.ReportID, content.RequestID, time.Now().Add(formLife))
		}
	}
	return content
}
