package dependency_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/fault"
)

// A database behind database/sql. A real program names its driver in sql.Open; this one's connections are refused
// once, as when the server restarts.
func Example_sql() {
	pool := sql.OpenDB(&server{failures: 1})
	defer pool.Close()

	dependencies := dependency.New(dependency.Options{})
	db, err := dependencies.Add("orders-db", dependency.Policy{
		Attempt:  2 * time.Second, // no query of ours takes longer
		Required: true,            // without it we are of no use
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	name := func(ctx context.Context, id int) (name string, err error) {
		err = db.Do(ctx, func(ctx context.Context) error {
			// Reading twice does no harm. What writes is Safe only within a transaction whose Commit hasn't been sent,
			// or if the statement says so itself (INSERT … ON CONFLICT DO NOTHING).
			return dependency.Safe(pool.QueryRowContext(ctx, "SELECT name FROM orders WHERE id = ?", id).Scan(&name))
		})
		return name, err
	}
	fmt.Println(name(context.Background(), 1)) // the second try
	_, err = name(context.Background(), 2)
	fmt.Println(errors.Is(err, sql.ErrNoRows), fault.Of(err) == fault.KindDependency) // an answer, and nobody's failure

	h := dependencies.List()[0]
	fmt.Println(h.Name, h.State, h.Calls, "calls", h.Tries, "tries, last error:", h.LastError)
	// Output:
	// tea <nil>
	// true false
	// orders-db up 2 calls 3 tries, last error: connection refused
}

// server is as much of a database as the example needs.
type server struct{ failures int }

func (s *server) Driver() driver.Driver { return nil }

func (s *server) Connect(context.Context) (driver.Conn, error) {
	if s.failures > 0 {
		s.failures--
		return nil, syscall.ECONNREFUSED
	}
	return conn{}, nil
}

type conn struct{}

func (conn) Prepare(string) (driver.Stmt, error) { return nil, driver.ErrSkip }
func (conn) Begin() (driver.Tx, error)           { return nil, driver.ErrSkip }
func (conn) Close() error                        { return nil }

func (conn) QueryContext(_ context.Context, _ string, args []driver.NamedValue) (driver.Rows, error) {
	return &rows{left: args[0].Value == int64(1)}, nil
}

type rows struct{ left bool }

func (*rows) Columns() []string { return []string{"name"} }
func (*rows) Close() error      { return nil }

func (r *rows) Next(to []driver.Value) error {
	if !r.left {
		return io.EOF
	}
	r.left, to[0] = false, "tea"
	return nil
}
