package envoy

import (
	"cmp"
	"runtime"
	"slices"
	"sync"

	"google.golang.org/protobuf/proto"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
)

// Profile is how Emit is asked to work; it never changes what Emit makes, save
// for the positions of problems. The zero Profile is usable.
type Profile struct {
	// Locate gives the user's position of a mesh path. nil: problems name the mesh
	// path in place of a file.
	Locate func(meshPath string) diag.Pos
	// Memo keeps canonical bytes of resources between calls. nil: none.
	Memo Memo
}

// Memo maps keys to bytes; it is safe for concurrent use. What Get returns must
// be what Put was given for that key, or nothing; it is never changed.
type Memo interface {
	Get(key string) ([]byte, bool)
	Put(key string, value []byte)
}

// Emit compiles the mesh for Envoy: a snapshot artifact for every proxy class and
// a blob artifact for every distinct resource, sorted by path. The map takes an
// artifact's path to the mesh path that it comes from. With an error among the
// problems there are no artifacts.
func Emit(m *model.Mesh, cells Column, p Profile) ([]release.Artifact, map[string]string, diag.List) {
	e := &emitter{m: m, cells: cells, profile: p, memo: map[string]*entry{}}
	problems := e.checkTraits()
	if problems.HasErrors() {
		return nil, nil, problems.Sorted()
	}
	cs := scopes(m)
	snapshots := make([]snapshot, len(cs))
	each(len(cs), func(i int) { snapshots[i] = e.class(cs[i]) })

	o := output{origins: map[string]string{}, blobs: map[string]bool{}}
	for _, s := range snapshots {
		problems = append(problems, s.problems...)
		o.add(s)
	}
	if !problems.HasErrors() { // else what is missing is missing for a known reason
		for _, s := range snapshots {
			problems = append(problems, e.checkRefs(s)...)
		}
	}
	problems = problems.Sorted()
	if problems.HasErrors() {
		return nil, nil, problems
	}
	slices.SortFunc(o.artifacts, func(a, b release.Artifact) int { return cmp.Compare(a.Path, b.Path) })
	return o.artifacts, o.origins, problems
}

// each runs f(0…n-1) on all cores. f writes only to its own index.
func each(n int, f func(i int)) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range min(n, runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// emitter is one run of Emit.
type emitter struct {
	m       *model.Mesh
	cells   Column
	profile Profile

	mu   sync.Mutex
	memo map[string]*entry
}

// entry is one resource, made once however many classes have it.
type entry struct {
	once   sync.Once
	typ    release.TypeURL
	res    release.Resource
	bytes  []byte
	origin string
	// live is set for an EDS cluster.
	live *release.Endpoints
	// clusters and routes are the names that the resource mentions.
	clusters, routes []string
	problems         diag.List
}

func (n *entry) problem(d diag.Diagnostic) { n.problems = append(n.problems, d) }

// get returns the entry of that key, built by the first who asks. Equal keys
// must mean equal resources.
func (e *emitter) get(key string, build func(*entry)) *entry {
	e.mu.Lock()
	n := e.memo[key]
	if n == nil {
		n = &entry{}
		e.memo[key] = n
	}
	e.mu.Unlock()
	n.once.Do(func() { build(n) })
	return n
}

// seal encodes the resource of an entry.
func (e *emitter) seal(n *entry, typ release.TypeURL, name, origin string, m proto.Message) {
	b, digest, err := e.encode(m)
	if err != nil {
		n.problem(diag.New(diag.CodeInconsistent, e.at(origin), "resource %q: %v", name, err))
		return
	}
	n.typ, n.bytes, n.origin = typ, b, origin
	n.res = release.Resource{Name: name, Digest: digest}
}

// encode gives a resource's canonical JSON and digest.
func (e *emitter) encode(m proto.Message) ([]byte, string, error) {
	return e.remember("envoy/"+string(m.ProtoReflect().Descriptor().FullName()),
		func() ([]byte, error) { return proto.MarshalOptions{Deterministic: true}.Marshal(m) },
		func() ([]byte, error) { return canon.Proto(m) })
}

// remember puts the profile's memo in front of a canonical encoding. The key is
// the digest of a cheap encoding that is stable within one build of the compiler;
// that is as long as a memo lives. The value is the digest and the bytes.
func (e *emitter) remember(kind string, cheap, canonical func() ([]byte, error)) ([]byte, string, error) {
	if e.profile.Memo == nil {
		b, err := canonical()
		return b, canon.Digest(b), err
	}
	raw, err := cheap()
	if err != nil {
		return nil, "", err
	}
	key := kind + "/" + canon.Digest(raw)
	if v, ok := e.profile.Memo.Get(key); ok && len(v) > digestLen {
		return v[digestLen:], string(v[:digestLen]), nil
	}
	b, err := canonical()
	if err != nil {
		return nil, "", err
	}
	digest := canon.Digest(b)
	e.profile.Memo.Put(key, append([]byte(digest), b...))
	return b, digest, nil
}

// digestLen is the length of a digest in hexadecimal.
const digestLen = 64

// at is the user's position of a mesh path.
func (e *emitter) at(path string) diag.Pos {
	if e.profile.Locate == nil {
		return diag.Pos{File: path}
	}
	return e.profile.Locate(path)
}

// output gathers artifacts; blobs that several classes share are stored once.
type output struct {
	artifacts []release.Artifact
	origins   map[string]string
	blobs     map[string]bool
}

func (o *output) add(s snapshot) {
	for _, n := range s.entries {
		p := release.BlobPath(n.res.Digest)
		origin := cmp.Or(n.origin, s.scope.origin())
		if !o.blobs[p] {
			o.blobs[p] = true
			o.artifacts = append(o.artifacts, release.Artifact{Path: p, Bytes: n.bytes})
			o.origins[p] = origin
		} else {
			o.origins[p] = min(o.origins[p], origin)
		}
	}
	p := release.SnapshotPath(s.scope.class)
	o.artifacts = append(o.artifacts, release.Artifact{Path: p, Bytes: s.bytes})
	o.origins[p] = s.scope.origin()
}
