package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/nanny"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// user is one row, and how it looks outside.
type user struct {
	FirstName string `json:"first_name"`
	LastName  string `json:"last_name"`
}

func (u user) check() error {
	for _, name := range []string{u.FirstName, u.LastName} {
		if name == "" || len(name) > maxName || strings.ContainsFunc(name, unicode.IsControl) {
			return fmt.Errorf("first_name and last_name have 1 to %d bytes and no control characters", maxName)
		}
	}
	return nil
}

// users is the table.
type users struct {
	pool *sql.DB
	db   *dependency.Dependency
}

// openUsers makes the table's client, which connects with the first call. Its error never has the URL.
func openUsers(url string, db *dependency.Dependency) (*users, error) {
	c, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, fault.Config("write postgres://user:password@host:5432/name", errors.New("APP_DATABASE_URL is not a database's URL"))
	}
	c.Tracer = statements{}
	pool := stdlib.OpenDB(*c)
	// As many as there may be calls at once: otherwise each call above two makes a new connection.
	pool.SetMaxOpenConns(db.Policy().Concurrent)
	pool.SetMaxIdleConns(db.Policy().Concurrent)
	return &users{pool, db}, nil
}

// prepareAgain is the pause between two tries to make the table. The breaker refuses most of them.
const prepareAgain = time.Second

// schema can be run as often as one likes.
var schema = []string{
	`CREATE TABLE IF NOT EXISTS users (id text PRIMARY KEY, first_name text NOT NULL, last_name text NOT NULL,
		added timestamptz NOT NULL DEFAULT now())`,
	`INSERT INTO users (id, first_name, last_name) VALUES ('joe', 'joe', 'cool') ON CONFLICT DO NOTHING`,
}

// prepare makes the table and its first row. It waits for the database until ctx ends.
func (u *users) prepare(ctx context.Context) error {
	for {
		err := u.call(ctx, func(ctx context.Context) error {
			for _, statement := range schema {
				if _, err := u.pool.ExecContext(ctx, statement); err != nil {
					return err
				}
			}
			return nil
		})
		if fault.Of(err) != fault.KindDependency {
			return err
		}
		nanny.Beat(ctx)
		select {
		case <-time.After(prepareAgain):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// newest returns the newest 100 users, newest first.
func (u *users) newest(ctx context.Context) (list []user, err error) {
	err = u.call(ctx, func(ctx context.Context) error {
		rows, err := u.pool.QueryContext(ctx, `SELECT first_name, last_name FROM users ORDER BY added DESC, id LIMIT 100`)
		if err != nil {
			return err
		}
		defer rows.Close()
		list = nil // a try before this one may have read some
		for rows.Next() {
			var one user
			if err := rows.Scan(&one.FirstName, &one.LastName); err != nil {
				return err
			}
			list = append(list, one)
		}
		return rows.Err()
	})
	return list, err
}

// add adds a user, and returns whether the id is new. A user with that id is left as it is.
func (u *users) add(ctx context.Context, id string, one user) (added bool, err error) {
	err = u.call(ctx, func(ctx context.Context) error {
		const insert = `INSERT INTO users (id, first_name, last_name) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`
		result, err := u.pool.ExecContext(ctx, insert, id, one.FirstName, one.LastName)
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		added = n > 0
		return err
	})
	return added, err
}

// call calls fn under the database's policy, as one span with the statements of all tries. All statements here may run
// twice.
func (u *users) call(ctx context.Context, fn func(context.Context) error) error {
	ctx, span := begin(ctx, u.db.Name())
	err := u.db.Do(ctx, func(ctx context.Context) error { return dependency.Safe(blame(fn(ctx))) })
	end(span, err)
	return err
}

// blame marks the errors that mean that the server can't work. Source: PostgreSQL's manual, appendix A, by class.
func blame(err error) error {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || len(e.Code) < 2 {
		return err
	}
	classes := []string{
		"08", // connection
		"53", // no space, too many connections
		"57", // shutting down, starting up, cancelled by an operator
		"58", // files
		"XX", // the server's own fault
	}
	if slices.Contains(classes, e.Code[:2]) {
		return dependency.Failure(err)
	}
	return err
}
