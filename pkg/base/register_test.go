package base

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"example.com/base-app/pkg/control"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/lifecycle"
	"example.com/base-app/pkg/stack"
	"example.com/base-app/pkg/telemetry"
)

// A mistake in what is registered ends the process at the start, and says what is wrong with what.
func TestAWrongRegistrationEndsTheProcess(t *testing.T) {
	well := func() (any, error) { return nil, nil }
	answer := func(*http.Request) (any, error) { return nil, nil }
	items := func([]stack.Goroutine) []lifecycle.Item { return nil }
	read := func(context.Context, telemetry.Put) {}
	orders := telemetry.Metric{Name: "orders_open", Kind: telemetry.Gauge, Meaning: "orders that wait"}
	with := func(change func(*telemetry.Metric)) telemetry.Metric { m := orders; change(&m); return m }
	none := func(http.Handler) http.Handler { return nil }
	same := func(h http.Handler) http.Handler { return h }
	routes := func(*http.ServeMux) {}
	for want, do := range map[string]func(rt *Runtime){
		"check: shelf: registered twice":                      func(rt *Runtime) { rt.Check("shelf", well); rt.Check("shelf", well) },
		"check: shelf: registered without a function":         func(rt *Runtime) { rt.Check("shelf", nil) },
		"check: registered without a name":                    func(rt *Runtime) { rt.Check("", well) },
		"command: GET /status: registered twice":              func(rt *Runtime) { rt.Command("GET /status", answer) },
		"command: GET /stock: registered without a function":  func(rt *Runtime) { rt.Command("GET /stock", nil) },
		"command: /stock: not like GET /name":                 func(rt *Runtime) { rt.Command("/stock", answer) },
		"command: GET /{b}: pattern":                          func(rt *Runtime) { rt.Command("GET /{a}", answer); rt.Command("GET /{b}", answer) },
		"section of the dump: workers: registered twice":      func(rt *Runtime) { rt.Dump("workers", items) },
		"section of the dump: x: registered without":          func(rt *Runtime) { rt.Dump("x", nil) },
		"measure: registered without a function":              func(rt *Runtime) { rt.Measure(nil) },
		"metric: orders_open: registered twice":               func(rt *Runtime) { rt.Measure(read, orders, orders) },
		"metric: registered without a name":                   func(rt *Runtime) { rt.Measure(read, with(func(m *telemetry.Metric) { m.Name = "" })) },
		`metric "orders.open": the name`:                      func(rt *Runtime) { rt.Measure(read, with(func(m *telemetry.Metric) { m.Name = "orders.open" })) },
		`metric "orders_open": it is neither`:                 func(rt *Runtime) { rt.Measure(read, with(func(m *telemetry.Metric) { m.Kind = telemetry.Histogram })) },
		`metric "orders_open": it has no meaning`:             func(rt *Runtime) { rt.Measure(read, with(func(m *telemetry.Metric) { m.Meaning = "" })) },
		`metric "orders_open": the label`:                     func(rt *Runtime) { rt.Measure(read, with(func(m *telemetry.Metric) { m.Labels = []string{"A b"} })) },
		`metric "queue_depth": the template has one`:          func(rt *Runtime) { rt.Measure(read, with(func(m *telemetry.Metric) { m.Name = "queue_depth" })) },
		"web server: web: registered twice":                   func(rt *Runtime) { rt.Serve(routes); rt.Serve(routes) },
		"web server: web: registered without a function":      func(rt *Runtime) { rt.Serve(nil) },
		"worker: mule: started without a function":            func(rt *Runtime) { rt.Go("mule", nil) },
		"middleware: registered without a function":           func(rt *Runtime) { rt.Use(nil) },
		"middleware: number 2 returned no handler":            func(rt *Runtime) { rt.Use(same); rt.Use(none); rt.Serve(routes) },
		"middleware: registered after Serve":                  func(rt *Runtime) { rt.Serve(routes); rt.Use(same) },
		"shutdown hook: registered without a name":            func(rt *Runtime) { rt.OnStop("", time.Second, func(context.Context) error { return nil }) },
		"shutdown hook: shelf: registered without a function": func(rt *Runtime) { rt.OnStop("shelf", time.Second, nil) },
		"shutdown hook: shelf: registered without a budget":   func(rt *Runtime) { rt.OnStop("shelf", 0, func(context.Context) error { return nil }) },
	} {
		var cause error
		code, out, _ := call(t, func(rt *Runtime) error {
			do(rt)
			cause = context.Cause(rt.Context())
			return rt.Wait()
		}, nil)
		if code != 78 || fault.Of(cause) != fault.KindConfig || !strings.Contains(cause.Error(), want) {
			t.Errorf("want 78 and %s, have %d, %v\n%s", want, code, cause, out)
		}
	}
}

