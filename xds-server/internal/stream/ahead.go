package stream

import (
	"slices"
	"sync"

	"meshc.dev/meshc/xds-server/internal/phase"
	"meshc.dev/meshc/xds-server/internal/rollout"
	"meshc.dev/meshc/xds-server/internal/store"
	"meshc.dev/meshc/xds-server/internal/view"
)

// A server may know less than its proxies: a replica that has not seen the newest
// commit yet, a server with an older folder whose repository does not answer. Each
// resource says from which position it is, so that a proxy that comes back tells the
// newest one that it has something of. If that is newer than what it would get here, and
// this server was never given anything at that position, nobody here can tell what the
// proxy had: it keeps what it has. Only a signed rollback goes back, and that is a newer
// position too. A proxy can only deceive itself.

// claims are what a client says of positions.
type claims struct {
	// newest is the newest that it has something of; unseen the newest of those at which
	// this server was given nothing.
	newest, unseen rollout.Position
}

// claim takes the positions off the versions that a client names.
func (s *session) claim(versions map[string]string) map[string]string {
	out := make(map[string]string, len(versions))
	for name, v := range versions {
		version, stamp := store.Unstamped(v)
		out[name] = version
		s.claimed(stamp)
	}
	return out
}

// claimed notes a position that the client has something of.
func (s *session) claimed(stamp string) {
	p, ok := rollout.ParsePosition(stamp)
	if !ok {
		return
	}
	if p.Compare(s.claims.newest) > 0 {
		s.claims.newest, s.marked = p, p
		s.chosen.t = nil // chosen without it
	}
	if p.Compare(s.claims.unseen) > 0 && !s.hub.positions.saw(p) {
		s.claims.unseen = p
	}
}

// ahead tells whether the client has something that is newer than what it gets, and
// that this server does not know.
func (s *session) ahead() bool {
	return s.cur != nil && s.claims.unseen.Compare(s.cur.v.position) > 0
}

// countAhead has the class wake the stream at the next approval, also if that has the
// same content: it may be newer than what the client has.
func (s *session) countAhead(ahead bool) {
	switch {
	case ahead && !s.countedAhead:
		s.class.ahead.Add(1)
	case !ahead && s.countedAhead:
		s.class.ahead.Add(-1)
	}
	s.countedAhead = ahead
}

// positions are those at which a server was given a release. They are bounded: at one
// that was forgotten a client keeps what it has.
type positions struct {
	mu   sync.Mutex
	seen map[rollout.Position]bool
}

// maxPositions bounds what is remembered.
const maxPositions = 1 << 16

func (p *positions) add(at rollout.Position) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seen == nil || len(p.seen) == maxPositions {
		p.seen = map[rollout.Position]bool{}
	}
	p.seen[at] = true
}

func (p *positions) saw(at rollout.Position) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen[at]
}

// keeps tells whether a step must not be sent because the client is ahead. Addresses
// are live, and no part of a release.
func (s *session) keeps(st phase.Step) bool {
	return s.ahead() && (st.Type != view.Endpoints || len(st.Removed) > 0)
}

// spare is what a client that is ahead gets of a step: addresses, and not that others do
// not exist which this server only does not know.
func (s *session) spare(st phase.Step) phase.Step {
	if s.ahead() && st.Type == view.Endpoints && len(st.Items) > 0 && len(st.Removed) > 0 {
		st.Removed, st.To = nil, s.channels[st.Type].held.With(st.Items...)
	}
	return st
}

// sends are the resources of a response. One that only removes takes along a resource
// that stays, if nothing of the release says yet that the client has what follows. Envoy
// ignores what has not changed.
func (s *session) sends(st phase.Step, cur *serving) []*view.Item {
	if s.protocol != store.Delta || st.Group <= phase.Switch || s.marked == cur.v.position {
		return st.Items
	}
	return append(first(st.To), st.Items...)
}

// stamp is what a response says of its release: behind its version, or in delta that of
// its first resource. Live addresses say nothing.
func (s *session) stamp(st phase.Step, items []*view.Item, cur *serving) string {
	switch {
	case s.protocol == store.World && st.Type == view.Endpoints:
	case s.protocol == store.World, len(items) > 0 && items[0].Digest != "":
		return cur.v.position.String()
	}
	return ""
}

// note is a step of nothing but a resource that stays: the class has come by other
// contents to one that the client has already, as one that refused what was taken back.
// Else it would follow a server that knows less to what lies between.
func (s *session) note(target view.Lists, cur *serving) (phase.Step, bool) {
	between := func(e *edition) bool {
		return e != s.chosen.edition && e.since.Compare(s.marked) > 0 && e.since.Compare(cur.v.position) < 0
	}
	if s.confirmed != cur.v.set.Content || !slices.ContainsFunc(s.chosen.t.editions, between) {
		return phase.Step{}, false
	}
	for _, t := range []view.Type{view.Listeners, view.Clusters} {
		if items := first(target[t]); len(items) > 0 {
			return phase.Step{Type: t, Group: phase.Switch, Items: items, To: target[t], Structural: true}, true
		}
	}
	return phase.Step{}, false
}

// first is the first resource of a list that exists.
func first(l *view.List) []*view.Item {
	for it := range l.All() {
		if !it.Absent {
			return []*view.Item{it}
		}
	}
	return nil
}
