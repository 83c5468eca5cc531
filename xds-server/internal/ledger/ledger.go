package ledger

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Limits of what is remembered.
const (
	keepGone     = 10 * time.Minute
	maxGone      = 10_000
	maxGoneEach  = 1_000 // of one identity
	maxFailures  = 100
	maxPending   = 20
	maxContents  = 64
	minCommitLen = 7
)

// Ledger is safe for concurrent use. Make one with New.
type Ledger struct {
	now func() time.Time

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced at each change
	current  approved
	earlier  []string // commits that were current before, newest last
	classes  map[string]*class
	entries  map[*Entry]struct{}
	gone     map[proxyKey]ProxyStatus
	goneEach map[string]int // by identity
	swept    time.Time      // when gone was searched last
	failures []Failure
	look     Look
}

// Look is where the ledger asks for what it does not hear of. Poke says that an answer
// has changed.
type Look struct {
	// Source is how it is with the source of approved releases.
	Source func() *Source
	// Lacking are parts of splits without endpoints.
	Lacking func() []Lacking
}

// seen are the answers at one moment.
type seen struct {
	source  *Source // nil if nobody knows
	lacking []Lacking
}

type approved struct{ commit, release, environment string }

type proxyKey struct{ identity, node, protocol string }

type class struct {
	status ClassStatus
	// contents says which commit a content belongs to, the newest one.
	contents map[string]approved
	order    []string
}

// New makes an empty ledger.
func New(now func() time.Time) *Ledger {
	return &Ledger{
		now:     now,
		changed: make(chan struct{}),
		classes: map[string]*class{},
		entries: map[*Entry]struct{}{},
		gone:    map[proxyKey]ProxyStatus{},

		goneEach: map[string]int{},
	}
}

// LookAt sets where the ledger asks, once, before use. A nil function knows nothing.
func (l *Ledger) LookAt(look Look) { l.look = look }

// see asks. The functions have locks of their own: the caller must not hold mu.
func (l *Ledger) see() seen {
	var s seen
	if f := l.look.Source; f != nil {
		s.source = f()
	}
	if f := l.look.Lacking; f != nil {
		s.lacking = f()
	}
	return s
}

// Poke wakes whoever waits.
func (l *Ledger) Poke() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.notify()
}

// notify wakes whoever waits. The caller holds mu.
func (l *Ledger) notify() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// Approve notes that a release is approved now.
func (l *Ledger) Approve(commit, release, environment string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current.commit != "" && l.current.commit != commit {
		l.earlier = append(l.earlier, l.current.commit)
		if len(l.earlier) > maxContents {
			l.earlier = l.earlier[1:]
		}
	}
	l.current = approved{commit, release, environment}
	l.notify()
}

// Target is what a class is to have and what it is served.
type Target struct {
	Class, Identity string
	// Commit, Release and Content are approved, the Serving ones are served.
	Commit, Release, Content                      string
	ServingCommit, ServingRelease, ServingContent string
	// Failure says why they differ.
	Failure *Failure
}

// SetTarget notes the target of a class.
func (l *Ledger) SetTarget(t Target) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c, ok := l.classes[t.Class]
	if !ok {
		c = &class{contents: map[string]approved{}}
		l.classes[t.Class] = c
	}
	c.status = ClassStatus{
		Class: t.Class, Identity: t.Identity, Commit: t.Commit, Release: t.Release,
		Held: t.Content != t.ServingContent, ServingCommit: t.ServingCommit, ServingRelease: t.ServingRelease,
		Failure: t.Failure, content: t.Content, serving: t.ServingContent,
	}
	c.belongs(t.ServingContent, approved{commit: t.ServingCommit, release: t.ServingRelease})
	c.belongs(t.Content, approved{commit: t.Commit, release: t.Release})
	l.notify()
}

func (c *class) belongs(content string, a approved) {
	if content == "" {
		return
	}
	if _, ok := c.contents[content]; !ok {
		if c.order = append(c.order, content); len(c.order) > maxContents {
			delete(c.contents, c.order[0])
			c.order = c.order[1:]
		}
	}
	c.contents[content] = a
}

// DropClass forgets a class that the release no longer has.
func (l *Ledger) DropClass(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.classes, name)
	l.notify()
}

// Entry is one connected stream's part of the ledger.
type Entry struct {
	l *Ledger
	s ProxyStatus
}

// Connect opens the entry of a stream.
func (l *Ledger) Connect(identity, node, class, protocol string) *Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := &Entry{l: l, s: ProxyStatus{
		Identity: identity, Node: node, Class: class, Protocol: protocol,
		Connected: true, Since: l.now(), Types: map[string]Receipt{},
	}}
	l.forgetOne(proxyKey{identity, node, protocol})
	l.entries[e] = struct{}{}
	l.notify()
	return e
}

// Close notes that the stream has ended.
func (e *Entry) Close() {
	l := e.l
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.entries, e)
	e.s.Connected, e.s.Since = false, l.now()
	l.remember(e.s)
	l.notify()
}

// sweepEvery is how often proxies that are gone are searched for old ones: a
// client that comes and goes in a loop must not make everybody wait for that.
const sweepEvery = 10 * time.Second

// remember keeps a proxy that is gone, if there is room: for its identity, so that
// one that comes under ever new names leaves room for the others, and at all.
func (l *Ledger) remember(s ProxyStatus) {
	full := func() bool { return len(l.gone) >= maxGone || l.goneEach[s.Identity] >= maxGoneEach }
	if full() && l.now().Sub(l.swept) >= sweepEvery {
		l.forget()
	}
	k := proxyKey{s.Identity, s.Node, s.Protocol}
	l.forgetOne(k)
	if full() {
		return
	}
	l.gone[k] = s
	l.goneEach[k.identity]++
}

