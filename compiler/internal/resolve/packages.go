package resolve

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
)

// rootFields may stand only in the root package.
func rootFields() []string {
	return []string{"trustDomain", "environment", "targets", "collector", "limiter", "rule", "exemption", "aliases", "federation"}
}

// declare settles who is who: the frame of every package, and all names.
func declare(in *intent.Intent) *declared {
	l := &linker{declared: &declared{
		from: in, trustDomain: DefaultTrustDomain, capture: model.Transparent, kinds: map[string]string{}, gateways: map[string]string{}, waysOut: map[string]wayOut{},
		accounts: map[string][]string{}, former: map[string][]former{}, versions: map[string][]string{}, ports: map[string][]model.Port{}, described: map[string]described{}, collectors: map[string]model.Collector{}, limiters: map[string]model.Limiter{}, providers: map[string]model.Provider{}, logins: map[string]model.Login{},
		domains: map[string]*domain{}, home: map[string]*pkg{}, uses: map[string][]use{}, authorizers: map[string]model.Authorizer{}, settableAt: map[string][]string{}, workloads: map[string][]model.Workload{},
	}}
	l.begin(nil)
	l.pkgs = l.packages(in)
	for _, p := range l.pkgs {
		l.declare(p)
		l.declareProviders(p)
		l.declareCredentials(p)
	}
	for _, p := range l.pkgs {
		l.declareWorkloads(p)
		l.declareKeys(p)
		l.declareLogins(p)
		l.declareAuthorizers(p)
	}
	for _, p := range l.pkgs {
		l.declareSettable(p)
	}
	if l.root != nil {
		l.declareCollectors(l.root)
		l.declareLimiters(l.root)
	}
	l.places, l.problems, l.declared.named = l.own, l.diags, l.named
	l.declared.digest = l.tables(in.Environment)
	return l.declared
}

// packages settles the frame of every package: namespace and owner.
func (l *linker) packages(in *intent.Intent) []*pkg {
	var out []*pkg
	for _, ip := range in.Packages {
		p := &pkg{dir: ip.Dir, root: ip.Dir == ".", from: ip, node: ip.Mesh, namespace: ip.Mesh.Field("namespace").Str(), owner: ip.Mesh.Field("owner").Str()}
		if p.owner == "" {
			p.owner = ip.Dir
		}
		if p.namespace+"/" == gatewayPrefix {
			l.add(diag.New(diag.CodeNamespace, ip.Mesh.Field("namespace").Pos(), "no namespace is called %q: the first part of \"gateway/edge\" says that a gateway is meant", p.namespace).
				WithFix("choose another name"))
		}
		if p.root {
			l.declared.root = p
			l.readRoot(p.node, in.Environment)
		} else {
			for _, f := range rootFields() {
				if n := ip.Mesh.Field(f); n.Exists() {
					l.add(diag.New(diag.CodeRootOnly, n.Pos(), "%s is set in package %q", f, ip.Dir).
						WithFix("move it to the package in the repository's top folder"))
				}
			}
		}
		out = append(out, p)
	}
	l.settleOwners(out)
	if len(out) == 0 {
		l.add(diag.New(diag.CodeEmpty, diag.Pos{}, "no package of intent was found").WithFix("run `meshc init` to make a first one"))
	}
	return out
}

// settleModes settles the mTLS mode of every package: the root's holds for the mesh,
// an owner's for its namespace, guests included.
func (l *linker) settleModes() {
	meshMode := model.Strict
	for _, p := range l.pkgs {
		if p.root {
			meshMode = l.mode(p.node.Field("mtls"), model.Strict, "mesh", p.node.Field("owner").Str())
		}
	}
	for _, p := range l.pkgs {
		l.modes[p] = meshMode
		if !p.root && !p.guest {
			l.modes[p] = l.mode(p.node.Field("mtls"), meshMode, "namespace/"+p.namespace, p.owner)
		}
	}
	for _, p := range l.pkgs {
		if p.guest {
			l.modes[p] = l.modes[l.domains[p.namespace].owner]
		}
	}
	l.settleOpen(l.accesses, l.access)
	l.settleOpen(l.egresses, l.egress)
}

// settleOpen settles what is written nearest above each package's services of a mode that read reads: the root's
// holds for the mesh, an owner's for its namespace, guests included.
func (l *linker) settleOpen(into map[*pkg]intent.Node, read func(n, above intent.Node) intent.Node) {
	var whole intent.Node
	for _, p := range l.pkgs {
		if p.root {
			whole = read(p.node, whole)
		}
	}
	for _, p := range l.pkgs {
		if into[p] = whole; !p.root && !p.guest {
			into[p] = read(p.node, whole)
		}
	}
	for _, p := range l.pkgs {
		if p.guest {
			into[p] = into[l.domains[p.namespace].owner]
		}
	}
}

