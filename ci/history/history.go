// Package history proves from a record of what proxies received that delivery kept
// its promises.
//
// In: a history, which is the releases that were approved, and everything that each
// proxy took, answered and asked, in one order. Out: findings. A rule is a pure
// function of a history and knows nothing of the server: what a resource needs is
// read from the resource itself, and what a release holds from the release's files.
//
// The tests make histories of real servers under faults, and show of every rule that
// it finds what it is for.
package history

import (
	"fmt"
	"maps"
	"slices"
)

// Type is a resource type in the order of delivery.
type Type int

// The types.
const (
	Clusters Type = iota
	Endpoints
	Listeners
	Routes
	types
)

// String is the type's name in findings.
func (t Type) String() string {
	return [types]string{"cluster", "endpoints", "listener", "route table"}[t]
}

// Resource is one that a proxy was sent.
type Resource struct {
	Name string
	// Digest is the SHA-256 of its canonical JSON, computed from what arrived.
	Digest string
	// Clusters, Assignments and Tables are the clusters, endpoints and route tables that
	// it names.
	Clusters, Assignments, Tables []string
}

// Content is what one class has of a release: digests by name.
type Content [types]map[string]string

// holds tells whether a resource is in the content. Endpoints from live sources are
// there by name, without a digest: addresses are facts, not policy.
func (c Content) holds(t Type, name, digest string) bool {
	want, ok := c[t][name]
	return ok && (want == digest || t == Endpoints && want == "")
}

// Kind is what an event is.
type Kind int

// The kinds.
const (
	// Approve makes release Release approved, before any server has it. Content is its
	// content by class. Releases count from 1; a later one replaces an earlier one.
	// If Later, it follows by itself, at an instant that InForce tells.
	Approve Kind = iota
	// RollBack is a signed record that release Release is to be served again.
	RollBack
	// InForce is the instant of a later step of an approval, release Release.
	InForce
	// Serve is a server that was given approvals.
	Serve
	// Open is a proxy that connects to a server, Cut one whose connection has ended.
	Open
	Cut
	// Take is a response that a proxy received; Confirm and Refuse are its answer to it.
	Take
	Confirm
	Refuse
	// Drop is what a proxy forgets because nothing of its own names it any more.
	Drop
	// Request is a request through a real proxy; Status is the answer's.
	Request
	// Rest is the end: no faults for long enough, every proxy had time to follow.
	Rest
)

// Event is one line of a history.
type Event struct {
	Kind  Kind
	Proxy string
	Class string
	// Release and Contents are those of Approve and RollBack.
	Release  int
	Contents map[string]Content
	// Later is of Approve and RollBack.
	Later bool
	// Server is that of Serve and Open, if servers are told apart; Approvals counts those
	// of Serve among all of Approve and RollBack, from 0.
	Server    string
	Approvals []int
	// Type, Nonce, Resources and Removed are those of Take; Type and Nonce also of its
	// answer; Type and Removed of Drop.
	Type      Type
	Nonce     string
	Resources []Resource
	Removed   []string
	Status    int
	// Connected are the proxies that have to be up to date at Rest.
	Connected []string
}

// Finding is a broken promise.
type Finding struct {
	// At is the index of the event that broke it.
	At   int
	Rule string
	Text string
}

// String is one line.
func (f Finding) String() string { return fmt.Sprintf("event %d: %s: %s", f.At, f.Rule, f.Text) }

// proxy is what a proxy holds and has confirmed, as follows from a history.
type proxy struct {
	class string
	// server is the one that it is connected to.
	server string
	held   [types]map[string]Resource
	// pending are responses without an answer, by nonce.
	pending map[string]Event
	// confirmed is the newest approval whose content the proxy has held as a whole; -1
	// before the first.
	confirmed int
}

// Checker follows a history event by event, so that a long one need not be kept.
type Checker struct {
	n int
	// approvals are in their order. A rollback is another one: what it goes back to is
	// newer than what it goes back from.
	approvals []approval
	// served are those that each server was given.
	served   map[string]map[int]bool
	proxies  map[string]*proxy
	findings []Finding
}

type approval struct {
	release  int
	contents map[string]Content
	later    bool // not in force yet
}

// NewChecker begins a history.
func NewChecker() *Checker {
	return &Checker{proxies: map[string]*proxy{}, served: map[string]map[int]bool{}}
}

