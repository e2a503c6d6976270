package pipeline

import (
	"context"
	"errors"

	"example.com/base-app/pkg/chaos"
)

// handlerPoint is where faults can be injected into the handling of an event.
const handlerPoint = "handler"

func (p *Pipeline) declareFaults() error {
	return p.rt.Chaos.Declare(chaos.Point{Name: handlerPoint, Kinds: []chaos.Kind{chaos.Latency, chaos.Error, chaos.Drop, chaos.Panic, chaos.Stall},
		Vital: true, Patience: p.handlers.defaults.timeout})
}

// fault passes the fault point. A drop is an end that nobody learns of: the handler is called, and the event comes again, as
// after a crash in that moment.
func (p *Pipeline) fault(ctx context.Context) (instead, after error) {
	err := p.rt.Chaos.Step(ctx, handlerPoint)
	if errors.Is(err, chaos.ErrDropped) {
		return nil, err
	}
	return err, nil
}
