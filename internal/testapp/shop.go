package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync/atomic"

	"example.com/base-app/pkg/base"
	"example.com/base-app/pkg/dependency"
	"example.com/base-app/pkg/event"
	"example.com/base-app/pkg/web"
	"example.com/base-app/pkg/zmq"
)

// shop takes orders and their payments.
type shop struct {
	log  *slog.Logger
	zmq  *zmq.Context
	cfg  *config
	bank *web.Client  // nil: payments need no confirmation
	open atomic.Int64 // orders that are not paid
}

func newShop(rt *base.Runtime, cfg *config) (*shop, error) {
	s := &shop{log: rt.Log, zmq: rt.ZMQ, cfg: cfg}
	var err error
	if cfg.Bank != "" {
		s.bank, err = rt.Client("bank", dependency.Policy{})
	}
	return s, err
}

func (s *shop) created(ctx context.Context, e event.Event) error {
	s.open.Add(1)
	s.log.InfoContext(ctx, "order created", "id", e.ID, "sequence", e.Sequence)
	return nil
}

func (s *shop) paid(ctx context.Context, e event.Event) error {
	if s.bank != nil {
		if err := s.confirm(ctx, e.ID); err != nil {
			return err
		}
	}
	s.open.Add(-1)
	s.log.InfoContext(ctx, "order paid", "id", e.ID)
	return nil
}

func (s *shop) confirm(ctx context.Context, id string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.cfg.Bank+"/payments/"+id, nil)
	if err != nil {
		return err
	}
	answer, err := s.bank.Do(req)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the bank says %s", answer.Status)
	}
	return nil
}

// look is called again and again.
func (s *shop) look(ctx context.Context) error {
	s.log.DebugContext(ctx, "looked at the shop", "open", s.open.Load())
	return nil
}

// forget receives from a socket that it opened, and returns without a Close.
func (s *shop) forget(ctx context.Context) error {
	in, err := s.zmq.Bind(ctx, zmq.Pull, "inproc://forgotten")
	if err != nil {
		return err
	}
	_, err = in.Recv(ctx)
	return err
}

func (s *shop) routes(mux *http.ServeMux) {
	mux.HandleFunc("GET /open", func(w http.ResponseWriter, r *http.Request) {
		web.WriteJSON(w, r, http.StatusOK, map[string]int64{"open": s.open.Load()})
	})
}
