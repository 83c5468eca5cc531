package rehearsal

import (
	"context"
	"fmt"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/envoybin"
)

// Trial is a `test:` block on real Envoys.
type Trial struct {
	Name string
	// Reply is what became of the request, nil if there was no answer at all.
	Reply *Reply
	// Differs says how that is not what the evaluator says, "" if it is.
	Differs string
}

// Tests rehearses the `test:` blocks of the intent. The trials are in the order
// of the program's test results. An error means that not every block was tried.
func Tests(ctx context.Context, bin envoybin.Binary, p *compiler.Program, clock func() time.Time) ([]Trial, error) {
	tests := p.Tests()
	requests := make([]compiler.Request, len(tests))
	for i, t := range tests {
		requests[i] = t.Request
	}
	r, err := p.Rehearse(requests)
	if err != nil {
		return nil, fmt.Errorf("preparing a rehearsal: %w", err)
	}
	stage, err := Start(ctx, bin, r, clock)
	if err != nil {
		return nil, err
	}
	defer stage.Stop()
	out := make([]Trial, len(tests))
	for i, t := range tests {
		out[i].Name = t.Name
		want, err := p.Decide(t.Request)
		if err != nil {
			return nil, fmt.Errorf("test %q: %w", t.Name, err)
		}
		if r.Doors[i] == (compiler.Door{}) {
			continue // there is nothing to ask
		}
		reply, err := stage.Ask(ctx, r.Doors[i], t.Request)
		switch {
		case ctx.Err() != nil:
			return nil, fmt.Errorf("rehearsing test %q: %w", t.Name, ctx.Err())
		case err != nil:
			out[i].Differs = err.Error()
		default:
			out[i].Reply, out[i].Differs = &reply, Differs(want, t.Request, reply)
		}
	}
	return out, nil
}
