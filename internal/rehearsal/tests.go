package rehearsal

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
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
	// Said says that a script or a module has answered, of whose words the evaluator knows nothing; "" where nobody has.
	Said string
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
	out, watched := make([]Trial, len(tests)), make([]copies, len(tests))
	for i, t := range tests {
		if t.OfCopies {
			requests[i].Headers = append(slices.Clone(requests[i].Headers), compiler.Header{Name: copiedHeader, Value: strconv.Itoa(i)})
		}
		want, err := p.Decide(requests[i])
		if err != nil {
			return nil, fmt.Errorf("test %q: %w", t.Name, err)
		}
		missing := orElse(r.Doors[i].Missing, beyond(want, t.Request))
		out[i] = Trial{Name: t.Name, Untried: missing}
		if missing != "" {
			continue
		}
		out[i].ask(ctx, stage, r.Doors[i], requests[i], want)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("rehearsing test %q: %w", t.Name, ctx.Err())
		}
		if t.OfCopies && out[i].Differs == "" {
			watched[i] = copies{of: strconv.Itoa(i), want: p.Copied(want), itself: out[i].Reply.Seen}
			out[i].Differs = watched[i].missing(ctx, stage)
		}
	}
	for i := range out { // when most that could arrive has had the time
		if watched[i].of != "" && out[i].Differs == "" {
			out[i].Differs = watched[i].beyond(stage)
		}
	}
	return out, nil
}

// ask asks the stage once.
func (x *Trial) ask(ctx context.Context, s *Stage, d compiler.Door, r compiler.Request, want compiler.Answer) {
	reply, err := s.Ask(ctx, d, r)
	if err != nil {
		x.Differs = err.Error()
		return
	}
	x.Reply, x.Differs = &reply, Differs(want, r, reply)
	if who := mayAnswer(want); x.Differs != "" && who != "" && reply.Seen == nil && !reply.Reset && !want.AtDoor() {
		x.Differs, x.Said = "", fmt.Sprintf("%s may answer by itself, and there was an answer of a proxy's: %d (%s)", who, reply.Status, strings.TrimSpace(reply.Text))
	}
}

// mayAnswer names a script or a module on the way that may answer, "" for none.
func mayAnswer(want compiler.Answer) string {
	of := slices.Clone(want.Outcome.Fields)
	for _, b := range want.Beside {
		of = append(of, b.Fields...)
	}
	for _, f := range of {
		if strings.Contains(f.Value, compiler.MayAnswer) {
			return f.Feature + " " + strconv.Quote(f.Name)
		}
	}
	return ""
}

// copiedHeader tells copies of requests of which nobody would know otherwise whose they are.
const copiedHeader = ownHeaders + "copied"

// copies are those of one request.
type copies struct {
	of     string // what copiedHeader says
	want   []compiler.Copy
	itself *Seen // the request, nil if it arrived nowhere
}

// arrived is how many copies have come to each target.
func (c copies) arrived(s *Stage) map[string]int {
	out := map[string]int{}
	for _, x := range s.Seen() {
		if slices.Equal(x.Headers[copiedHeader], []string{c.of}) {
			out[x.Target]++
		}
	}
	if c.itself != nil {
		out[c.itself.Target]--
	}
	return out
}

// missing waits for the copies that must come, and says which has not, "" if all have. Of a share of the requests one
// request tells nothing.
func (c copies) missing(ctx context.Context, s *Stage) string {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		got := c.arrived(s)
		i := slices.IndexFunc(c.want, func(w compiler.Copy) bool { return w.Percent == 100 && got[w.Target] == 0 })
		if i < 0 {
			return ""
		}
		if !waitFor(ctx, time.Millisecond) {
			return "the evaluator says that a copy goes to " + c.want[i].Target + ", but none arrived"
		}
	}
}

// beyond says where a copy has come that the evaluator knows nothing of, "" if nowhere.
func (c copies) beyond(s *Stage) string {
	got := c.arrived(s)
	for _, target := range slices.Sorted(maps.Keys(got)) {
		if got[target] > 0 && !slices.ContainsFunc(c.want, func(w compiler.Copy) bool { return w.Target == target }) {
			return "a copy arrived at " + target + ", of which the evaluator says nothing"
		}
	}
	return ""
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