// access is what n says of access, or above where it says nothing, or has ended.
func (l *linker) access(n, above intent.Node) intent.Node {
	return l.open(n.Field("access"), above, "whatever no grant allows")
}

// egress is what n says of what is sent to where nothing is declared, or above likewise.
func (l *linker) egress(n, above intent.Node) intent.Node {
	return l.open(n.Field("egress"), above, "what goes to where nothing is declared")
}

// open is a, or above where a says nothing, or has ended. What it lets through below "enforce" has an end.
func (l *linker) open(a, above intent.Node, what string) intent.Node {
	if !a.Exists() || l.expired(a) {
		return above
	}
	l.endsWith(a)
	if mode := a.Field("mode").Str(); mode != "enforce" && !a.Field("until").Exists() {
		l.add(diag.New(diag.CodeUntil, a.Pos(), "mode %q lets through %s, and has no end", mode, what).
			WithFix("write owner, reason and until beside it"))
	}
	return a
}

// keyOf is what modes of access, of egress or of mTLS say, and where.
func keyOf(modes ...intent.Node) string {
	var out string
	for _, a := range modes {
		out += fmt.Sprint(a.Pos(), a.Field("mode").Str(), a.Field("owner").Str(), a.Field("reason").Str(), a.Field("until").Str())
	}
	return out
}

