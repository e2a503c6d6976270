package control

import (
	"encoding/json"
	"net/http"

	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/web"
)

// Answer is a command whose answer is sent as JSON. An error is answered with 400 if it is of fault.KindUsage, else with 500.
func Answer(answer func(*http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v, err := answer(r)
		switch {
		case err == nil:
			web.WriteJSON(w, r, http.StatusOK, v)
		case fault.Of(err) == fault.KindUsage:
			WriteError(w, r, http.StatusBadRequest, err)
		default:
			WriteError(w, r, http.StatusInternalServerError, err)
		}
	})
}

// Arguments decodes the body of a command into v. Its error is the answer to whoever gave the command; like shows what the
// body should be.
func Arguments(r *http.Request, v any, like string) error {
	if err := json.NewDecoder(r.Body).Decode(v); err != nil {
		return fault.Usage("the body is no %s: %w", like, err)
	}
	return nil
}
