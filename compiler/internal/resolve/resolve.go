// Package resolve turns what was said into what it means.
//
// In: intent and the rules of all features. Out: a linked mesh in total order
// with final names, the positions of its parts, the instants at which something
// ends, and the tests. It goes on after a problem, so that all are told at once;
// the mesh is usable only if no problem is an error.
package resolve

import (
	"crypto/sha256"
	"slices"
	"strings"
	"time"

	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
)

// DefaultTrustDomain is used if the root package names none.
const DefaultTrustDomain = "mesh.local"

// pkg is one package of intent and its settled frame.
type pkg struct {
	dir       string
	root      bool
	from      *intent.Package
	node      intent.Node
	namespace string
	owner     string
	// guest says that the namespace belongs to another package.
	guest bool
	// delegates is what the package lets others do, by their folders.
	delegates map[string]model.Delegation
}

// declared is the tables of what packages declare: the same at every date, and not
// changed any more once all have declared.
type declared struct {
	from *intent.Intent
	pkgs []*pkg // owners of namespaces before guests
	root *pkg   // nil if there is none

	trustDomain string
	// aliases are those that are written, ended or not, sorted; federation likewise.
	aliases, federation []model.TrustDomain
	capture             model.Capture
	targets             []Target

	kinds    map[string]string       // ID → "service", "external"
	gateways map[string]string       // gateway name or ID → ID ("" if ambiguous)
	waysOut  map[string]wayOut       // gateway ID → how externals are called through it
	accounts map[string][]string     // service ID → "ns/account", sorted
	former   map[string][]former     // service ID → accounts that it had, ended or not
	versions map[string][]string     // service ID → version names, sorted
	ports    map[string][]model.Port // service or external ID → its ports, by name, without mTLS
	// described are ports that say by a file what can be called there, by portKey.
	described map[string]described
	// collectors are what the root package calls so; one without a kind has a problem.
	collectors map[string]model.Collector
	// limiters are likewise; one without a service has a problem.
	limiters map[string]model.Limiter
	// providers are those whose tokens packages believe, by ID; one without keys has a problem.
	providers map[string]model.Provider
	// logins are those by which gateways have users sign in, by ID; one without a destination, file or Secret has a problem.
	logins map[string]model.Login
	// authorizers are those whom packages ask, by ID; one without a service has a problem.
	authorizers map[string]model.Authorizer
	// settableAt are the headers that authorizers may set whom a gateway's package asks there, by the gateway's ID.
	settableAt map[string][]string
	// workloads are where versions run that no platform knows, by the versions' mesh paths.
	workloads map[string][]model.Workload
	// Whose is what: namespaces; services, externals (by ID) and gateways (by mesh path);
	// accounts by who runs as them.
	domains map[string]*domain
	home    map[string]*pkg
	uses    map[string][]use

	named    map[naming][]intent.Beside // files whose text is declared
	places   *release.Provenance        // of what is declared
	problems diag.List
	digest   [sha256.Size]byte // of the tables that linking looks names up in
}

// linker carries the tables of one run.
type linker struct {
	*declared
	rules []Rule
	words []Word
	at    time.Time
	diags diag.List

	mesh *model.Mesh
	// own are the positions that the run notes itself, units those of services and
	// externals that were linked alone; pos are all.
	own   *release.Provenance
	units map[string]*release.Provenance
	pos   release.Positions

	modes    map[*pkg]model.MTLS    // the nearest mode above a package's services
	accesses map[*pkg]intent.Node   // the nearest mode of access there, as it is written
	egresses map[*pkg]intent.Node   // and of egress
	hosts    map[string][]hostClaim // of gateways
	// certificates are all that packages declare, by ID.
	certificates map[string]ownCertificate
	plain        []plainWish
	broken       map[string]bool // mesh paths of routes whose match is wrong, which are compared with no other

	dates      span                       // in which the link is the same
	named      map[naming][]intent.Beside // the files on which it depends
	endings    map[ending]bool            // of what has not ended
	exceptions []Exception
	owners     map[string]string
	terms      release.Enforcement
	tests      []Test
}

