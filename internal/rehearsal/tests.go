package rehearsal

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
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
	// Untried is why a rehearsal cannot show what becomes of the request, "" if it can. Then nobody was asked.
	Untried string
}

// Tests rehearses the `test:` blocks of the intent. Tokens of end users are signed by keys of the rehearsal's own, which its
// Envoys check in the place of the issuers'. The trials are in the order
// of the program's test results. An error means that not every block was tried.
func Tests(ctx context.Context, bin envoybin.Binary, p *compiler.Program, clock func() time.Time) ([]Trial, error) {
	tests := p.Tests()
	requests := make([]compiler.Request, len(tests))
	for i, t := range tests {
		requests[i] = t.Request
	}
	issuers, err := NewIssuers(p.Providers())
	if err != nil {
		return nil, err
	}
	for i := range requests {
		if requests[i], err = issuers.Carries(p, requests[i], clock()); err != nil {
			return nil, fmt.Errorf("test %q: %w", tests[i].Name, err)
		}
	}
	r, err := p.RehearseSigned(requests, issuers.KeySet)
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
		want, err := p.Decide(requests[i])
		if err != nil {
			return nil, fmt.Errorf("test %q: %w", t.Name, err)
		}
		if out[i].Untried = orElse(r.Doors[i].Missing, beyond(want, requests[i])); out[i].Untried != "" {
			continue
		}
		reply, err := stage.Ask(ctx, r.Doors[i], requests[i])
		switch {
		case ctx.Err() != nil:
			return nil, fmt.Errorf("rehearsing test %q: %w", t.Name, ctx.Err())
		case err != nil:
			out[i].Differs = err.Error()
		default:
			out[i].Reply, out[i].Differs = &reply, Differs(want, requests[i], reply)
		}
	}
	return out, nil
}

// beyond is what in a request is beyond the rehearsal's own applications, "" for nothing. They
// are servers of net/http, which answers some requests before it asks anybody.
func beyond(want compiler.Answer, r compiler.Request) string {
	for _, h := range r.Headers {
		switch name := strings.ToLower(h.Name); {
		case strings.HasPrefix(name, ownHeaders):
			return name + " is an order to the applications of a rehearsal"
		case name == "expect" && !strings.EqualFold(h.Value, continues) && want.Forwarded():
			return "the applications of a rehearsal meet no expectation but " + continues
		}
	}
	if why := tooSlow(want, r); why != "" {
		return why
	}
	if away(want) {
		return "a rehearsal has no authorizer and no processor, and one that would be asked has nothing admitted while it is away"
	}
	if _, err := url.ParseRequestURI(want.Arrives.Path); err != nil && want.Forwarded() && want.Arrives.Path != "" { // bytes have no path
		return "the applications of a rehearsal read no path in which a % begins no escape"
	}
	return ""
}

// away reports whether a proxy on the way refuses requests as long as nobody answers who decides about them. Which of a
// service's requests it asks about is not looked at.
func away(want compiler.Answer) bool {
	fields := slices.Clone(want.Outcome.Fields)
	for _, b := range want.Beside {
		fields = append(fields, b.Fields...)
	}
	for _, f := range fields {
		if (f.Feature == "authorize" || f.Feature == "process") && strings.HasSuffix(f.Name, " while it is away") && f.Value == "refused" {
			return true
		}
	}
	return false
}

// tooSlow is why nobody waits for what becomes of a request, "" if it comes soon enough.
func tooSlow(want compiler.Answer, r compiler.Request) string {
	long := r.Pause + r.AnswerAfter
	for _, b := range want.Bounds {
		long = min(long, r.Pause+time.Duration(b.Seconds*float64(time.Second)))
	}
	if long > longest {
		return fmt.Sprintf("the answer comes after %s, and a rehearsal waits for %s", long, longest)
	}
	if r.Pause > 0 && r.HTTP == compiler.HTTP2 {
		return "the callers of a rehearsal pause over HTTP/1 only"
	}
	return ""
}

// longest is for how long a rehearsal lets a request or its answer take.
const longest = patience - 5*time.Second

// continues is the only expectation that RFC 9110 section 10.1.1 has.
const continues = "100-continue"
