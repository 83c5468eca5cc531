package envoy

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
)

// snapshot is the result for one class.
type snapshot struct {
	scope    scope
	entries  []*entry // sorted by type and name
	bytes    []byte
	path     string // the artifact's
	origin   string // its mesh path
	problems diag.List
	// callers are where the class calls what an entry is for, of entries whose problems are the call's.
	callers map[*entry]diag.Pos
	// dangling are references that lead to nothing, and names that two resources have.
	dangling diag.List
	// knows is the digest of what it depends on beside the objects that it stands for and calls.
	knows string
	// asked is what making it looked up; known says that it is from the memo.
	asked []model.Lookup
	known bool
}

// forClass is the emitter for the work on one class.
func (e *emitter) forClass(c scope) *emitter {
	own := *e
	own.of = c.class
	if c.proxyless() {
		own.withoutProxy()
	}
	return &own
}

// class makes the snapshot of one proxy class, with an emitter for that.
func (e *emitter) class(c scope) snapshot {
	if e.grpc {
		return e.program(c)
	}
	s := snapshot{scope: c, knows: e.knows(c)}
	n := needs{}
	if len(c.members) > 0 {
		s.inbound(e, c)
		for _, m := range c.members {
			e.used(m.service.Traits, n)
		}
		s.outbound(e, c, n)
	}
	for _, g := range c.gateways {
		s.gateway(e, g, n)
		e.used(g.Traits, n)
	}
	named := s.namedClusters()
	for _, name := range slices.Sorted(maps.Keys(n)) {
		if !n[name].named || named[name] {
			s.entries = append(s.entries, e.cluster(name, n[name]))
		} else {
			delete(n, name)
		}
	}
	s.proxies(e, n)
	s.seal(e)
	return s
}

// namedClusters are the clusters that the resources so far mention.
func (s *snapshot) namedClusters() map[string]bool {
	out := map[string]bool{}
	for _, n := range s.entries {
		for _, name := range n.needs[release.ClusterType] {
			out[name] = true
		}
	}
	return out
}

// cluster is the entry of a needed cluster. Its bytes depend on the callee and on
// the traits of the routes by which this class reaches it; callers with equal
// routes share it.
func (e *emitter) cluster(name string, n *need) *entry {
	traits := n.sortedTraits()
	key := "cluster " + name
	for _, t := range traits {
		key += "\n" + t.key
	}
	return e.get(key, []given{n.target.given()}, func(out *entry) {
		if n.target.external != nil {
			e.buildExternalCluster(n.target, traits, out)
		} else {
			e.buildServiceCluster(n.target, traits, out)
		}
	})
}

// inbound adds what a class's sidecars take in.
func (s *snapshot) inbound(e *emitter, c scope) {
	binds, problems := e.binds(c)
	s.problems = append(s.problems, problems...)
	for _, b := range binds {
		s.entries = append(s.entries, e.localEntry(b))
		if b.port.Protocol.IsHTTP() {
			s.entries = append(s.entries, e.inboundConfig(b.service, b.port, b.version))
			if len(b.service.Asked(b.port)) > 0 {
				s.entries = append(s.entries, e.askedConfig(b.service, b.port, b.version))
			}
		}
		if e.m.Capture == model.Explicit {
			s.entries = append(s.entries, e.inboundListener(b.service, b.port, b.version))
		}
	}
	if e.m.Capture == model.Transparent {
		s.entries = append(s.entries, e.captureInboundListener(c, binds))
	}
}

func (e *emitter) localEntry(b bind) *entry {
	name := model.LocalClusterName(b.service.ID, b.port.Name, b.version.Name)
	return e.get("cluster "+name, b.given(), func(out *entry) {
		e.seal(out, release.ClusterType, name, model.ServicePath(b.service.ID), e.localCluster(b.service, b.port, b.version))
	})
}

// outbound adds what a class's sidecars call.
func (s *snapshot) outbound(e *emitter, c scope, n needs) {
	if e.m.Capture == model.Transparent {
		s.outboundTransparent(e, c, n)
		return
	}
	for _, w := range e.calls(c) {
		e.callNeeds(w.target, n)
		if w.target.port.Protocol.IsHTTP() {
			s.entries = append(s.entries, e.outboundConfig(w.target))
		}
		for i, local := range w.locals {
			suffix := ""
			if i > 0 { // versions of one account that call by different ports
				suffix = "@" + portText(local)
			}
			s.entries = append(s.entries, e.outboundListener(w.target, local, suffix))
		}
	}
}

