package cli

import (
	"context"
	"encoding/json"
	"io"
	"text/tabwriter"

	"example.com/base-app/pkg/control"
)

// client returns the client of the running app's control socket.
func (p *program) client() (*control.Client, error) {
	s, err := p.load()
	if err != nil {
		return nil, err
	}
	return control.NewClient(s.Control.Socket), nil
}

// get asks the running app, and shows what it answers. Every call has a deadline of its own, and Ctrl-C ends the process.
func get[T any](p *program, c *ctl, path string, print func(io.Writer, T)) error {
	client, err := p.client()
	if err != nil {
		return err
	}
	var v T
	if err := client.Get(context.Background(), path, &v); err != nil {
		return err
	}
	return show(p.out, c.JSON, v, print)
}

// post gives the running app a command, and shows what it answers.
func post[T any](p *program, c *ctl, path string, in any, print func(io.Writer, T)) error {
	client, err := p.client()
	if err != nil {
		return err
	}
	var v T
	if err := client.Post(context.Background(), path, in, &v); err != nil {
		return err
	}
	return show(p.out, c.JSON, v, print)
}

func show[T any](out io.Writer, raw bool, v T, print func(io.Writer, T)) error {
	if !raw {
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		print(w, v)
		return w.Flush()
	}
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