// Check applies all rules to a history.
func Check(h []Event) []Finding {
	c := NewChecker()
	for _, e := range h {
		c.Add(e)
	}
	return c.Findings()
}

// Findings are the broken promises so far.
func (c *Checker) Findings() []Finding { return c.findings }

// Events is how many events there were.
func (c *Checker) Events() int { return c.n }

func (c *Checker) find(rule, format string, args ...any) {
	const enough = 100
	if len(c.findings) < enough {
		c.findings = append(c.findings, Finding{c.n, rule, fmt.Sprintf(format, args...)})
	}
}

// Add takes the next event.
func (c *Checker) Add(e Event) {
	switch e.Kind {
	case Approve:
		c.approvals = append(c.approvals, approval{e.Release, e.Contents, e.Later})
	case RollBack:
		i := slices.IndexFunc(c.approvals, func(a approval) bool { return a.release == e.Release })
		c.approvals = append(c.approvals, approval{e.Release, c.approvals[i].contents, e.Later})
	case InForce:
		for i := range c.approvals {
			c.approvals[i].later = c.approvals[i].later && c.approvals[i].release != e.Release
		}
	case Serve:
		if c.served[e.Server] == nil {
			c.served[e.Server] = map[int]bool{}
		}
		for _, i := range e.Approvals {
			c.served[e.Server][i] = true
		}
	case Open:
		c.open(e)
	case Cut:
		if p := c.proxies[e.Proxy]; p != nil {
			clear(p.pending)
		}
	case Take:
		if p := c.proxies[e.Proxy]; p != nil {
			c.take(p, e)
			p.pending[e.Nonce] = e
		}
	case Confirm, Refuse:
		c.answer(e)
	case Drop:
		if p := c.proxies[e.Proxy]; p != nil {
			for _, name := range e.Removed {
				delete(p.held[e.Type], name)
			}
		}
	case Request:
		if e.Status != 200 {
			c.find("every request is answered", "%s answers %d", e.Proxy, e.Status)
		}
	case Rest:
		c.rest(e)
	}
	c.n++
}

func (c *Checker) open(e Event) {
	if c.proxies[e.Proxy] == nil {
		p := &proxy{class: e.Class, confirmed: -1, pending: map[string]Event{}}
		for t := range p.held {
			p.held[t] = map[string]Resource{}
		}
		c.proxies[e.Proxy] = p
	}
	c.proxies[e.Proxy].server = e.Server
}

// take judges a response before it is answered.
func (c *Checker) take(p *proxy, e Event) {
	for _, r := range e.Resources {
		c.approved(p, e, r)
		c.needed(p, e, r)
	}
	for _, name := range e.Removed {
		c.unused(p, e, name)
		c.mayGo(p, e, name)
	}
}

// approved: nothing that was not approved, nor anything older than what the proxy
// has confirmed as a whole, but by a rollback.
func (c *Checker) approved(p *proxy, e Event, r Resource) {
	ever := false
	for i, a := range slices.Backward(c.approvals) {
		if a.later || !a.contents[p.class].holds(e.Type, r.Name, r.Digest) {
			continue
		}
		ever = true
		if i >= p.confirmed {
			return
		}
	}
	if !ever {
		c.find("only what is approved", "%s got %s %q that no approved release has", e.Proxy, e.Type, r.Name)
		return
	}
	c.find("nothing older", "%s has confirmed release %d and got %s %q of an earlier one", e.Proxy, c.approvals[p.confirmed].release, e.Type, r.Name)
}

// needed: whatever a response's resources name must be confirmed before: clusters
// before routes, their endpoints before traffic comes.
func (c *Checker) needed(p *proxy, e Event, r Resource) {
	for _, name := range r.Clusters {
		cluster, ok := p.held[Clusters][name]
		if !ok {
			c.find("what is needed comes first", "%s got %s %q, which names cluster %q that it has not confirmed", e.Proxy, e.Type, r.Name, name)
			continue
		}
		for _, a := range cluster.Assignments {
			if _, ok := p.held[Endpoints][a]; !ok {
				c.find("what is needed comes first", "%s got %s %q, which names cluster %q without endpoints", e.Proxy, e.Type, r.Name, name)
			}
		}
	}
}

