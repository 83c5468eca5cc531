package stream

import (
	"time"

	"meshc.dev/meshc/xds-server/internal/phase"
	"meshc.dev/meshc/xds-server/internal/view"
)

// What a client has not said yet is unknown, and no reason for anything. A client
// that comes back names what it has type by type, in an order of its own; until it
// has, nothing may be switched to what it perhaps lacks, and nothing removed that it
// perhaps uses. A client that never asks for a type is waited for only so long,
// counted from the last type that it asked for.

// opening is how long after its last word a client that comes back may take for the
// next type, before anything is sent to it. It names all of them at once.
const opening = time.Second

// said tells whether the client has said enough for a step.
func (s *session) said(st phase.Step, cur *serving, now time.Time) bool {
	if !st.Structural || st.Group <= phase.Switch && len(st.Items) == 0 {
		return true // at most that a name does not exist
	}
	if s.resumes && !s.everySaid(cur.lists, now, opening) {
		return false
	}
	for _, t := range s.unknown(st) {
		if !s.channels[t].open() && !s.silent(now, s.hub.cfg.Limits.Ack) {
			return false
		}
	}
	return true
}

// unknown are the types that the client must have asked for before a step: those
// that what is removed may be used by, and those that what is sent may use.
func (s *session) unknown(st phase.Step) []view.Type {
	switch st.Group {
	case phase.Add:
	case phase.Switch:
		// Who asks for one listener by its name asks for clusters when it knows which,
		// and would wait for ever.
		if l := &s.channels[view.Listeners]; s.resumes || !l.open() || l.names.All {
			return []view.Type{view.Clusters}
		}
	case phase.DropListeners, phase.DropRoutes:
		return []view.Type{view.Listeners}
	case phase.DropClusters:
		return []view.Type{view.Listeners, view.Routes}
	case phase.DropEndpoints:
		return []view.Type{view.Clusters}
	}
	return nil
}

// everySaid tells whether the client has asked for every type of which there is
// something, or was silent so long after the last one that it does not want the others.
func (s *session) everySaid(lists view.Lists, now time.Time, limit time.Duration) bool {
	for t := range s.channels {
		if !s.channels[t].open() && lists[t].Len() > 0 {
			return s.silent(now, limit)
		}
	}
	return true
}

// silent tells whether the client has asked for no new type for so long.
func (s *session) silent(now time.Time, limit time.Duration) bool {
	if by := s.heard.Add(limit); now.Before(by) {
		s.arm(by, now)
		return false
	}
	return true
}

// reachable tells whether the clusters that a switch leads to have their endpoints:
// a client may confirm a cluster before it asks for them. One that does not ask is
// waited for only so long, and clusters that it does not have yet are its own affair.
func (s *session) reachable(st phase.Step, cur *serving, now time.Time) bool {
	if st.Group != phase.Switch || s.haveEndpoints(st, cur) {
		return true
	}
	if s.routeFor != st.To {
		s.routeFor, s.routeBy = st.To, now.Add(s.hub.cfg.Limits.Ack)
	}
	if now.Before(s.routeBy) {
		s.arm(s.routeBy, now)
		return false
	}
	return true
}

func (s *session) haveEndpoints(st phase.Step, cur *serving) bool {
	k := pathKey{
		from: s.channels[st.Type].held, to: st.To, clusters: s.channels[view.Clusters].held, endpoints: s.channels[view.Endpoints].held,
		servedClusters: cur.lists[view.Clusters], servedEndpoints: cur.lists[view.Endpoints],
	}
	return s.hub.paths.Do(k, func() *path { return pathOf(st, k) }).whole
}

// path is what a switch needs behind it, the same for all streams that make it.
type path struct {
	// whole says that the client has the endpoints of all clusters that it leads to and
	// the client has. Those on their way are among them: they hold the switch back by
	// themselves if they are its first, and new addresses hold nothing.
	whole bool
	// bytes is about what it keeps alive.
	bytes int
}

// pathKey is a step, which follows from what is held before and after it, with what the
// client holds of the other types and what its edition has.
type pathKey struct {
	from, to, clusters, endpoints   *view.List
	servedClusters, servedEndpoints *view.List
}

// pathBytes bounds what remembered paths keep alive.
const pathBytes = 16 << 20

func (k pathKey) bytes() int {
	n := 0
	for _, l := range []*view.List{k.from, k.to, k.clusters, k.endpoints, k.servedClusters, k.servedEndpoints} {
		n += l.Bytes()
	}
	return n
}

func pathOf(st phase.Step, k pathKey) *path {
	p := &path{whole: true, bytes: planOverhead + k.bytes()}
	for _, it := range st.Items {
		for _, name := range it.Needs[view.Clusters] {
			c, ok := k.clusters.Find(name)
			if !ok || c.Absent {
				continue
			}
			for _, n := range needs(c, k) {
				has, ok := k.endpoints.Find(n)
				p.whole = p.whole && ok && !has.Absent && has.Version != ""
			}
		}
	}
	return p
}

// needs are the endpoints of a cluster that exist. What a client reported says
// nothing of its needs, the served cluster of that name does.
func needs(c *view.Item, k pathKey) []string {
	if c.Body == nil {
		if served, ok := k.servedClusters.Find(c.Name); ok {
			c = served
		}
	}
	var out []string
	for _, n := range c.Needs[view.Endpoints] {
		if _, ok := k.servedEndpoints.Find(n); ok {
			out = append(out, n)
		}
	}
	return out
}
