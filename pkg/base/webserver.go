package base

import (
	"context"
	"net/http"

	"example.com/base-app/pkg/logging"
	"example.com/base-app/pkg/web"
)

// webWorker is the worker that serves WEB_ADDR.
const webWorker = "web"

// Serve binds WEB_ADDR and serves the app's routes there, with /healthz, /readyz and /version beside them, as the
// worker "web". It is called once. An address that can't be bound ends the process.
func (rt *Runtime) Serve(routes func(*http.ServeMux)) {
	if !rt.claim("web server", webWorker, routes != nil) {
		return
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", rt.serveHealth)
	mux.HandleFunc("GET /readyz", rt.serveReady)
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, r *http.Request) { web.WriteJSON(w, r, http.StatusOK, rt.about()) })
	routes(mux)
	rt.mu.Lock()
	rt.served = true
	around := rt.middleware
	rt.mu.Unlock()
	handler, err := web.Wrap(mux, around...)
	if err != nil {
		rt.refuse("middleware", "", "%w", err)
		return
	}
	server, err := web.Listen(rt.Context(), rt.webOptions(handler))
	if err != nil {
		rt.life.Stop(err)
		return
	}
	rt.mu.Lock()
	rt.addr, rt.certificate = server.Addr(), server.Certificate
	rt.mu.Unlock()
	context.AfterFunc(rt.life.Leaving(), server.HangUp)
	rt.Log.Info("listening", "url", rt.Settings.Scheme()+"://"+server.Addr().String())
	if err := rt.goServer(webWorker, server.Serve); err != nil {
		rt.life.Stop(err)
	}
}

// webOptions is the web server as the settings want it.
func (rt *Runtime) webOptions(h http.Handler) web.Options {
	s := rt.Settings.Web
	return web.Options{Addr: s.Addr, Handler: h, Log: rt.Log, WithAttrs: logging.With, Trace: rt.Telemetry.Server(),
		Report: rt.failed("web"), Feedback: rt.feedback,
		Rate: float64(s.Rate), Burst: s.Burst, TrustedProxies: s.Proxies, TLSCertFile: s.TLSCert, TLSKeyFile: s.TLSKey}
}

// feedback logs what people wrote about a failure, and passes it on.
func (rt *Runtime) feedback(ctx context.Context, f web.Feedback) {
	rt.Log.WarnContext(ctx, "feedback", "report_id", f.ReportID, "failed_request_id", f.RequestID, "name", f.Name, "email", f.Email,
		"comment", f.Comment)
	if rt.hooks.feedback != nil {
		rt.hooks.feedback(f)
	}
}