// Mesh links the intent as of the compile date at. memo may be nil.
func Mesh(in *intent.Intent, rules []Rule, words []Word, at time.Time, memo *Memo) (*Result, diag.List) {
	names := memo.declared(in)
	if names == nil {
		names = declare(in)
	}
	l := &linker{
		declared: names, rules: rules, words: words, at: at, diags: slices.Clone(names.problems),
		mesh:  &model.Mesh{Environment: in.Environment, TrustDomain: names.trustDomain, Capture: names.capture, Federation: names.federation},
		modes: map[*pkg]model.MTLS{}, accesses: map[*pkg]intent.Node{}, egresses: map[*pkg]intent.Node{}, hosts: map[string][]hostClaim{}, certificates: map[string]ownCertificate{}, broken: map[string]bool{},
		endings: map[ending]bool{}, owners: map[string]string{},
	}
	l.begin(names.places)
	l.settleAliases()
	l.settleModes()
	for _, p := range l.pkgs {
		l.declareCertificates(p)
		l.ownCredentials(p)
		l.ownLogins(p)
	}
	l.linkAll(memo)
	l.attachAll(l.pkgs)
	l.settleExits()
	l.readEnforcement()
	l.describeOwners()
	l.listOverrides(in)
	for _, p := range l.pkgs {
		l.readNevers(p)
	}
	for _, id := range sortedKeys(l.providers) {
		l.mesh.Providers = append(l.mesh.Providers, l.providers[id])
	}
	for _, id := range sortedKeys(l.logins) {
		l.mesh.Logins = append(l.mesh.Logins, l.logins[id])
	}
	l.order()
	l.mesh.Build()
	l.checkOwners(l.pkgs)
	l.checkMesh(memo)
	for _, p := range l.pkgs {
		l.readTests(p)
	}
	l.checkAdmitted()
	l.checkInstants()
	r := l.result()
	for _, p := range l.pkgs {
		r.Packages = append(r.Packages, Package{Dir: p.dir, Owner: p.owner, Files: l.filesOf(p), Pos: p.node.Pos()})
	}
	slices.SortFunc(r.Packages, func(a, b Package) int { return strings.Compare(a.Dir, b.Dir) })
	return r, l.diags.Sorted()
}

// listOverrides lists what the environment has in place of what packages say.
func (l *linker) listOverrides(in *intent.Intent) {
	for _, p := range in.Packages { // sorted
		for _, r := range p.Replaced {
			o := model.Override{Package: p.Dir, Field: r.Path}
			l.mesh.Overrides = append(l.mesh.Overrides, o)
			l.place(model.OverridePath(o), r.By)
		}
	}
}

// begin lets positions be noted, behind those of what is declared, if that is known.
func (l *linker) begin(declared *release.Provenance) {
	l.own, l.units = &release.Provenance{}, map[string]*release.Provenance{}
	whole := []*release.Provenance{l.own}
	if declared != nil {
		whole = []*release.Provenance{declared, l.own}
	}
	l.pos = release.NewPositions(l.units, whole...)
}

func (l *linker) result() *Result {
	r := &Result{Mesh: l.mesh, Positions: l.pos, Exceptions: l.exceptions, Owners: l.owners, Tests: l.tests, Targets: l.targets, Enforcement: l.terms, Defaults: l.said(), Expiries: l.instants()}
	slices.SortFunc(r.Exceptions, func(a, b Exception) int { return strings.Compare(a.Path+a.Kind, b.Path+b.Kind) })
	return r
}

// owned returns who answers for an object: its own owner, else the package's.
func (l *linker) owned(n intent.Node, p *pkg, path string) string {
	o := n.Field("owner").Str()
	if o == "" {
		return p.owner
	}
	l.owners[path] = o
	return o
}

func (l *linker) add(d diag.Diagnostic) { l.diags = append(l.diags, d) }

// linkGateways resolves the gateways that a package declares. Which package may have a
// host depends on the others.
func (l *linker) linkGateways(p *pkg) {
	for _, e := range p.node.Field("gateway").Fields() {
		l.gateway(p, e)
	}
}

// unit is a service or an external of a package: what can be linked with nothing but
// the names to look at.
type unit struct {
	intent.Entry
	external bool
}

