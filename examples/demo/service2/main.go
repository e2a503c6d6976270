// Command service2 keeps the demo's users in PostgreSQL.
//
//	GET  /       the newest users, 100 at most: {"users":[{"first_name","last_name"},…]}
//	POST /users  adds {"first_name","last_name"}, once for each Idempotency-Key
//
// While the database is away it is not ready and answers 503; it stays up, and is back with the database. Its settings
// are the template's and APP_DATABASE_URL; docs/demo.md is the walk-through.
package main

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"time"

	"example.com/base-app/pkg/base"
	"example.com/base-app/pkg/cli"
	"example.com/base-app/pkg/config"
	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/nanny"
	"example.com/base-app/pkg/web"
	"github.com/go-json-experiment/json"
)

type settings struct {
	base.Settings

	Database config.Secret `envconfig:"APP_DATABASE_URL" required:"true" desc:"the PostgreSQL database, postgres://user:password@host:5432/name"`
}

// policy is for calls to the database: it answers in milliseconds, a second try helps after a lost connection, and the
// service is of no use without it.
var policy = dependency.Policy{Attempt: time.Second, Total: 1500 * time.Millisecond, Tries: 2, Required: true}

const (
	// maxUser is how many bytes the JSON of a user may have, maxName how many a name.
	maxUser, maxName = 4 << 10, 100
	// closeBudget is the time for closing connections, which nobody uses any more.
	closeBudget = time.Second
)

func main() { os.Exit(cli.Main(&settings{}, run)) }

func run(rt *base.Runtime, s *settings) error {
	db, err := rt.Depend("users-db", policy)
	if err != nil {
		return err
	}
	users, err := openUsers(s.Database.Reveal(), db)
	if err != nil {
		return err
	}
	rt.OnStop("users-db", closeBudget, func(context.Context) error { return users.pool.Close() })
	rt.Serve(routes{users, rt.Log}.register)
	rt.Go("schema", func(ctx context.Context) error {
		err := users.prepare(ctx)
		if err == nil {
			rt.Started()
		}
		return err
	}, nanny.OneShot())
	return rt.Wait()
}

// routes returns the routes of service2.
type routes struct {
	users *users
	log   *slog.Logger
}

func (h routes) register(mux *http.ServeMux) {
	mux.HandleFunc("GET /{$}", h.list)
	mux.HandleFunc("POST /users", h.add)
}

func (h routes) list(w http.ResponseWriter, r *http.Request) {
	list, err := h.users.newest(r.Context())
	if err != nil {
		web.Fail(w, r, err)
		return
	}
	h.log.InfoContext(r.Context(), "users read", "count", len(list))
	web.WriteJSON(w, r, http.StatusOK, map[string][]user{"users": list})
}

func (h routes) add(w http.ResponseWriter, r *http.Request) {
	body, ok := web.ReadJSONObject(w, r, maxUser)
	if !ok {
		return
	}
	var u user
	err := json.Unmarshal(body, &u, json.RejectUnknownMembers(true))
	if err == nil {
		err = u.check()
	}
	id := cmp.Or(r.Header.Get("Idempotency-Key"), event.NewID())
	if err = errors.Join(err, event.CheckID(id)); err != nil {
		web.WriteProblem(w, r, http.StatusBadRequest, err.Error())
		return
	}
	added, err := h.users.add(r.Context(), id, u)
	if err != nil {
		web.Fail(w, r, err)
		return
	}
	h.log.InfoContext(r.Context(), "user added", "id", id, "new", added)
	web.WriteJSON(w, r, http.StatusCreated, u)
}