func (s *snapshot) outboundTransparent(e *emitter, c scope, n needs) {
	var ts []target
	for _, w := range e.calls(c) {
		ts = append(ts, w.target)
	}
	dials, problems := e.dials(c, ts)
	s.problems = append(s.problems, problems...)
	s.entries = append(s.entries, e.captureListener(c.egress()))
	if mode := c.egress(); mode != "" {
		s.entries = append(s.entries, e.undeclaredCluster(mode))
	}
	for _, d := range dials {
		for _, t := range d.calls() {
			e.callNeeds(t, n)
		}
		s.entries = append(s.entries, e.portListener(d))
		if d.hasRoutes() {
			s.entries = append(s.entries, e.portConfig(c.class.Namespace, d))
		}
		if len(d.proven()) > 0 {
			s.entries = append(s.entries, e.dialledCluster(d))
		}
	}
}

// call is a destination of a class and the loopback ports by which its
// workloads reach it.
type call struct {
	target target
	locals []uint32
}

// calls is the union of the calls of a class's members, sorted by destination. A
// call without a local port has no listener with explicit capture and is left out.
func (e *emitter) calls(c scope) []call {
	by, said := map[string]*call{}, map[string]model.CallsOf{}
	for _, mb := range c.members {
		for _, k := range mb.service.Calls {
			t, ok := e.destination(k.To, k.Port)
			local := mb.version.Local(k)
			if !ok || (e.m.Capture == model.Explicit && local == 0 && !e.grpc) {
				continue
			}
			key := t.path() + "/" + t.port.Name
			if by[key] == nil {
				by[key] = &call{target: t}
			}
			said[key] = said[key].And(k.Traits, mb.service.CallPath(k))
			if !slices.Contains(by[key].locals, local) {
				by[key].locals = append(by[key].locals, local)
			}
		}
	}
	out := make([]call, 0, len(by))
	for _, k := range slices.Sorted(maps.Keys(by)) {
		by[k].target.says = said[k].Traits
		by[k].target = e.askedBy(by[k].target, c.class.Namespace+"/"+c.class.Account)
		slices.Sort(by[k].locals)
		out = append(out, *by[k])
	}
	return out
}

// seal sorts the resources and encodes the snapshot.
func (s *snapshot) seal(e *emitter) {
	for _, n := range s.entries {
		s.problems = append(s.problems, s.found(n)...)
	}
	s.entries = slices.DeleteFunc(s.entries, func(n *entry) bool { return n.typ == "" })
	slices.SortFunc(s.entries, func(a, b *entry) int {
		return cmp.Or(cmp.Compare(a.typ, b.typ), cmp.Compare(a.res.Name, b.res.Name))
	})
	file := release.Snapshot{Class: s.scope.class, TrustDomain: e.m.TrustDomain, Proxyless: e.grpc, Resources: map[release.TypeURL][]release.Resource{}}
	for _, n := range s.entries {
		file.Resources[n.typ] = append(file.Resources[n.typ], n.res)
		if n.live != nil {
			file.Endpoints = append(file.Endpoints, *n.live)
		}
	}
	s.dangling = e.checkRefs(file, s.entries)
	b, err := canon.JSON(file)
	if err != nil {
		s.problems = append(s.problems, diag.New(diag.CodeInconsistent, e.at(s.scope.origin()), "snapshot %q: %v", s.scope.class, err))
	}
	s.bytes, s.path, s.origin = b, release.SnapshotPath(s.scope.class), s.scope.origin()
}

// origin is the mesh path that a class stands for: its first service or gateway.
func (c scope) origin() string {
	var all []string
	for _, m := range c.members {
		all = append(all, model.ServicePath(m.service.ID))
	}
	for _, g := range c.gateways {
		all = append(all, model.GatewayPath(g.ID))
	}
	return slices.MinFunc(all, strings.Compare)
}