// unused: nothing that the proxy holds is removed while something confirmed names it.
func (c *Checker) unused(p *proxy, e Event, name string) {
	if _, holds := p.held[e.Type][name]; !holds {
		return
	}
	for t := range types {
		for _, r := range p.held[t] {
			uses := [types][]string{Clusters: r.Clusters, Endpoints: r.Assignments, Routes: r.Tables}[e.Type]
			if slices.Contains(uses, name) {
				c.find("nothing in use is removed", "%s lost %s %q, which its %s %q names", e.Proxy, e.Type, name, t, r.Name)
			}
		}
	}
}

// mayGo: a name is removed only if some release lacks it that is no older than what
// the proxy has confirmed.
func (c *Checker) mayGo(p *proxy, e Event, name string) {
	if p.confirmed < 0 {
		return
	}
	for _, a := range c.approvals[p.confirmed:] {
		if _, has := a.contents[p.class][e.Type][name]; !has && !a.later {
			return
		}
	}
	c.find("nothing older", "%s has confirmed release %d and lost %s %q, which every release since has", e.Proxy, c.approvals[p.confirmed].release, e.Type, name)
}

// answer applies what a proxy has confirmed.
func (c *Checker) answer(e Event) {
	p := c.proxies[e.Proxy]
	if p == nil {
		return
	}
	taken, ok := p.pending[e.Nonce]
	delete(p.pending, e.Nonce)
	if !ok || e.Kind == Refuse {
		return
	}
	for _, r := range taken.Resources {
		p.held[taken.Type][r.Name] = r
	}
	for _, name := range taken.Removed {
		delete(p.held[taken.Type], name)
	}
	if taken.Type == Endpoints {
		return // which say nothing of a release
	}
	// What two releases share counts for the later one only if nothing before it has it, and
	// only if the proxy's server knows it, so that a proxy is never taken for newer than it is.
	for i := p.confirmed + 1; i < len(c.approvals); i++ {
		known := p.server == "" || c.served[p.server][i]
		if known && !c.approvals[i].later && p.has(c.approvals[i].contents[p.class]) {
			p.confirmed = i
			break
		}
	}
}

// has tells whether a proxy holds a content as a whole. Of route tables it may lack
// those that it did not ask for; endpoints come and go.
func (p *proxy) has(c Content) bool {
	for _, t := range []Type{Clusters, Listeners} {
		if len(p.held[t]) != len(c[t]) {
			return false
		}
	}
	if len(c[Clusters])+len(c[Listeners]) == 0 {
		return false
	}
	for _, t := range []Type{Clusters, Listeners, Routes} {
		for name, r := range p.held[t] {
			if c[t][name] != r.Digest {
				return false
			}
		}
	}
	for _, l := range p.held[Listeners] {
		for _, table := range l.Tables {
			if _, ok := p.held[Routes][table]; !ok {
				return false
			}
		}
	}
	return true
}

// rest: in the end every proxy runs what is approved.
func (c *Checker) rest(e Event) {
	last := c.approvals[len(c.approvals)-1]
	for _, name := range e.Connected {
		p := c.proxies[name]
		if p == nil || !p.has(last.contents[p.class]) {
			c.find("everybody arrives", "%s does not run release %d: %s", name, last.release, p.differs(last.contents))
		}
	}
}

// differs names a few resources that a proxy has otherwise.
func (p *proxy) differs(contents map[string]Content) string {
	if p == nil {
		return "it never connected"
	}
	var out []string
	content := contents[p.class]
	for _, t := range []Type{Clusters, Listeners, Routes} {
		for _, name := range slices.Sorted(maps.Keys(content[t])) {
			if r, ok := p.held[t][name]; t != Routes && !ok || ok && r.Digest != content[t][name] {
				out = append(out, fmt.Sprintf("%s %q", t, name))
			}
		}
		for _, name := range slices.Sorted(maps.Keys(p.held[t])) {
			if _, ok := content[t][name]; !ok {
				out = append(out, fmt.Sprintf("%s %q too many", t, name))
			}
		}
	}
	const few = 3
	return fmt.Sprint(out[:min(few, len(out))], " of ", len(out))
}

// Runs tells whether a proxy holds the release of these contents as a whole.
func (c *Checker) Runs(name string, contents map[string]Content) bool {
	p := c.proxies[name]
	return p != nil && p.has(contents[p.class])
}
