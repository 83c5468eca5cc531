package stream

import (
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/xds-server/internal/evidence"
	"meshc.dev/meshc/xds-server/internal/ledger"
	"meshc.dev/meshc/xds-server/internal/phase"
	"meshc.dev/meshc/xds-server/internal/rollout"
	"meshc.dev/meshc/xds-server/internal/store"
	"meshc.dev/meshc/xds-server/internal/view"
)

// session is the state of one stream. Requests come in by take, responses go out
// by next, and due is called when a time limit passes; kick tells the sender that
// next may have something. Each has the time as an argument.
type session struct {
	hub      *Hub
	class    *class
	protocol store.Protocol
	peer     client
	node     string
	// place is where the client says that it is. It decides in which order it takes addresses,
	// and nothing else.
	place release.Place
	entry *ledger.Entry
	kick  chan struct{}

	mu       sync.Mutex
	channels [view.Types]channel
	// stale are endpoints of clusters that were sent before the client asked
	// for endpoints on this stream: it may name versions of them, and wait.
	stale []string
	nonce uint64
	timer *time.Timer
	// settleBy is until when removals wait for the client to ask for what its
	// new listeners need; zero while nothing waits.
	settleBy  time.Time
	settleFor *view.List
	// closed says that the stream has ended: a request that was still on its way
	// must not open anything.
	closed bool
	// heard is when the client asked for another type for the first time; resumes says
	// that it named something that it has from an earlier stream.
	heard   time.Time
	resumes bool
	// routeBy is until when a switch to routeFor waits for endpoints.
	routeBy  time.Time
	routeFor *view.List
	// work is how many names were handled since effort was asked last.
	work int

	// chosen is the edition that the proxy gets, cur what that is at the moment.
	chosen choice
	cur    *serving
	// told is what the ledger was told last of what the proxy gets.
	told ledger.Service
	// wake and turn are what the sender sleeps on beside kick.
	wake, turn <-chan struct{}
	// toldHeld is the refused content because of which the log last said that the proxy
	// is held.
	toldHeld string
	// confirmed is the content that the proxy confirmed last on this stream.
	confirmed string
	// claims are the positions that the client said that it has something of.
	claims claims
	// marked is the position of which the client last said or confirmed that it has
	// something that tells so.
	marked rollout.Position
	// countedAhead says that the class counts it among those that are ahead.
	countedAhead bool
}

// plan is a remembered answer of phase.Next, with the state after each step.
type plan struct {
	steps []phase.Step
	after []view.Lists
	// bytes is about what the plan keeps alive.
	bytes int
}

type planKey struct {
	protocol     store.Protocol
	held, target view.Lists
}

const (
	// planBytes bounds what remembered plans keep alive.
	planBytes    = 64 << 20
	planOverhead = 512
	// responseBytes is the size from which a delta response is split: gRPC
	// clients refuse messages over 4 MiB unless told otherwise.
	responseBytes = 3 << 20
)

func (h *Hub) plan(p store.Protocol, held, target view.Lists) *plan {
	if held == target {
		return &plan{}
	}
	k := planKey{p, held, target}
	return h.plans.Do(k, func() *plan { return planOf(k) })
}

func planOf(k planKey) *plan {
	p := &plan{steps: phase.Next(k.held, k.target)}
	for i := range p.steps {
		// A state-of-the-world response has no parts: what it lacks is removed.
		if k.protocol == store.Delta {
			p.steps[i] = p.steps[i].Split(k.held, responseBytes)
		}
		p.after = append(p.after, p.steps[i].Apply(k.held))
		p.bytes += p.steps[i].To.Bytes()
	}
	for t := range k.held {
		p.bytes += k.held[t].Bytes() + k.target[t].Bytes()
	}
	return p
}

func newSession(h *Hub, c *class, p store.Protocol, who client, node string, at release.Place) *session {
	s := &session{
		hub: h, class: c, protocol: p, peer: who, node: node, place: at,
		entry: h.cfg.Ledger.Connect(who.identity, node, c.name, string(p)),
		kick:  make(chan struct{}, 1),
		heard: steady(),
	}
	s.choose()
	return s
}

func (s *session) close() {
	s.mu.Lock()
	if s.timer != nil {
		s.timer.Stop()
	}
	s.closed = true
	s.countAhead(false)
	for t := range s.channels {
		s.class.quota.swap(s.channels[t].names, nil)
		s.channels[t].names = nil
	}
	s.mu.Unlock()
	s.entry.Close()
}