// openings are what modes of access below "enforce" let through, a grant for each port, sorted behind
// those of intent, whose names have no slash.
func (l *linker) openings(p *pkg, s *model.Service, n intent.Node) []model.Grant {
	var out []model.Grant
	around := l.access(n, l.accesses[p])
	for _, e := range n.Field("port").Fields() {
		a := l.access(e.Node, around)
		mode := model.OpennessOf(a.Field("mode").Str())
		if mode == "" {
			continue
		}
		g := model.Grant{Name: "access/" + e.Name, Open: mode, Terms: model.Terms{Anyone: true, Ports: []string{e.Name}}}
		path := model.GrantPath(s.ID, g.Name)
		l.place(path, a.Pos())
		l.exceptions = append(l.exceptions, Exception{Path: path, Kind: "grant", Mode: string(mode), Owner: a.Field("owner").Str(), Reason: a.Field("reason").Str(), Until: a.Field("until").Str()})
		out = append(out, g)
	}
	slices.SortFunc(out, func(a, b model.Grant) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// readRoot reads what holds for the whole mesh.
func (l *linker) readRoot(n intent.Node, env string) {
	if td := n.Field("trustDomain"); td.Exists() {
		l.trustDomain = td.Str()
	}
	l.readTrust(n)
	if c := n.Field("environment").Field(env).Field("capture"); c.Exists() {
		l.capture = model.Capture(c.Str())
	}
	for _, t := range n.Field("targets").Fields() {
		l.place("target/"+t.Name, t.Node.Pos())
		if t.Name != "envoy" {
			l.targets = append(l.targets, l.target(t))
		} else if w := t.Node.Field("without"); w.Exists() {
			l.add(diag.New(diag.CodeLoss, w.Pos(), "the envoy target goes without nothing: what is served is whole").
				WithFix("take it out; what Envoy cannot do as it is meant is no word of the language"))
		}
	}
}

// target reads what the root package says of an output form.
func (l *linker) target(e intent.Entry) Target {
	t := Target{Name: e.Name, Version: e.Node.Field("version").Str(), NetworkPolicies: e.Node.Field("networkPolicies").Bool(),
		AdmissionPolicies: e.Node.Field("admissionPolicies").Bool()}
	if in := e.Node.Field("injection"); in.Exists() {
		l.place("target/"+e.Name+"/injection", in.Pos())
		t.Injection = &release.Injection{Image: in.Field("image").Str(), Server: in.Field("server").Str()}
	}
	for _, w := range e.Node.Field("without").Fields() {
		l.place(model.LossPath(e.Name, w.Name), w.Node.Pos())
		t.Without = append(t.Without, Accepted{Name: w.Name, Owner: w.Node.Field("owner").Str(), Reason: w.Node.Field("reason").Str(), Pos: w.Node.Pos()})
	}
	return t
}

// mode reads an mTLS block. Without one, or after its end, above holds. A mode
// weaker than strict is an exception that policies see.
func (l *linker) mode(n intent.Node, above model.MTLS, path, owner string) model.MTLS {
	if !n.Exists() || l.expired(n) {
		return above
	}
	m := model.MTLS(n.Field("mode").Str())
	if o := n.Field("owner").Str(); o != "" {
		owner = o
	}
	if m != model.Strict {
		l.exceptions = append(l.exceptions, Exception{Path: path, Kind: "mtls", Mode: string(m), Owner: owner,
			Reason: n.Field("reason").Str(), Until: n.Field("until").Str()})
		l.place(path, n.Pos())
	}
	return m
}

// expired reads n.until: the instant is the last one in force. A block in force
// notes the instant, a block that has ended is told and left out.
func (l *linker) expired(n intent.Node) bool { return l.ended(n, n.Path()) }

// endsWith says that what ends at an instant has somebody who answers for it meanwhile.
func (l *linker) endsWith(n intent.Node) {
	u := n.Field("until")
	if !u.Exists() {
		return
	}
	var missing []string
	for _, f := range []string{"owner", "reason"} {
		if !n.Field(f).Exists() {
			missing = append(missing, "`"+f+"`")
		}
	}
	if len(missing) > 0 {
		l.add(diag.New(diag.CodeOneOf, u.Pos(), "%s says `until` without %s", n.Path(), strings.Join(missing, " and ")).
			WithFix("say who answers for it and why it is needed that long, or leave `until` out"))
	}
}

// lasting are the entries that count: those that have not ended.
func (l *linker) lasting(entries []intent.Entry) []intent.Entry {
	var out []intent.Entry
	for _, e := range entries {
		l.endsWith(e.Node)
		if !l.expired(e.Node) {
			out = append(out, e)
		}
	}
	return out
}

// unwritten is what a map says of a name that it does not have. No name of intent is empty.
func unwritten(m intent.Node) intent.Node { return m.Field("") }

// ended is expired for a part of n, which what names.
func (l *linker) ended(n intent.Node, what string) bool {
	u := n.Field("until")
	if !u.Exists() {
		return false
	}
	t, err := time.Parse(time.RFC3339, u.Str())
	if err != nil {
		l.add(diag.New(diag.CodeUntil, u.Pos(), "until is %q, not an instant%s", u.Str(), whyNot(err)).
			WithFix(`write RFC 3339, such as "2027-01-31T18:00:00Z"`))
		return false
	}
	t = t.UTC()
	l.dates.note(t, l.at.After(t))
	if l.at.After(t) {
		l.add(diag.Warn(diag.CodeExpired, u.Pos(), "%s ended at %s and is left out", what, t.Format(time.RFC3339)).
			WithFix("delete it, or set a later `until` with a reason"))
		return true
	}
	l.endings[ending{t, u.Pos()}] = true
	return false
}

// whyNot is what Go says of a time that has the right form, such as ": day out of range".
func whyNot(err error) string {
	var p *time.ParseError
	if errors.As(err, &p) {
		return p.Message
	}
	return ""
}

// lineOf is where a mesh path was written, the zero Pos if that is not known.
func (l *linker) lineOf(path string) diag.Pos {
	pos, _ := l.pos.At(path)
	return pos
}

// place notes where a mesh path was written; the first one stays.
func (l *linker) place(path string, p diag.Pos) {
	if _, ok := l.pos.At(path); !ok {
		(*l.own)[path] = p
	}
}

// declare enters the names of a package into the tables.
func (l *linker) declare(p *pkg) {
	services, externals, gateways := p.node.Field("service").Fields(), p.node.Field("external").Fields(), p.node.Field("gateway").Fields()
	if p.namespace == "" && len(services)+len(externals)+len(gateways)+len(p.node.Field("certificate").Fields())+len(p.node.Field("jwt").Fields())+len(p.node.Field("login").Fields()) > 0 {
		l.add(diag.New(diag.CodeNamespace, p.node.Pos(), "package %q declares services or gateways but has no namespace", p.dir).
			WithFix("add: mesh: namespace: %q", namespaceFor(p.dir)))
	}
	for _, e := range services {
		l.declareService(p, e)
	}
	for _, e := range externals {
		id := p.namespace + "/" + e.Name
		if l.claim(model.ExternalPath(id), "external", id, e.Node.Pos()) {
			l.home[id] = p
			l.declarePorts(id, e.Node, outside)
		}
	}
	for _, e := range gateways {
		id := p.namespace + "/" + e.Name
		if !l.free(model.GatewayPath(id), "gateway", id, e.Node.Pos()) {
			continue
		}
		l.gateways[id] = id
		l.declareWayOut(id, e)
		l.home[model.GatewayPath(id)] = p
		l.runs(p, "gateway "+strconv.Quote(id), gatewayAccount(e), e.Node)
		l.accounts[gatewayPrefix+id] = []string{p.namespace + "/" + gatewayAccount(e)}
		l.declareFormer(p, gatewayPrefix+id, e.Node)
		if _, ok := l.gateways[e.Name]; ok {
			l.gateways[e.Name] = ""
		} else {
			l.gateways[e.Name] = id
		}
	}
}

// namespaceFor proposes a namespace for the package in dir.
func namespaceFor(dir string) string {
	if base := path.Base(dir); base != "." {
		return strings.ToLower(strings.ReplaceAll(base, "_", "-"))
	}
	return "default"
}

// gatewayAccount is the gateway's service account: its own name if it names none.
func gatewayAccount(e intent.Entry) string {
	if a := e.Node.Field("serviceAccount").Str(); a != "" {
		return a
	}
	return e.Name
}

func (l *linker) declareService(p *pkg, e intent.Entry) {
	id := p.namespace + "/" + e.Name
	if !l.claim(model.ServicePath(id), "service", id, e.Node.Pos()) {
		return
	}
	l.home[id] = p
	l.declarePorts(id, e.Node, inside)
	l.declareDescriptors(p, id, e.Node)
	account := e.Node.Field("serviceAccount").Str()
	if account == "" {
		account = e.Name
	}
	versions := e.Node.Field("version").Fields()
	l.declareFormer(p, id, e.Node)
	for _, v := range versions {
		l.declareFormer(p, id, v.Node)
	}
	if len(versions) == 0 {
		l.versions[id] = []string{"default"}
		l.accounts[id] = []string{p.namespace + "/" + account}
		l.runs(p, "service "+strconv.Quote(id), account, e.Node)
		return
	}
	for _, v := range versions {
		a, at := v.Node.Field("serviceAccount").Str(), v.Node
		if a == "" {
			a, at = account, e.Node
		}
		l.runs(p, "service "+strconv.Quote(id), a, at)
		l.versions[id] = append(l.versions[id], v.Name)
		l.accounts[id] = append(l.accounts[id], p.namespace+"/"+a)
	}
	slices.Sort(l.accounts[id])
	l.accounts[id] = slices.Compact(l.accounts[id])
}

// runs notes who runs as which account of the package's namespace. n may say so.
func (l *linker) runs(p *pkg, who, account string, n intent.Node) {
	u, key := use{pkg: p, who: who, at: n.Field("serviceAccount").Pos()}, p.namespace+"/"+account
	if !slices.Contains(l.uses[key], u) {
		l.uses[key] = append(l.uses[key], u)
	}
}

// inside is what a port of a service speaks if nothing is written.
func inside(model.Port) model.Protocol { return model.HTTP }

// declarePorts enters the ports of a service or an external, which speak what unsaid says if
// they do not say it.
func (l *linker) declarePorts(id string, n intent.Node, unsaid func(model.Port) model.Protocol) {
	main := ""
	for _, e := range n.Field("port").Fields() {
		p := model.Port{Name: e.Name, Number: uint32(e.Node.Field("number").Int()), Main: e.Node.Field("main").Bool()}
		p.Protocol = unsaid(p)
		if v := e.Node.Field("protocol"); v.Exists() {
			p.Protocol = model.Protocol(v.Str())
		}
		if p.Main && main != "" {
			l.add(diag.New(diag.CodeDuplicate, e.Node.Field("main").Pos(), "ports %q and %q of %q both say that they are the main one", main, e.Name, id).
				WithFix("let one of them say it"))
		}
		if p.Main {
			main = e.Name
		}
		l.ports[id] = append(l.ports[id], p)
	}
}

// claim enters an ID that services and externals share.
func (l *linker) claim(path, kind, id string, at diag.Pos) bool {
	if other, ok := l.kinds[id]; ok {
		l.add(diag.New(diag.CodeDuplicate, at, "%s %q is declared twice", kind, id).WithRelated(l.declaredAt(id), "first declared here, as %s", other).
			WithFix("rename one of them, or join the two declarations in one package"))
		return false
	}
	l.kinds[id] = kind
	l.place(path, at)
	return true
}

// declaredAt is where a service or an external is declared.
func (l *linker) declaredAt(id string) diag.Pos {
	if l.kinds[id] == "external" {
		return l.lineOf(model.ExternalPath(id))
	}
	return l.lineOf(model.ServicePath(id))
}

func (l *linker) free(path, kind, id string, at diag.Pos) bool {
	if first, ok := l.pos.At(path); ok {
		l.add(diag.New(diag.CodeDuplicate, at, "%s %q is declared twice", kind, id).WithRelated(first, "first declared here").
			WithFix("rename one of them"))
		return false
	}
	l.place(path, at)
	return true
}

// qualify gives a reference its namespace.
func (p *pkg) qualify(ref string) string {
	if strings.Contains(ref, "/") {
		return ref
	}
	return p.namespace + "/" + ref
}