func (p *pkg) units() []unit {
	var out []unit
	for _, e := range p.node.Field("external").Fields() {
		out = append(out, unit{e, true})
	}
	for _, e := range p.node.Field("service").Fields() {
		out = append(out, unit{e, false})
	}
	return out
}

func (l *linker) linkUnit(p *pkg, u unit) {
	if u.external {
		l.external(p, u.Entry)
		return
	}
	l.mesh.Services = append(l.mesh.Services, l.serviceOf(p, u.Entry))
}

// traits settles the features of the object whose mesh path is path, from its carriers,
// the nearest first.
func (l *linker) traits(cs []carrier, x *Place, path string) trait.Set {
	set := trait.Set{}
	x.path = path
	answer := l.answer(cs)
	for _, r := range l.rules {
		c, ok := r.nearest(cs)
		if !ok || r.Read == nil || l.silent(r, c, x) {
			continue
		}
		f := r.fieldOf(c, x)
		if answer != "" && answer != r.Field && (r.Forwards || r.Answers) {
			if f.Exists() && !c.around && r.Within == "" { // what it stands within is told
				l.idle(r, f, answer)
			}
			continue
		}
		before := l.onHost(r, c, cs, x, path)
		v := l.read(r, c, x, path)
		if v != nil && before != nil {
			v = before.Then(v)
		}
		switch {
		case v == nil:
		case c.on == OnDefault || !f.Exists():
			set = set.WithDefault(v)
		default:
			set = set.With(v)
		}
	}
	l.fit(set, cs, x)
	return l.following(l.yielding(set), func(r Rule) bool { _, ok := r.nearest(cs); return ok })
}

// fit tells what cannot hold beside a carrier's other values.
func (l *linker) fit(set trait.Set, cs []carrier, x *Place) {
	for _, r := range l.rules {
		c, ok := r.nearest(cs)
		if !ok || r.Fits == nil || x.To.Name != "" && !x.To.Protocol.IsHTTP() && !r.Bytes {
			continue
		}
		x.At = c.on
		if v, ok := set.Lookup(r.Name); ok && r.fieldOf(c, x).Exists() && (!r.Adds || !c.around) {
			r.Fits(v, set, r.fieldOf(c, x), c.said(x))
		}
	}
}

// onHost is what the host around a route says of a rule that adds up, beside what the route itself says; nil if one of
// them says nothing.
func (l *linker) onHost(r Rule, said carrier, cs []carrier, x *Place, path string) trait.Chained {
	i := slices.IndexFunc(cs, func(c carrier) bool { return c.on == OnHost })
	if !r.Adds || i < 0 || said.on == OnHost || !cs[i].node.Has(r.Field) {
		return nil
	}
	v, _ := l.read(r, cs[i], x, path).(trait.Chained)
	return v
}

// yielding is a set without what a host says for routes whose other values it leaves to them.
func (l *linker) yielding(set trait.Set) trait.Set {
	for _, r := range l.rules {
		v, _ := set.Lookup(r.Name)
		y, ok := v.(trait.Yielding)
		if !r.Adds || !ok {
			continue
		}
		set = set.Without(func(o trait.Value) bool { return o.TraitName() == r.Name })
		if left := y.Beside(set); left != nil {
			set = set.With(left)
		}
	}
	return set
}

// following is a set with what its values bring along of the rules that its carrier can have.
func (l *linker) following(set trait.Set, has func(Rule) bool) trait.Set {
	for _, r := range l.rules {
		if _, said := set.Lookup(r.Name); r.Follows == nil || said || !has(r) {
			continue
		}
		if v := r.Follows(set); v != nil {
			set = set.WithDefault(v)
		}
	}
	return set
}

// read settles the value of a rule from the carrier that says it, or could, for the object at path.
func (l *linker) read(r Rule, c carrier, x *Place, path string) trait.Value {
	f := r.fieldOf(c, x)
	if f.Exists() {
		l.place(path+"/"+r.Name, f.Pos())
		if x.To.Name != "" && len(l.ports[x.self]) > 1 {
			l.place(path+model.PortLines(x.To.Name)+"/"+r.Name, f.Pos())
		}
	}
	x.At = c.on
	l.portOfBytes(r, f, x)
	return r.Read(f, c.said(x))
}

