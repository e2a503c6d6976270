package web

import (
	"fmt"
	"net/http"
)

// Wrap returns mux with middleware around it, the first one outermost. Logs, metrics and limits know the route of each
// request as they do without it, though middleware may pass on another request. The error names one that returned nil.
func Wrap(mux *http.ServeMux, middleware ...func(http.Handler) http.Handler) (http.Handler, error) {
	if len(middleware) == 0 {
		return mux, nil
	}
	around := http.Handler(mux)
	for i := len(middleware) - 1; i >= 0; i-- {
		if around = middleware[i](around); around == nil {
			return nil, fmt.Errorf("number %d returned no handler", i+1)
		}
	}
	return routed{mux, around}, nil
}

// routed is a mux with middleware around it. The route is in the request before the middleware gets it.
type routed struct {
	*http.ServeMux
	around http.Handler
}

func (h routed) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, r.Pattern = h.Handler(r)
	h.around.ServeHTTP(w, r)
}