func (s *session) wakeSender() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// lists returns what the client holds and what it shall hold. A held list that
// the client cannot tell from the target becomes the target, so that streams in
// the same state have the same pointers.
func (s *session) lists(cur *serving) (held, target view.Lists) {
	for t := range s.channels {
		c := &s.channels[t]
		if !c.open() {
			continue
		}
		target[t] = s.wanted(view.Type(t), cur.lists[t])
		if c.held != target[t] && c.held.Same(target[t]) {
			c.held = target[t]
		}
		held[t] = c.held
	}
	return held, target
}

// wanted is what the client subscribes to of a list.
func (s *session) wanted(t view.Type, l *view.List) *view.List {
	c := &s.channels[t]
	if p := &c.part; p.of != l || p.names != c.names {
		*p = part{of: l, names: c.names, list: s.hub.store.Restrict(l, c.names)}
	}
	return c.part.list
}

// choose brings chosen and cur up to date, and tells the ledger.
func (s *session) choose() bool {
	now := s.hub.cfg.Now()
	if t := s.class.turn.Load(); s.chosen.t != t || s.retryIn(now) == 0 {
		s.chosen = s.class.choose(rollout.Subject{Instance: s.peer.instance, Has: s.claims.newest}, now)
	}
	cur, err := s.class.serve(s.chosen.edition)
	if err == nil {
		cur, err = s.hub.from(s.place, cur)
	}
	if err != nil {
		s.hub.cfg.Log.Error("edition not served", slog.String("class", s.class.name), slog.Any("error", err))
		return false
	}
	s.cur = cur
	service := ledger.Service{Content: cur.v.set.Content, Approved: s.chosen.approved, RetryAt: s.chosen.retry}
	if because := s.chosen.because; because != nil {
		service.Failure = because.Failure
		s.tellHeld(*because, cur.v.commit)
	}
	s.countAhead(s.ahead())
	if s.ahead() { // again: what is approved may have changed before the stream was counted
		service.Ahead = s.claims.unseen.String()
	}
	if service != s.told {
		s.told = service
		s.entry.Serve(service)
	}
	return true
}

// tellHeld logs that the proxy is kept at the release of a commit, once for what was
// refused, with the line that it comes from and who answers for it.
func (s *session) tellHeld(because evidence.Receipt, at string) {
	if s.toldHeld == because.Content {
		return
	}
	ok, unsaid := s.class.quota.say(steady())
	if !ok {
		return // the next line says that some are missing; status has them all
	}
	s.toldHeld = because.Content
	f := because.Failure
	args := []any{
		slog.String("class", s.class.name), slog.String("node", s.node), slog.String("serving", short(at)),
		slog.String("refused", short(f.Commit)), slog.String("type", f.Type), slog.Bool("own", because.Instance == s.peer.instance),
	}
	if len(f.Resources) > 0 {
		r := f.Resources[0]
		args = append(args, slog.String("resource", r.Resource), slog.String("intent", r.Pos.String()), slog.String("owner", r.Owner))
	}
	s.hub.cfg.Log.Warn("proxy held at an earlier release", append(args, slog.Int("more_not_logged", unsaid))...)
}

// retryIn is how long a proxy that failed still waits by that clock: 0 if it is time
// to choose anew, negative if it waits for nothing. A moment that is further away than it
// can be was set under a clock that has gone back since.
func (s *session) retryIn(wall time.Time) time.Duration {
	if s.chosen.retry.IsZero() {
		return -1
	}
	left := s.chosen.retry.Sub(wall)
	if left <= 0 || left > s.chosen.longest {
		return 0
	}
	return left
}

// next returns the next response, or nil if there is none now. After nil the
// sender sleeps until it is kicked, or one of the channels is closed: there is
// something else to be served, or to choose from.
func (s *session) next(now time.Time) (m *store.Message, wake, turn <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.acknowledge(now)
	for {
		if !s.choose() {
			return nil, nil, s.chosen.t.done
		}
		o, ok := s.ready(now)
		if !ok {
			s.wake, s.turn = s.cur.wake, s.chosen.t.done
			return nil, s.wake, s.turn
		}
		if m := s.send(o, now); m != nil {
			return m, nil, nil
		}
	}
}