// portOfBytes refuses what a port says of requests that has none.
func (l *linker) portOfBytes(r Rule, f intent.Node, x *Place) {
	if !x.OnPort() || !f.Exists() || r.Bytes || x.To.Protocol.IsHTTP() {
		return
	}
	l.add(diag.New(diag.CodeProtocol, f.Pos(), "%s is about requests, but port %q has none: it is %s", r.Field, x.To.Name, x.To.Protocol).
		WithFix("delete `%s`, or let the port say http, http2 or grpc", r.Field))
}

// silent reports whether what is said of the mesh or a namespace means nothing to a service or
// an external: it is about requests, and the carrier has bytes alone.
func (l *linker) silent(r Rule, c carrier, x *Place) bool {
	return c.on.wide() && !r.Bytes && !x.Gateway && l.onlyBytes(x.self)
}

// onlyBytes reports whether a service or an external has TCP ports alone.
func (l *linker) onlyBytes(id string) bool {
	ports := l.ports[id]
	return len(ports) > 0 && !slices.ContainsFunc(ports, func(p model.Port) bool { return p.Protocol.IsHTTP() })
}

// around are the carriers around everything in a package's namespace.
func (l *linker) around(p *pkg) []carrier {
	var out []carrier
	add := func(on On, n intent.Node) {
		out = append(out, carrier{on: on, node: n, around: true}, carrier{on: OnDefault, node: n.Field("default"), around: true})
	}
	if owner := l.ownerOf(p); !owner.root {
		add(OnNamespace, owner.node)
	}
	if l.root != nil {
		add(OnMesh, l.root.node)
	}
	return out
}

// ownerOf is the package whose words hold for the namespace of p.
func (l *linker) ownerOf(p *pkg) *pkg {
	if p.guest {
		return l.domains[p.namespace].owner
	}
	return p
}

// surroundings are the packages whose words around a unit of p it depends on, beside p.
func (l *linker) surroundings(p *pkg) [2]*intent.Package {
	out := [2]*intent.Package{}
	said := func(c carrier) bool {
		return c.node.Has("default") || slices.ContainsFunc(l.rules, func(r Rule) bool { return slices.Contains(r.On, c.on) && c.node.Has(r.Field) })
	}
	if owner := l.ownerOf(p); owner != p && said(carrier{on: OnNamespace, node: owner.node}) {
		out[0] = owner.from
	}
	if l.root != nil && said(carrier{on: OnMesh, node: l.root.node}) {
		out[1] = l.root.from
	}
	return out
}

// idle says that a field of a route means nothing because another one answers.
func (l *linker) idle(r Rule, f intent.Node, answer string) {
	why := "there is no destination that it could be about"
	if r.Answers {
		why = "a request has one answer"
	}
	l.add(diag.New(diag.CodeOneOf, f.Pos(), "%s is set, but the route answers by itself with its %s", f.Path(), answer).
		WithFix("delete `%s`: %s", r.Field, why))
}

// answer is the field by which a route answers requests itself, "" if there is none.
func (l *linker) answer(cs []carrier) string {
	for _, r := range l.rules {
		if c, ok := r.nearest(cs); ok && r.Answers && c.node.Has(r.Field) {
			return r.Field
		}
	}
	return ""
}

// answers are the fields of a route's features that answer its requests themselves.
func (l *linker) answers(s trait.Set) []string {
	var out []string
	for _, r := range l.rules {
		if _, ok := s.Lookup(r.Name); ok && r.Answers {
			out = append(out, r.Field)
		}
	}
	return out
}

// order gives every slice its total order.
func (l *linker) order() {
	slices.SortFunc(l.mesh.Services, func(a, b *model.Service) int { return strings.Compare(a.ID, b.ID) })
	slices.SortFunc(l.mesh.Externals, func(a, b *model.External) int { return strings.Compare(a.ID, b.ID) })
	slices.SortFunc(l.mesh.Nevers, func(a, b model.Never) int { return strings.Compare(model.NeverPath(a), model.NeverPath(b)) })
	slices.SortFunc(l.mesh.Gateways, func(a, b *model.Gateway) int { return strings.Compare(a.ID, b.ID) })
}
