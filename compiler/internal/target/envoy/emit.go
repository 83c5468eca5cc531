package envoy

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"sync"

	"google.golang.org/protobuf/proto"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/target/coverage"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/parallel"
)

// Profile is how Emit is asked to work; it never changes what Emit makes of a class, save
// for the positions of problems, and for the keys. The zero Profile is usable.
type Profile struct {
	// Locate gives the user's position of a mesh path. nil: problems name the mesh
	// path in place of a file.
	Locate func(meshPath string) diag.Pos
	// Memo keeps what was made between calls, so that a change costs what it
	// touches. nil: none.
	Memo *Memo
	// Names, if set, are the domains by which callers tell a service from others with explicit capture
	// too, where any host is taken else.
	Names func(service string) []string
	// Keys, if set, gives the keys by which a provider's tokens are checked in the place of its own.
	Keys func(model.Provider) string
	// Without names classes whose snapshots are not wanted, because somebody knows that
	// they have no problem. nil: all are.
	Without map[string]bool
}

// Emit compiles the mesh for Envoy: a snapshot artifact for every proxy class and
// a blob artifact for every distinct resource, sorted by path, each with the mesh path
// that it comes from. With an error among the problems there are no artifacts.
func Emit(m *model.Mesh, cells Column, conditions Conditions, parts []coverage.Part, p Profile) ([]release.Artifact, []string, diag.List) {
	e := &emitter{m: m, cells: cells, finishing: cells.finishing(), conditions: conditions, profile: p, run: &run{mesh: m, memo: map[string]*entry{}, before: p.Memo.load()}}
	problems := append(e.checkParts(parts), e.checkTraits()...)
	if problems.HasErrors() {
		return nil, nil, problems.Sorted()
	}
	cs := slices.DeleteFunc(scopes(m), func(c scope) bool { return p.Without[c.name] })
	snapshots := make([]snapshot, len(cs))
	parallel.Each(len(cs), func(i int) { snapshots[i] = e.remembered(cs[i]) })

	for _, s := range snapshots {
		problems = append(problems, s.problems...)
	}
	if !problems.HasErrors() { // else what is missing is missing for a known reason
		for _, s := range snapshots {
			problems = append(problems, s.dangling...)
		}
	}
	problems = problems.Sorted()
	if problems.HasErrors() {
		return nil, nil, problems
	}
	all := e.gather(snapshots)
	if len(problems) == 0 { // what has problems names lines, which move
		e.keep(snapshots, all)
	}
	artifacts, origins := make([]release.Artifact, len(all)), make([]string, len(all))
	for i, a := range all {
		artifacts[i], origins[i] = a.Artifact, a.origins[0]
	}
	return artifacts, origins, problems
}

// emitter is the work on one class; run is what all classes of an Emit share.
type emitter struct {
	m          *model.Mesh
	cells      Column
	finishing  []string
	conditions Conditions
	profile    Profile
	run        *run
	// of is the class that is in hand.
	of release.Class
	// grpc is set on the work for a class without proxies: cells and conditions are gRPC's then, and full are Envoy's.
	grpc bool
	full Column
	// asked gathers what the work in hand looks up; nil without a memo.
	asked asked
	// before are the entries that the class had in an earlier run, by key.
	before map[string]*entry
}

type run struct {
	mesh   *model.Mesh
	before *generation // of the memo; nil without one

	mu   sync.Mutex
	memo map[string]*entry

	declaring declaring
}

// entry is one resource, made once however many classes have it.
type entry struct {
	once   sync.Once
	typ    release.TypeURL
	res    release.Resource
	bytes  []byte
	path   string // the artifact's
	origin string
	// live is set for an EDS cluster.
	live *release.Endpoints
	// needs are the resources that the resource names. Whoever writes a name into it
	// notes it here: what delivers the resource believes this list and looks for no other.
	needs    release.References
	problems diag.List
	// key names it in a run; of is what its making was given, asked what it looked up.
	key   string
	of    []given
	asked []model.Lookup
	// form is the resource in binary, and was the entry of that key in an earlier run:
	// where their forms are the same, so is their JSON. Of routes it is parts that have
	// forms. Only with a memo.
	form  []byte
	parts []part
	was   *entry
}

// given is an object that the making of an entry does not look up, but gets.
type given struct {
	service       *model.Service
	external      *model.External
	port, version string
}

func (t target) given() given { return given{t.service, t.external, t.port.Name, t.version.Name} }

func givenTargets(ts []target) []given {
	out := make([]given, len(ts))
	for i, t := range ts {
		out[i] = t.given()
	}
	return out
}

func (n *entry) problem(d diag.Diagnostic) { n.problems = append(n.problems, d) }

// need notes that the resource names others of the snapshot.
func (n *entry) need(t release.TypeURL, names ...string) {
	if n.needs == nil {
		n.needs = release.References{}
	}
	n.needs.Add(t, names...)
}

// discovers notes that the resource is an EDS cluster, if live is not nil: the
// addresses have the cluster's own name.
func (n *entry) discovers(live *release.Endpoints) {
	if n.live = live; live != nil {
		n.need(release.EndpointType, live.Cluster)
	}
}

// get returns the entry of that key, built by the first who asks, or by an earlier
// run. Equal keys must mean equal resources. of is everything that build uses and
// neither looks up nor has in the key.
func (e *emitter) get(key string, of []given, build func(*entry)) *entry {
	if e.grpc {
		key = proxylessKey + key
	}
	return e.entry(key, build, func() *entry {
		was := e.before[key]
		if was != nil && e.run.sameHeader() && slices.Equal(was.of, of) && hold(was.asked, e.run.mesh) {
			return was
		}
		return &entry{key: key, of: of, was: was}
	})
}

