// Command service1 is the front of the demo. It has no data of its own: it calls service2 over HTTP, with retries and a
// breaker.
//
//	client ─► service1 ─► service2 ─► users-db
//
//	GET  /           the users, as service2 has them
//	POST /users      adds {"first_name","last_name"}
//	GET  /honeypot/  crashes
//
// Its settings are the template's and APP_SERVICE2_URL; docs/demo.md is the walk-through.
package main

import (
	"bytes"
	"cmp"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"example.com/base-app/pkg/base"
	"example.com/base-app/pkg/cli"
	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/web"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

type settings struct {
	base.Settings

	Service2 string `envconfig:"APP_SERVICE2_URL" default:"http://127.0.0.1:8082" desc:"where service2 is"`
}

// policy is for calls to service2. A try is longer than all of service2's own tries at the database, and the call is long
// enough for a second try after service2's Retry-After.
var policy = dependency.Policy{Attempt: 2 * time.Second, Total: 4 * time.Second}

const scope = "example.com/base-app/examples/demo/service1"

// maxUser is how many bytes the JSON of a user may have.
const maxUser = 4 << 10

func main() { os.Exit(cli.Main(&settings{}, run)) }

func run(rt *base.Runtime, s *settings) error {
	service2, err := rt.Client("service2", policy)
	if err != nil {
		return err
	}
	rt.Serve(front{service2, strings.TrimRight(s.Service2, "/"), rt.Log}.register)
	rt.Started()
	return rt.Wait()
}

// front serves service1's routes.
type front struct {
	service2 *web.Client
	url      string
	log      *slog.Logger
}

func (f front) register(mux *http.ServeMux) {
	mux.HandleFunc("GET /{$}", f.list)
	mux.HandleFunc("POST /users", f.add)
	mux.HandleFunc("GET /honeypot/", crash)
}

func (f front) list(w http.ResponseWriter, r *http.Request) {
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, f.url+"/", nil)
	if err != nil {
		web.Fail(w, r, err)
		return
	}
	f.pass(w, r, req)
}

func (f front) add(w http.ResponseWriter, r *http.Request) {
	body, ok := web.ReadJSONObject(w, r, maxUser)
	if !ok {
		return
	}
	req, err := http.NewRequestWithContext(r.Context(), http.MethodPost, f.url+"/users", bytes.NewReader(body))
	if err != nil {
		web.Fail(w, r, err)
		return
	}
	req.Header.Set("Content-Type", "application/json")
	// With the key a retry is safe: service2 adds a user once, however often a request with the same key comes.
	req.Header.Set("Idempotency-Key", cmp.Or(r.Header.Get("Idempotency-Key"), web.RequestID(r.Context())))
	f.pass(w, r, req)
}

// pass sends req to service2, and service2's answer to the client.
func (f front) pass(w http.ResponseWriter, r *http.Request, req *http.Request) {
	status, media, text, err := f.ask(req)
	if err != nil {
		web.Fail(w, r, err)
		return
	}
	f.log.InfoContext(r.Context(), "service2 answered", "status", status, "bytes", len(text))
	w.Header().Set("Content-Type", media)
	w.WriteHeader(status)
	_, _ = w.Write(text)
}

// ask makes the call, as one span. Each try has a span of its own.
func (f front) ask(req *http.Request) (status int, media string, text []byte, err error) {
	ctx, span := trace.SpanFromContext(req.Context()).TracerProvider().Tracer(scope).Start(req.Context(), "service2")
	defer span.End()
	resp, err := f.service2.Do(req.WithContext(ctx))
	if err != nil {
		span.SetStatus(codes.Error, "") // the text is in the log, under the same id
		return 0, "", nil, err
	}
	defer resp.Body.Close()
	text, err = io.ReadAll(resp.Body) // the client bounds it
	return resp.StatusCode, resp.Header.Get("Content-Type"), text, err
}

// crash is a bug. It ends its own request, and no other.
func crash(w http.ResponseWriter, r *http.Request) {
	var users, pages int
	web.WriteJSON(w, r, http.StatusOK, users/pages)
}
