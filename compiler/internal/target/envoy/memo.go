package envoy

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"

	"meshc.dev/meshc/compiler/internal/model"
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
	mesh      *model.Mesh // whose traits have no problem; nil if nothing was made
	snapshots []snapshot  // sorted by the classes' names
	all       []made      // of the snapshots, sorted by path
}

// class is the snapshot of the class of that name, if there was one.
func (g *generation) class(name string) (snapshot, bool) {
	i, ok := slices.BinarySearchFunc(g.snapshots, name, func(s snapshot, name string) int { return cmp.Compare(s.scope.name, name) })
	if !ok {
		return snapshot{}, false
	}
	return g.snapshots[i], true
}

// changes are the snapshots that are new, and those that have gone. Both lists are
// sorted.
func (g *generation) changes(snapshots []snapshot) (come, gone []snapshot) {
	var before []snapshot
	if g != nil {
		before = g.snapshots
	}
	for _, s := range snapshots {
		for ; len(before) > 0 && before[0].scope.name < s.scope.name; before = before[1:] {
			gone = append(gone, before[0])
		}
		was := len(before) > 0 && before[0].scope.name == s.scope.name
		if !s.known {
			come = append(come, s)
			if was {
				gone = append(gone, before[0])
			}
		}
		if was {
			before = before[1:]
		}
	}
	return come, append(gone, before...)
}

// header is what is said of the whole mesh.
type header struct {
	trustDomain, environment string
	others                   string // trust domains, and whose authorities are trusted
	capture                  model.Capture
}

func headerOf(m *model.Mesh) header {
	return header{m.TrustDomain, m.Environment, fmt.Sprint(m.Aliases, m.Federation), m.Capture}
}

// asked is the set of questions that were put to a mesh, with their answers.
type asked map[model.Lookup]struct{}

func (a asked) note(l model.Lookup) { a[l] = struct{}{} }

// list is the set as a list, in no order, which is faster to go through.
func (a asked) list() []model.Lookup { return slices.Collect(maps.Keys(a)) }

// hold reports whether the mesh still answers the same.
func hold(ls []model.Lookup, m *model.Mesh) bool {
	for _, l := range ls {
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
	g := &generation{mesh: e.m, snapshots: slices.Clone(snapshots), all: all}
	for i := range g.snapshots {
		g.snapshots[i].known = true
	}
	e.profile.Memo.mu.Lock()
	defer e.profile.Memo.mu.Unlock()
	e.profile.Memo.last = g
}

// remembered is the snapshot of a class, from the memo if it may be.
func (e *emitter) remembered(c scope) snapshot {
	if e.run.before == nil {
		return e.forClass(c).class(c)
	}
	before, ok := e.run.before.class(c.name)
	if ok && e.run.sameHeader() && before.scope.same(c) && before.knows == e.knows(c) && hold(before.asked, e.m) {
		return before
	}
	mine := e.forClass(c) // its questions are its own
	mine.asked, mine.before = asked{}, make(map[string]*entry, len(before.entries))
	for _, n := range before.entries {
		if n.key != "" {
			mine.before[n.key] = n
		}
	}
	mine.m = e.m.Watched(func(l model.Lookup) { mine.asked.note(l) })
	s := mine.class(c)
	s.asked = mine.asked.list()
	return s
}

// sameHeader reports whether what is said of the whole mesh is as before.
func (r *run) sameHeader() bool {
	return r.before != nil && r.before.mesh != nil && headerOf(r.before.mesh) == headerOf(r.mesh)
}

// same reports whether two scopes are of the same objects.
func (c scope) same(d scope) bool {
	return slices.Equal(c.gateways, d.gateways) && slices.EqualFunc(c.members, d.members, func(a, b member) bool {
		return a.service == b.service && a.version.Name == b.version.Name
	})
}

// proven reports whether the traits of a service were checked in an earlier run.
func (e *emitter) proven(s *model.Service) bool {
	return e.run.before != nil && e.run.before.mesh != nil && e.run.before.mesh.Service(s.ID) == s
}