func (l *Ledger) forgetOne(k proxyKey) {
	if _, ok := l.gone[k]; !ok {
		return
	}
	delete(l.gone, k)
	if l.goneEach[k.identity]--; l.goneEach[k.identity] == 0 {
		delete(l.goneEach, k.identity)
	}
}

func (l *Ledger) forget() {
	l.swept = l.now()
	for k, s := range l.gone {
		if l.swept.Sub(s.Since) > keepGone {
			l.forgetOne(k)
		}
	}
}

// Record notes the state of the last response of a type. An answer to another
// response than the last keeps the last one's receipt.
func (e *Entry) Record(typ string, r Receipt) {
	l := e.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if old, ok := e.s.Types[typ]; ok && old.SentAt.After(r.SentAt) {
		return
	}
	e.s.Types[typ] = r
	if r.State != Sent { // a response under way is no progress that anybody waits for
		l.notify()
	}
}

// Service is what a proxy is to have.
type Service struct {
	// Content is the digest of the class's part of the release that it gets, Approved
	// of the one that was approved when that was decided.
	Content, Approved string
	// Failure is why that is not what is approved, nil if it is; RetryAt is when a
	// failure of the proxy's own no longer counts.
	Failure *Failure
	RetryAt time.Time
	// Ahead is the position that the proxy claims if it is newer than the server's.
	Ahead string
}

// Serve notes what the proxy is to have.
func (e *Entry) Serve(s Service) {
	l := e.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.s.serving == s.Content && e.s.approved == s.Approved && e.s.Failure == s.Failure && e.s.RetryAt.Equal(s.RetryAt) && e.s.Ahead == s.Ahead {
		return
	}
	e.s.serving, e.s.approved, e.s.Failure, e.s.RetryAt, e.s.Ahead = s.Content, s.Approved, s.Failure, s.RetryAt, s.Ahead
	e.s.Held = s.Failure != nil
	l.notify()
}

// Running notes that the proxy has confirmed the whole content of its class.
func (e *Entry) Running(content string) {
	l := e.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.s.content == content {
		return
	}
	e.s.content = content
	l.notify()
}

// Fail adds a failure to the list of recent ones.
func (l *Ledger) Fail(f Failure) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.failures) == maxFailures {
		l.makeRoom()
	}
	l.failures = append(l.failures, f)
	l.notify()
}

// HeldProxies counts the connected proxies that are kept at an earlier release, by
// class. A class without any is not there.
func (l *Ledger) HeldProxies() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]int{}
	for e := range l.entries {
		if e.s.Held {
			out[e.s.Class]++
		}
	}
	return out
}

// BehindProxies counts the connected proxies that have not confirmed what is approved for
// their class, whatever the reason: held, on the way, or lacking an answer. A class without
// any is not there.
func (l *Ledger) BehindProxies() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]int{}
	for e := range l.entries {
		if c, ok := l.classes[e.s.Class]; ok && e.s.content != c.status.content {
			out[e.s.Class]++
		}
	}
	return out
}

// makeRoom drops the oldest failure of the class that has most: one that fails in
// a loop must not push out what happened to others.
func (l *Ledger) makeRoom() {
	counts, most := map[string]int{}, ""
	for _, f := range l.failures {
		if counts[f.Class]++; counts[f.Class] > counts[most] {
			most = f.Class
		}
	}
	i := slices.IndexFunc(l.failures, func(f Failure) bool { return f.Class == most })
	l.failures = slices.Delete(l.failures, i, i+1)
}

// Status returns a copy of the ledger.
func (l *Ledger) Status() Status {
	seen := l.see()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forget()
	st := Status{
		At: l.now(), Ready: l.current.commit != "",
		Commit: l.current.commit, Release: l.current.release, Environment: l.current.environment,
		Source: seen.source, Lacking: seen.lacking,
		Classes: []ClassStatus{}, Proxies: []ProxyStatus{}, Failures: slices.Clone(l.failures),
	}
	counts := map[string]ClassStatus{}
	for e := range l.entries {
		p := l.resolve(e.s)
		st.Proxies = append(st.Proxies, p)
		c := counts[p.Class]
		c.Connected++
		if p.UpToDate {
			c.UpToDate++
		}
		if p.Held {
			c.HeldProxies++
		}
		counts[p.Class] = c
	}
	for _, s := range l.gone {
		st.Proxies = append(st.Proxies, l.resolve(s))
	}
	for name, c := range l.classes {
		s := c.status
		n := counts[name]
		s.Connected, s.UpToDate, s.HeldProxies = n.Connected, n.UpToDate, n.HeldProxies
		st.Classes = append(st.Classes, s)
	}
	slices.SortFunc(st.Classes, func(a, b ClassStatus) int { return strings.Compare(a.Class, b.Class) })
	slices.SortFunc(st.Proxies, func(a, b ProxyStatus) int {
		return cmp.Or(cmp.Compare(a.Identity, b.Identity), cmp.Compare(a.Node, b.Node), cmp.Compare(a.Protocol, b.Protocol), a.Since.Compare(b.Since))
	})
	return st
}

// resolve copies a proxy and says which commit its content belongs to.
func (l *Ledger) resolve(s ProxyStatus) ProxyStatus {
	s.Types = maps.Clone(s.Types)
	c, ok := l.classes[s.Class]
	if !ok || s.content == "" {
		return s
	}
	a := c.contents[s.content]
	s.Commit, s.Release = a.commit, a.release
	s.UpToDate = s.content == s.serving && s.Ahead == ""
	return s
}