// heed takes what the client has said into account, and wakes the sender if that is of
// consequence: mostly it is a confirmation after which nothing is left to be sent.
func (s *session) heed(now time.Time) {
	s.acknowledge(now)
	if !s.closed && s.choose() && s.cur.wake == s.wake && s.chosen.t.done == s.turn {
		if _, ok := s.ready(now); !ok {
			return
		}
	}
	s.wakeSender()
}

// order is a step that can be sent now, with what the client has after it and what it
// is to have.
type order struct {
	step          phase.Step
	after, target view.Lists
}

// ready finds what is to be sent next of what was chosen; false if there is nothing now.
func (s *session) ready(now time.Time) (order, bool) {
	held, target := s.lists(s.cur)
	p := s.hub.plan(s.protocol, held, target)
	for i, st := range p.steps {
		if st = s.spare(st); s.may(st, s.cur, target, now) {
			return order{st, p.after[i], target}, true
		}
	}
	if st, ok := s.greeting(held, target); ok && s.may(st, s.cur, target, now) {
		return order{st, held, target}, true
	}
	if s.settled(p.steps, s.cur, target, now) {
		s.entry.Running(s.cur.v.set.Content)
		if st, ok := s.note(target, s.cur); ok && s.may(st, s.cur, target, now) {
			return order{st, held, target}, true
		}
	}
	if d := s.retryIn(s.hub.cfg.Now()); d > 0 {
		s.arm(now.Add(d), now)
	}
	return order{}, false
}

// greeting is an empty answer to a client that has nothing of a type of which
// its class has nothing: it waits for an answer before it goes on.
func (s *session) greeting(held, target view.Lists) (phase.Step, bool) {
	for _, g := range []phase.Step{{Type: view.Clusters, Group: phase.Add}, {Type: view.Listeners, Group: phase.Switch}} {
		if t := g.Type; s.channels[t].greet && target[t] != nil && target[t].Len() == 0 && held[t].Len() == 0 {
			g.To, g.Structural = target[t], true
			return g, true
		}
	}
	return phase.Step{}, false
}

// may tells whether a step can be sent now.
func (s *session) may(st phase.Step, cur *serving, target view.Lists, now time.Time) bool {
	c := &s.channels[st.Type]
	if c.underway() || s.keeps(st) || s.crosses(st, cur) {
		return false
	}
	if c.failed != nil && c.failed == target[st.Type] && now.Before(c.retry) {
		s.arm(c.retry, now)
		return false
	}
	var underway []phase.Group
	for t := range s.channels {
		for _, f := range s.channels[t].flights {
			if !f.overdue && f.step.Structural {
				underway = append(underway, f.step.Group)
			}
		}
	}
	return !phase.Blocked(st, underway) && s.said(st, cur, now) && s.reachable(st, cur, now) && (st.Group <= phase.Switch || s.asked(cur, target, now))
}

// asked tells whether the client has asked for the route tables that its new
// listeners name. Before that a new listener is not ready, and what it replaces
// must stay. A client that never asks is waited for only so long.
func (s *session) asked(cur *serving, target view.Lists, now time.Time) bool {
	if s.complete(cur.lists, target[view.Listeners]) {
		return true
	}
	l := target[view.Listeners]
	if s.settleFor != l {
		s.settleFor, s.settleBy = l, now.Add(s.hub.cfg.Limits.Ack)
	}
	if !now.Before(s.settleBy) {
		return true
	}
	s.arm(s.settleBy, now)
	return false
}

// complete tells whether every route table that a held listener needs, and that
// exists, is asked for.
func (s *session) complete(lists view.Lists, listeners *view.List) bool {
	routes := &s.channels[view.Routes]
	for l := range listeners.All() {
		for _, r := range l.Needs[view.Routes] {
			if _, exists := lists[view.Routes].Find(r); exists && !routes.names.Has(r) && (routes.names == nil || !routes.names.All) {
				return false
			}
		}
	}
	return true
}

