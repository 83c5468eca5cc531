package stream

import (
	"time"

	"meshc.dev/meshc/xds-server/internal/evidence"
	"meshc.dev/meshc/xds-server/internal/ledger"
	"meshc.dev/meshc/xds-server/internal/phase"
	"meshc.dev/meshc/xds-server/internal/store"
	"meshc.dev/meshc/xds-server/internal/view"
)

// A proxy confirms an edition by confirming each of its resources, type by type, and
// another edition may have been published meanwhile: the last answer and the next
// release cross. So each word of a client, an answer or a report of what it has, is held
// against every edition that it could be sent back to. What the client holds is what it
// has answered for; what is under way does not count.

// acknowledge notes the newest edition that the client holds as a whole.
func (s *session) acknowledge(now time.Time) {
	t := s.class.turn.Load()
	if t == nil || s.closed {
		return
	}
	for i := len(t.sets) - 1; i >= 0 && t.sets[i].Content != s.confirmed; i-- {
		if s.holds(t.sets[i].Lists, now) {
			s.confirmed = t.sets[i].Content
			s.witness(evidence.Receipt{Content: s.confirmed, State: ledger.Acked})
			return
		}
	}
}

// holds tells whether the client has confirmed all of an edition's resources that it
// subscribes to, and nothing else of the same types. Live addresses are not among them.
func (s *session) holds(lists view.Lists, now time.Time) bool {
	for _, t := range []view.Type{view.Clusters, view.Listeners, view.Routes} {
		if c := &s.channels[t]; c.open() && s.answeredFor(t).Version() != s.wanted(t, lists[t]).Version() {
			return false
		}
	}
	if s.protocol == store.World {
		if !s.everySaid(lists, now, s.hub.cfg.Limits.Ack) {
			return false
		}
	} else if !s.asksFor(lists, view.Clusters) || !s.asksFor(lists, view.Listeners) {
		return false
	}
	return s.holdsEndpoints(lists[view.Endpoints]) && s.complete(lists, lists[view.Listeners])
}

// asksFor tells whether the client has asked for the type, if there is something of it.
func (s *session) asksFor(lists view.Lists, t view.Type) bool {
	return s.channels[t].open() || lists[t].Len() == 0
}

// holdsEndpoints tells whether the client has confirmed those endpoints, which are part
// of a release, as far as it asks for them.
func (s *session) holdsEndpoints(want *view.List) bool {
	c := &s.channels[view.Endpoints]
	if !c.open() || want.Len() == 0 {
		return true
	}
	has := s.answeredFor(view.Endpoints)
	for it := range want.All() {
		if !c.names.All && !c.names.Has(it.Name) {
			continue
		}
		if got, ok := has.Find(it.Name); !ok || got.Version != it.Version {
			return false
		}
	}
	return true
}

// answeredFor is what the client has of a type without what is under way.
func (s *session) answeredFor(t view.Type) *view.List {
	c := &s.channels[t]
	for _, f := range c.flights {
		if !f.overdue {
			return s.hub.store.Keep(f.base, c.names)
		}
	}
	return c.held
}

// crosses tells whether a step leads back while something newer is under way: its
// answer may be the one that confirms the newer edition. Endpoints do not wait, since
// that answer may wait for them.
func (s *session) crosses(st phase.Step, cur *serving) bool {
	if st.Type == view.Endpoints && st.Group == phase.Add {
		return false
	}
	for t := range s.channels {
		for _, f := range s.channels[t].flights {
			if !f.overdue && f.step.Structural && f.v.position.Compare(cur.v.position) > 0 {
				return true
			}
		}
	}
	return false
}
