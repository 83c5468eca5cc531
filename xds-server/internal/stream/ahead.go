package stream

import (
	"meshc.dev/meshc/xds-server/internal/phase"
	"meshc.dev/meshc/xds-server/internal/rollout"
	"meshc.dev/meshc/xds-server/internal/store"
	"meshc.dev/meshc/xds-server/internal/view"
)

// A server may know less than its proxies: a replica that has not seen the newest
// commit yet, a server with an older folder whose repository does not answer. Each
// resource says from which position it is, so that a proxy that comes back tells the
// newest one that it has something of. If that is newer than what the server has, the
// proxy keeps what it has: only a signed rollback goes back, and that is a newer
// position too. A proxy can only deceive itself.

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
	if p, ok := rollout.ParsePosition(stamp); ok && p.Compare(s.position) > 0 {
		s.position = p
	}
}

// ahead tells whether the client has something that is newer than all that is approved
// for its class here.
func (s *session) ahead() bool {
	return s.chosen.t != nil && s.position.Compare(s.chosen.t.approved().version.Load().position) > 0
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

// keeps tells whether a step must not be sent because the client is ahead. Addresses
// are live, and no part of a release.
func (s *session) keeps(st phase.Step) bool {
	return s.ahead() && (st.Type != view.Endpoints || len(st.Removed) > 0)
}

// mark adds a listener that stays to a response that only removes some: else nothing
// would say that the client has what follows. Envoy ignores what has not changed.
func (s *session) mark(st phase.Step, cur *serving) []*view.Item {
	if s.protocol != store.Delta || st.Group != phase.DropListeners || len(st.Items) > 0 {
		return st.Items
	}
	for it := range st.To.All() {
		if !it.Absent && it.Body != nil {
			return []*view.Item{s.hub.store.Stamp(st.Type, it, cur.v.position.String())}
		}
	}
	return nil
}
