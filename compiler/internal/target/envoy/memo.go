package envoy

import (
	"slices"
	"sync"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/release"
)

// Memo remembers the snapshots of one mesh from one Emit to the next. A snapshot is
// used again if every object that its making looked at is the same object still:
// meshes that follow each other must share the pointers of what did not change, and
// no object may ever be changed. It goes with one Column. Emit with a Memo gives what
// Emit without one gives. A Memo is safe for concurrent use.
type Memo struct {
	mu   sync.Mutex
	last *generation
}

// NewMemo makes an empty Memo.
func NewMemo() *Memo { return &Memo{} }

// generation is what one Emit made. Immutable.
type generation struct {
	mesh     header
	services map[*model.Service]bool // whose traits have no problem
	classes  map[release.Class]snapshot
	entries  map[string]*entry // of the snapshots, by key
	all      []made            // of the snapshots, sorted by path
}

// changed are the paths of snapshots that are new or have gone, and of what they
// have; nil if nothing was made before.
func (g *generation) changed(snapshots []snapshot) map[string]bool {
	if g == nil || g.all == nil {
		return nil
	}
	out := map[string]bool{}
	note := func(s snapshot) {
		out[s.path] = true
		for _, n := range s.entries {
			out[n.path] = true
		}
	}
	stay := map[release.Class]bool{}
	for _, s := range snapshots {
		if stay[s.scope.class] = s.known; !s.known {
			note(s)
		}
	}
	for class, s := range g.classes {
		if !stay[class] {
			note(s)
		}
	}
	return out
}

// entry is the one of that key, whatever has changed since; nil if there was none.
func (g *generation) entry(key string) *entry {
	if g == nil {
		return nil
	}
	return g.entries[key]
}

// header is what is said of the whole mesh.
type header struct {
	trustDomain, environment string
	capture                  model.Capture
}

func headerOf(m *model.Mesh) header { return header{m.TrustDomain, m.Environment, m.Capture} }

// asked is the set of questions that were put to a mesh, with their answers.
type asked map[model.Lookup]struct{}

func (a asked) note(l model.Lookup) { a[l] = struct{}{} }

// hold reports whether the mesh still answers the same.
func (a asked) hold(m *model.Mesh) bool {
	for l := range a {
		if l.IsExternal && m.External(l.ID) != l.External || !l.IsExternal && m.Service(l.ID) != l.Service {
			return false
		}
	}
	return true
}

// load gives what was made last: an empty generation if nothing was, nil without a memo.
func (m *Memo) load() *generation {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.last == nil {
		return &generation{}
	}
	return m.last
}

// keep replaces what the memo holds by what this run made, and no more than that.
func (e *emitter) keep(snapshots []snapshot, all []made) {
	if e.profile.Memo == nil {
		return
	}
	g := &generation{
		mesh: headerOf(e.m), services: make(map[*model.Service]bool, len(e.m.Services)),
		classes: make(map[release.Class]snapshot, len(snapshots)), entries: make(map[string]*entry, len(e.run.memo)), all: all,
	}
	for _, s := range e.m.Services {
		g.services[s] = true
	}
	for _, s := range snapshots {
		s.known = true
		for _, n := range s.entries {
			if n.key != "" {
				g.entries[n.key] = n
			}
		}
		g.classes[s.scope.class] = s
	}
	e.profile.Memo.mu.Lock()
	defer e.profile.Memo.mu.Unlock()
	e.profile.Memo.last = g
}

// remembered is the snapshot of a class, from the memo if it may be.
func (e *emitter) remembered(c scope) snapshot {
	if e.run.before == nil {
		return e.class(c)
	}
	if s, ok := e.run.before.classes[c.class]; ok && e.run.before.mesh == headerOf(e.m) && s.scope.same(c) && s.asked.hold(e.m) {
		return s
	}
	mine := *e // its questions are its own
	mine.asked = asked{}
	mine.m = e.m.Watched(func(l model.Lookup) { mine.asked.note(l) })
	s := mine.class(c)
	s.asked = mine.asked
	return s
}

// same reports whether two scopes are of the same objects.
func (c scope) same(d scope) bool {
	return slices.Equal(c.gateways, d.gateways) && slices.EqualFunc(c.members, d.members, func(a, b member) bool {
		return a.service == b.service && a.version.Name == b.version.Name
	})
}

// proven reports whether the traits of a service were checked in an earlier run.
func (e *emitter) proven(s *model.Service) bool {
	return e.run.before != nil && e.run.before.services[s]
}