type shopKey struct{}

// What a fork registers has the rights of what the template does: it is in the health, on the control socket, in the
// dump, in the metrics, and around the routes.
func TestAPartOfAForkHasTheRightsOfOurs(t *testing.T) {
	logs := &lockedText{}
	var metrics, dump string
	var list CommandList
	run := func(rt *Runtime) error {
		rt.Check("shelf", func() (any, error) { return "half full", nil })
		rt.Dump("shelf", func([]stack.Goroutine) []lifecycle.Item {
			return []lifecycle.Item{{Title: "shelf of books", Attrs: []slog.Attr{slog.Int("books", 7)}}}
		})
		rt.Measure(func(_ context.Context, put telemetry.Put) { put("orders_open", 3, "eu") },
			telemetry.Metric{Name: "orders_open", Kind: telemetry.Gauge, Labels: []string{"region"}, Meaning: "orders that wait"})
		rt.Measure(func(_ context.Context, put telemetry.Put) { put("orders_taken", 5) },
			telemetry.Metric{Name: "orders_taken", Kind: telemetry.Counter, Meaning: "orders"})
		rt.Command("GET /stock", func(*http.Request) (any, error) { return map[string]int{"books": 7}, nil })
		rt.Command("POST /stock/refill", func(r *http.Request) (any, error) {
			var in struct{ Books int }
			if err := control.Arguments(r, &in, `{"books":7}`); err != nil {
				return nil, err
			}
			return nil, errors.New("no truck")
		})
		var order []string
		around := func(name string) func(http.Handler) http.Handler {
			return func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					order = append(order, name)
					next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), shopKey{}, name)))
				})
			}
		}
		rt.Use(around("outer"))
		rt.Use(around("inner"))
		rt.Serve(func(mux *http.ServeMux) {
			mux.HandleFunc("GET /books/{id}", func(w http.ResponseWriter, r *http.Request) {
				if r.PathValue("id") != "7" || r.Context().Value(shopKey{}) != "inner" {
					w.WriteHeader(http.StatusTeapot)
				}
			})
		})
		rt.Started()
		if have := statusOf(t, rt.addr, "/books/7"); have != 200 || strings.Join(order, " ") != "outer inner" {
			t.Errorf("want 200 through the middleware, have %d through %v", have, order)
		}
		if have := statusOf(t, rt.addr, "/nowhere"); have != 404 {
			t.Errorf("want 404, have %d", have)
		}
		socket := control.NewClient(rt.Settings.Control.Socket)
		var stock map[string]int
		if err := socket.Get(rt.Context(), "/stock", &stock); err != nil || stock["books"] != 7 {
			t.Errorf("have %v, %v", stock, err)
		}
		if err := socket.Post(rt.Context(), "/stock/refill", "seven", nil); fault.Of(err) != fault.KindUsage {
			t.Errorf("want the arguments refused, have %v", err)
		}
		if err := socket.Post(rt.Context(), "/stock/refill", map[string]int{"books": 1}, nil); err == nil || !strings.Contains(err.Error(), "no truck") {
			t.Errorf("want the error of the command, have %v", err)
		}
		if err := socket.Get(rt.Context(), "/commands", &list); err != nil {
			t.Error(err)
		}
		metrics = fetch(t, metricsURL.FindStringSubmatch(logs.String())[1])
		if _, err := rt.life.Dump("to see it"); err != nil {
			t.Error(err)
		}
		dump = logs.String()
		rt.Done("tested")
		return rt.Wait()
	}
	if code := callTo(t, logs, run, []string{"METRICS_ADDR=127.0.0.1:0", "DATA_DIR=" + t.TempDir()}); code != 0 {
		t.Fatalf("have %d\n%s", code, logs)
	}
	if have := strings.Join(list.Commands, ", "); have != "GET /stock, POST /stock/refill" {
		t.Errorf("want the fork's commands alone, have %s", have)
	}
	for _, want := range []string{`orders_open{region="eu"} 3`, "# HELP orders_open orders that wait", "orders_taken_total 5",
		`request_count_total{endpoint="/books/{id}",method="GET",service="base-app",status="200"} 1`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("want %s, have\n%s", want, metrics)
		}
	}
	if !strings.Contains(dump, `"msg":"shelf of books"`) || !strings.Contains(dump, `"books":7`) {
		t.Errorf("want the section in the dump")
	}
}
