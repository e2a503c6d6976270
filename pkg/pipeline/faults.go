package pipeline

import (
	"context"
	"errors"

	"example.com/base-app/pkg/base"
	"example.com/base-app/pkg/fault"
)

// handlerPoint is where faults can be injected into the handling of an event.
const handlerPoint = "handler"

func (p *Pipeline) declareFaults() error {
	return p.rt.FaultPoint(base.FaultPoint{Name: handlerPoint, Vital: true, Patience: p.handlers.defaults.timeout,
		Kinds: []string{base.FaultLatency, base.FaultError, base.FaultDrop, base.FaultPanic, base.FaultStall}})
}

// fault passes the fault point. A drop is an end that is lost: the handler is called, and the event comes again, as after a
// crash in that moment.
func (p *Pipeline) fault(ctx context.Context) (instead, after error) {
	err := p.rt.Step(ctx, handlerPoint)
	if errors.Is(err, fault.ErrDropped) {
		return nil, err
	}
	return err, nil
}