// getFresh is get for what build cannot name all that it uses.
func (e *emitter) getFresh(key string, build func(*entry)) *entry {
	return e.entry(key, build, func() *entry { return &entry{} })
}

func (e *emitter) entry(key string, build func(*entry), first func() *entry) *entry {
	e.run.mu.Lock()
	n := e.run.memo[key]
	if n == nil {
		n = first()
		e.run.memo[key] = n
	}
	e.run.mu.Unlock()
	n.once.Do(func() {
		if e.asked == nil {
			build(n)
			return
		}
		outer := e.asked
		e.asked = asked{}
		build(n)
		n.asked, e.asked = e.asked.list(), outer
	})
	for _, l := range n.asked {
		e.asked.note(l)
	}
	return n
}

// seal encodes the resource of an entry.
func (e *emitter) seal(n *entry, typ release.TypeURL, name, origin string, m proto.Message) {
	was := n.was
	if e.run.before != nil {
		form, err := marshal(m)
		if n.form = form; err == nil && was != nil && was.typ == typ && was.res.Name == name && bytes.Equal(was.form, form) {
			n.typ, n.origin, n.bytes, n.res, n.path, n.was = typ, origin, was.bytes, was.res, was.path, nil
			n.res.Needs = n.needs
			return
		}
	}
	b, err := encode(m)
	e.sealText(n, typ, name, origin, b, err)
}

// marshal is the one binary form of a message.
func marshal(m proto.Message) ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(m)
}

// sealText gives an entry its resource, of which b is the canonical form unless there is
// an error.
func (e *emitter) sealText(n *entry, typ release.TypeURL, name, origin string, b []byte, err error) {
	was := n.was
	n.origin, n.was = origin, nil
	if err != nil { // there is no resource
		n.problem(diag.New(diag.CodeInconsistent, e.at(origin), "resource %q: %v", name, err))
		return
	}
	if n.typ = typ; was != nil && was.typ == typ && was.res.Name == name && bytes.Equal(was.bytes, b) {
		n.bytes, n.res, n.path = was.bytes, was.res, was.path
		n.res.Needs = n.needs
		return
	}
	n.bytes, n.res = b, release.Resource{Name: name, Digest: canon.Digest(b), Needs: n.needs}
	n.path = release.BlobPath(n.res.Digest)
}

// at is the user's position of a mesh path.
func (e *emitter) at(path string) diag.Pos {
	if e.profile.Locate == nil {
		return diag.Pos{File: path}
	}
	return e.profile.Locate(path)
}

// made is an artifact and the mesh paths that it comes from, sorted: one for each
// snapshot that has it.
type made struct {
	release.Artifact
	origins []string
}

// gather gives the artifacts of all snapshots, sorted by path. Blobs that several
// classes share are among them once. Only what a snapshot has that is new, or has gone,
// is looked at.
func (e *emitter) gather(snapshots []snapshot) []made {
	changes := map[string]*change{}
	come, gone := e.run.before.changes(snapshots)
	for _, s := range gone {
		s.each(func(path string, _ []byte, origin string) { at(changes, path).gone(origin) })
	}
	for _, s := range come {
		s.each(func(path string, b []byte, origin string) { at(changes, path).come(b, origin) })
	}
	var before []made
	if e.run.before != nil {
		before = e.run.before.all
	}
	out := make([]made, 0, len(before)+len(changes))
	paths := slices.Sorted(maps.Keys(changes))
	for _, a := range before {
		for ; len(paths) > 0 && paths[0] < a.Path; paths = paths[1:] {
			out = changes[paths[0]].appendTo(out, made{})
		}
		if len(paths) == 0 || paths[0] != a.Path {
			out = append(out, a)
			continue
		}
		out = changes[paths[0]].appendTo(out, a)
		paths = paths[1:]
	}
	for _, path := range paths {
		out = changes[path].appendTo(out, made{})
	}
	return out
}

// each gives the artifacts of a snapshot with their origins.
func (s snapshot) each(give func(path string, b []byte, origin string)) {
	give(s.path, s.bytes, s.origin)
	for _, n := range s.entries {
		give(n.path, n.bytes, cmp.Or(n.origin, s.origin))
	}
}

// change is what becomes of the artifact with one path.
type change struct {
	path       string
	bytes      []byte
	plus, less []string // origins
}

func at(changes map[string]*change, path string) *change {
	c := changes[path]
	if c == nil {
		c = &change{path: path}
		changes[path] = c
	}
	return c
}

func (c *change) gone(origin string) { c.less = append(c.less, origin) }

func (c *change) come(b []byte, origin string) {
	if c.bytes == nil {
		c.bytes = b
	}
	c.plus = append(c.plus, origin)
}

// appendTo appends the artifact, which was a, unless no snapshot has it any more.
func (c *change) appendTo(out []made, a made) []made {
	origins := slices.Concat(a.origins, c.plus)
	slices.Sort(origins)
	for _, origin := range c.less {
		if i, ok := slices.BinarySearch(origins, origin); ok {
			origins = slices.Delete(origins, i, i+1)
		}
	}
	if len(origins) == 0 {
		return out
	}
	b := a.Bytes // of a blob they are the same; of a snapshot they may not be
	if c.bytes != nil && !bytes.Equal(b, c.bytes) {
		b = c.bytes
	}
	return append(out, made{release.Artifact{Path: c.path, Bytes: b}, origins})
}