// send turns a step into a message. It returns nil if the protocol has no way to
// say it: the client is then taken to know.
func (s *session) send(o order, now time.Time) *store.Message {
	st, cur := o.step, s.cur
	c := &s.channels[st.Type]
	from, items := c.held, s.sends(st, cur)
	stamp := s.stamp(st, items, cur)
	if s.protocol == store.World {
		switch st.Type {
		case view.Clusters, view.Listeners:
			// What is not in the list is removed: always the whole list.
			from, items = nil, slices.Collect(st.To.All())
		case view.Endpoints, view.Routes, view.Types:
			if len(items) == 0 {
				c.held = st.To
				return nil
			}
		}
	}
	s.nonce++
	f := &flight{nonce: strconv.FormatUint(s.nonce, 36), step: st, base: c.held, target: o.target[st.Type], v: cur.v, sentAt: now}
	f.marks = stamp != ""
	f.frame = s.hub.store.Frame(s.protocol, st.Type, from, st.To, items, st.Removed, stamp)
	limit := s.hub.cfg.Limits.Ack
	if f.warms() {
		limit = s.hub.cfg.Limits.Warming
	}
	f.deadline = now.Add(limit)
	if len(c.flights) == maxFlights {
		c.flights = c.flights[1:]
	}
	c.flights = append(c.flights, f)
	c.last = f.nonce
	c.greet = false
	c.held = st.To
	if e := &s.channels[view.Endpoints]; st.Type == view.Clusters {
		if e.open() {
			e.held = o.after[view.Endpoints]
		} else {
			s.stale = append(s.stale, st.Stale()...)
		}
	}
	s.arm(f.deadline, now)
	s.entry.Record(st.Type.String(), s.receipt(f, ledger.Sent, time.Time{}))
	s.hub.cfg.Meter.Pushed(st.Type, f.frame.Size())
	return &store.Message{Frame: f.frame, Nonce: f.nonce}
}

// maxFlights bounds the responses of one type that were never answered.
const maxFlights = 8

// settled tells whether the client has everything of its class.
func (s *session) settled(steps []phase.Step, cur *serving, target view.Lists, now time.Time) bool {
	for _, st := range steps {
		if st.Structural {
			return false
		}
	}
	for t := range s.channels {
		for _, f := range s.channels[t].flights {
			if f.step.Structural || f.overdue {
				return false
			}
		}
	}
	if s.protocol == store.World {
		return s.everySaid(cur.lists, now, s.hub.cfg.Limits.Ack)
	}
	for _, t := range []view.Type{view.Clusters, view.Listeners} {
		if !s.channels[t].open() && cur.lists[t].Len() > 0 {
			return false
		}
	}
	return s.complete(cur.lists, target[view.Listeners])
}

// steady tells how time passes for this process. Limits and pauses of a stream are
// measured with it: unlike Config.Now it does not jump when the clock is set.
func steady() time.Time { return time.Now() } //nolint:forbidigo // a clock that is passed in may be set; this one must not jump

// arm makes sure that due is called at t.
func (s *session) arm(t, now time.Time) {
	d := t.Sub(now)
	if s.timer == nil {
		s.timer = time.AfterFunc(d, s.due)
		return
	}
	s.timer.Reset(min(d, s.soonest(now, d)))
}

// soonest is the time to the first limit that is running.
func (s *session) soonest(now time.Time, d time.Duration) time.Duration {
	for t := range s.channels {
		c := &s.channels[t]
		for _, f := range c.flights {
			if !f.overdue {
				d = min(d, f.deadline.Sub(now))
			}
		}
		if now.Before(c.retry) {
			d = min(d, c.retry.Sub(now))
		}
	}
	for _, t := range []time.Time{s.settleBy, s.routeBy, s.heard.Add(opening), s.heard.Add(s.hub.cfg.Limits.Ack)} {
		if now.Before(t) {
			d = min(d, t.Sub(now))
		}
	}
	if left := s.retryIn(s.hub.cfg.Now()); left > 0 {
		d = min(d, left)
	}
	return max(d, 0)
}

// due looks for responses whose time is up.
func (s *session) due() {
	now := steady()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return // nobody can answer any more, which is no refusal
	}
	for t := range s.channels {
		for _, f := range s.channels[t].flights {
			if !f.overdue && !now.Before(f.deadline) {
				s.failed(f, ledger.Overdue, "no answer within "+f.deadline.Sub(f.sentAt).String(), now)
			}
		}
	}
	const idle = time.Hour // far away: whatever is running is sooner
	if d := s.soonest(now, idle); d < idle {
		s.timer.Reset(max(d, time.Millisecond))
	}
	s.wakeSender()
}
