package history_test

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing/fstest"

	"meshc.dev/meshc/ci/history"
	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/canon"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"google.golang.org/protobuf/encoding/protojson"
)

// services are the most that a mesh has; the first is always there.
const services = 6

// draft is a mesh that changes at random: which services there are, their versions,
// how traffic is shared, limits of time, and which routes the gateway has.
type draft struct {
	rng     *rand.Rand
	port    int // of the gateway
	service [services]service
	options compiler.Options
}

type service struct {
	there    bool
	versions [3]bool
	weight   int // of the first version, if there are two or more
	timeout  int // seconds
}

func newDraft(rng *rand.Rand, port int) *draft {
	d := &draft{rng: rng, port: port, options: compiler.Options{At: compileDate(), Cache: compiler.MemoryCache(100, nil), Memo: compiler.NewMemo()}}
	for i := range d.service {
		d.service[i] = service{there: i == 0 || rng.IntN(2) == 0, versions: [3]bool{true}, weight: 50, timeout: 5}
	}
	return d
}

// change makes another mesh of it.
func (d *draft) change() {
	for range 1 + d.rng.IntN(3) {
		i := d.rng.IntN(services)
		s := &d.service[i]
		switch d.rng.IntN(4) {
		case 0:
			s.there = i == 0 || !s.there
		case 1:
			v := d.rng.IntN(len(s.versions))
			s.versions[v] = !s.versions[v]
			if s.versions == [3]bool{} {
				s.versions[(v+1)%len(s.versions)] = true
			}
		case 2:
			s.weight = d.rng.IntN(101)
		case 3:
			s.timeout = 5 + d.rng.IntN(20)
		}
	}
}

// file is the endpoint file of a version.
func file(s, v int) string { return fmt.Sprintf("s%d-v%d", s, v) }

func (d *draft) fsys() fs.FS {
	var b, calls, routes strings.Builder
	b.WriteString("package app\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\n")
	b.WriteString("mesh: {namespace: \"app\", mtls: {mode: \"disable\", owner: \"test\", reason: \"the backends have no proxies\", until: \"2099-01-01T00:00:00Z\"}}\n")
	for i, s := range d.service {
		if !s.there {
			continue
		}
		fmt.Fprintf(&calls, "\"s%d\": {}, ", i)
		fmt.Fprintf(&routes, "\tr%d: {match: path: prefix: \"/%d\", to: \"s%d\": 100, timeout: \"%ds\"}\n", i, i, i, s.timeout)
		fmt.Fprintf(&b, "mesh: service: \"s%d\": {port: http: number: 8080, grant: callers: from: [\"front\", \"gateway/edge\"], version: {%s}, route: default: {to: {%s}, timeout: \"%ds\"}}\n",
			i, versions(i, s), weights(s), s.timeout)
	}
	fmt.Fprintf(&b, "mesh: service: front: {port: http: number: 8080, endpoints: file: \"front\", calls: {%s}}\n", calls.String())
	fmt.Fprintf(&b, "mesh: gateway: edge: {port: http: number: %d, address: \"127.0.0.1\", host: \"*\": route: {\n%s}}\n", d.port, routes.String())
	return fstest.MapFS{
		"mesh.cue":           &fstest.MapFile{Data: []byte("package mesh\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\nmesh: {owner: \"test\", trustDomain: \"mesh.local\"}\n")},
		"cue.mod/module.cue": &fstest.MapFile{Data: []byte("module: \"history.example/mesh\"\nlanguage: version: \"v0.17.0\"\n")},
		"app/app.cue":        &fstest.MapFile{Data: []byte(b.String())},
	}
}

func versions(i int, s service) string {
	var parts []string
	for v, there := range s.versions {
		if there {
			parts = append(parts, fmt.Sprintf("v%d: {serviceAccount: \"s%d-v%d\", endpoints: file: %q}", v, i, v, file(i, v)))
		}
	}
	return strings.Join(parts, ", ")
}

// weights share traffic between the first version that is there and the last one.
func weights(s service) string {
	first, last := -1, -1
	for v, there := range s.versions {
		if there && first < 0 {
			first = v
		}
		if there {
			last = v
		}
	}
	if first == last {
		return fmt.Sprintf("v%d: 100", first)
	}
	return fmt.Sprintf("v%d: %d, v%d: %d", first, s.weight, last, 100-s.weight)
}

// compile gives the release of the mesh as it is now.
func (d *draft) compile() (release.Release, error) {
	p, ds := compiler.Load(d.fsys(), d.options)
	if ds.HasErrors() {
		return release.Release{}, ds.Err()
	}
	r, ds := p.Release()
	if ds.HasErrors() {
		return release.Release{}, ds.Err()
	}
	return r, nil
}

// contentsOf reads from a release's files what each class has.
func contentsOf(r release.Release) (map[string]history.Content, error) {
	out := map[string]history.Content{}
	for _, class := range r.Classes() {
		snap, err := r.Snapshot(class)
		if err != nil {
			return nil, err
		}
		var c history.Content
		for t, url := range release.Types() {
			c[t] = map[string]string{}
			for _, res := range snap.Resources[url] {
				c[t][res.Name] = res.Digest
			}
		}
		for _, res := range snap.Resources[release.ClusterType] {
			raw, err := r.Blob(res.Digest)
			if err != nil {
				return nil, err
			}
			var m clusterv3.Cluster
			if err := protojson.Unmarshal(raw, &m); err != nil {
				return nil, fmt.Errorf("reading cluster %q: %w", res.Name, err)
			}
			for _, name := range resourceOf(res.Name, canon.Digest(raw), &m).Assignments {
				if _, static := c[history.Endpoints][name]; !static {
					c[history.Endpoints][name] = ""
				}
			}
		}
		out[class.String()] = c
	}
	return out, nil
}
