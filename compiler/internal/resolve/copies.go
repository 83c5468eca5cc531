package resolve

import (
	"cmp"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/internal/diag"
)

// A proxy's configuration comes in messages that its agent takes up to a size, and all of them are made by one compile. So what
// is copied is bounded for whom it is made, and for who says it: nobody's copies are another one's problem.
const (
	// mostCopied are at one proxy, for all that its owner says, in bytes.
	mostCopied = 16 << 20
	// mostAttached are in the routes that one other package attaches to a gateway.
	mostAttached = 4 << 20
	// mostOfPackage are in all that one package declares.
	mostOfPackage = 64 << 20
	// mostMachines are at one proxy.
	mostMachines = 64
)

// copies are what has been counted.
type copies struct {
	bytes    map[string]int
	machines map[string]map[string]bool
	// told are bounds that somebody has gone over, which is told once.
	told map[string]bool
}

// carries is an object with values that are copied.
type carries struct {
	traits trait.Set
	path   string
	// proxies get n copies for the object, and each is for one of what each says.
	proxies, each string
	n             int
	// by is the folder of the package that has the object, which may have most bytes at these proxies.
	by   string
	most int
	// at is where a problem stands, the zero Pos for where the value is said.
	at diag.Pos
}

// checkCopies bounds what is copied (trait.Copied). Of a gateway's routes the owner's own are counted first.
func (l *linker) checkCopies() {
	c := copies{map[string]int{}, map[string]map[string]bool{}, map[string]bool{}}
	for _, g := range l.mesh.Gateways {
		for _, attached := range []bool{false, true} {
			for _, h := range g.Hosts {
				for _, r := range h.Routes {
					if attached == (r.Package != "") {
						l.count(c, l.carriesRoute(g, h, r))
					}
				}
			}
		}
	}
	for _, s := range l.mesh.Services {
		l.countService(c, s)
	}
}

// countService counts what the proxies of a service carry: a configuration for each port of each version.
func (l *linker) countService(c copies, s *model.Service) {
	for _, v := range s.Versions {
		for _, p := range s.Ports {
			if !p.Protocol.IsHTTP() {
				continue
			}
			of := carries{traits: s.TraitsAt(p.Name), path: model.ServicePath(s.ID), proxies: "account " + s.Namespace + "/" + v.Account, each: "port", n: 1, by: l.folder(s.ID), most: mostCopied}
			if len(s.Asked(p)) > 0 { // callers without a certificate have a configuration of their own
				of.n++
			}
			l.count(c, of)
		}
	}
}

func (l *linker) carriesRoute(g *model.Gateway, h model.Host, r model.Route) carries {
	out := carries{traits: r.Traits, path: model.GatewayRoutePath(g.ID, h.Name, r.Name), proxies: "gateway " + g.ID, each: "route", n: 1, by: l.folder(model.GatewayPath(g.ID)), most: mostCopied}
	if r.Package != "" {
		out.by, out.most, out.at = r.Package, mostAttached, l.lineOf(out.path)
	}
	return out
}

// folder is that of the package which declares a service, by its ID, or a gateway, by its path.
func (l *linker) folder(of string) string {
	if p := l.home[of]; p != nil {
		return p.dir
	}
	return ""
}

// count adds what an object has, and tells what is too much by then.
func (l *linker) count(c copies, of carries) {
	for _, name := range of.traits.Names() {
		v, _ := of.traits.Lookup(name)
		copied, ok := v.(trait.Copied)
		if !ok {
			continue
		}
		said := l.lineOf(of.path + "/" + name)
		tell := func(key string, at diag.Pos, format string, args ...any) {
			if c.told[key] {
				return
			}
			c.told[key] = true
			d := diag.New(diag.CodeWasm, at, format, args...)
			if at != said {
				d = d.WithRelated(said, "what each %s gets", of.each)
			}
			l.add(d.WithFix("build modules for size, run them for fewer %ss, or at the services behind", of.each))
		}
		at, bytes, key := cmp.Or(of.at, said), copied.Bytes()*of.n, of.proxies+" "+of.by
		c.bytes[key] += bytes
		c.bytes[of.by] += bytes
		if n := c.bytes[key]; n > of.most {
			tell(key, at, "modules are copied for each %s: with %d bytes more here, what the proxies of %s get for %q is %d, of %d at most", of.each, bytes, of.proxies, of.by, n, of.most)
		} else if n := c.bytes[of.by]; n > mostOfPackage {
			tell(of.by, at, "modules are copied for each %s: with %d bytes more here, what proxies get for %q is %d, of %d at most", of.each, bytes, of.by, n, mostOfPackage)
		}
		if c.machines[of.proxies] == nil {
			c.machines[of.proxies] = map[string]bool{}
		}
		for _, m := range copied.Machines() {
			c.machines[of.proxies][m] = true
		}
		if n := len(c.machines[of.proxies]); n > mostMachines {
			tell("machines "+of.proxies, said, "the proxies of %s run %d modules or more, each in a machine of its own: %d at most", of.proxies, n, mostMachines)
		}
	}
}
