package resolve

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/internal/diag"
)

// Whose is what. A namespace belongs to one package, and with it its accounts;
// services, externals, gateways and hosts belong to the package that declares
// them. Everybody else needs the owner's `delegate`, which gives what it says and
// nothing more. Everything that asks for an owner asks here.

// ownersWords are the fields that hold for a whole namespace, or open a door in its
// name: they stand in the package that owns it, and cannot be delegated.
func ownersWords() []string {
	return []string{"mtls", "access", "egress", "telemetry", "default", "gateway"}
}

// domain is a namespace and the packages that name it, sorted by folder.
type domain struct {
	// owner is whose it is. Where nobody may have it, it is the likeliest package, so
	// that linking can go on behind the problem.
	owner   *pkg
	members []*pkg
	// nobodys: nothing says whose it is, and nothing stands behind owner's name.
	nobodys bool
}

// use is something that runs as an account.
type use struct {
	pkg *pkg
	who string // `service "shop/web"`
	at  diag.Pos
}

// hostClaim is a package that has a host at one of its gateways, or attached it.
type hostClaim struct {
	pkg *pkg
	at  diag.Pos
}

// String names a package for people, with who answers for it.
func (p *pkg) String() string {
	name := "package " + strconv.Quote(p.dir)
	if p.root {
		name = "the root package"
	}
	if p.owner != p.dir {
		name += " (" + p.owner + ")"
	}
	return name
}

// asGuest is the package's folder if it is in a namespace of another one, else "".
func (p *pkg) asGuest() string {
	if p.guest {
		return p.dir
	}
	return ""
}

// claims reports whether the package says that its namespace is its own: only an
// owner delegates.
func (p *pkg) claims() bool {
	return p.node.Field("owns").Bool() || p.node.Field("delegate").Exists()
}

// claimedAt is where it says so, or where it names the namespace.
func (p *pkg) claimedAt() diag.Pos {
	for _, f := range []string{"owns", "delegate"} {
		if n := p.node.Field(f); n.Exists() {
			return n.Pos()
		}
	}
	return p.node.Field("namespace").Pos()
}

// settleOwners finds the owner of every namespace.
func (l *linker) settleOwners(pkgs []*pkg) {
	for _, p := range pkgs {
		l.readDelegations(p)
		if p.namespace == "" {
			continue
		}
		d := l.domains[p.namespace]
		if d == nil {
			d = &domain{}
			l.domains[p.namespace] = d
		}
		d.members = append(d.members, p)
	}
	for _, name := range sortedKeys(l.domains) {
		d := l.domains[name]
		l.settle(name, d)
		for _, m := range d.members {
			m.guest = m != d.owner
		}
	}
	// What is declared twice is the owner's first.
	slices.SortStableFunc(pkgs, func(a, b *pkg) int { return cmp.Compare(rankIf(b.guest), rankIf(a.guest)) })
}

// unnamed is how deep a folder lies that is not called like a namespace.
const unnamed = 1 << 30

// named is how deep the package's folder lies if it is called like the namespace.
func (p *pkg) named(namespace string) int {
	if path.Base(p.dir) != namespace {
		return unnamed
	}
	return strings.Count(p.dir, "/")
}

// settle finds the owner: the package that claims the namespace, or is alone with it.
// A folder's name counts for something: a package that is called like its namespace
// loses it to no claim from elsewhere, or from deeper, unless it says so.
func (l *linker) settle(name string, d *domain) {
	var claims, silent []*pkg
	for _, m := range d.members {
		switch {
		case m.claims():
			claims = append(claims, m)
		case !m.node.Field("owns").Exists():
			silent = append(silent, m)
		}
	}
	slices.SortStableFunc(silent, func(a, b *pkg) int { return cmp.Compare(a.named(name), b.named(name)) })
	switch {
	case len(claims) > 0 && len(silent) > 0 && silent[0].named(name) < unnamed && silent[0].named(name) <= claims[0].named(name):
		d.owner = silent[0]
		l.add(diag.New(diag.CodeNamespaceOwner, claims[0].claimedAt(), "namespace %q is claimed by %s, while %s is called like it", name, claims[0], d.owner).
			WithRelated(d.owner.claimedAt(), "the other package").WithFix("choose another namespace; if it is not the other's, let that one say `owns: false`"))
	case len(claims) > 0:
		d.owner = claims[0]
		for _, m := range claims[1:] {
			l.add(diag.New(diag.CodeNamespaceOwner, m.claimedAt(), "namespace %q is claimed by %s and by %s", name, d.owner, m).
				WithRelated(d.owner.claimedAt(), "the other claim").WithFix("one package owns a namespace: leave `owns: true` and `delegate` to it"))
		}
	case len(silent) > 0:
		d.owner = silent[0]
		if len(silent) > 1 && silent[0].named(name) == silent[1].named(name) {
			d.nobodys = true
			l.addUndecided(name, silent)
		}
	default:
		d.owner, d.nobodys = d.members[0], true
		l.add(diag.New(diag.CodeNamespaceOwner, d.owner.claimedAt(), "namespace %q belongs to nobody: every package that names it says `owns: false`", name).
			WithFix("write `owns: true` in one of them"))
	}
}

// addUndecided tells every package but the first of one that has as good a claim. Which
// of them came first is in no file, so that nobody is called the owner.
func (l *linker) addUndecided(namespace string, silent []*pkg) {
	for _, m := range silent[1:] {
		l.add(diag.New(diag.CodeNamespaceOwner, m.claimedAt(), "namespace %q is named by %s and by %s, and nothing says whose it is", namespace, silent[0], m).
			WithRelated(silent[0].claimedAt(), "the other package").
			WithFix("give one of them a namespace of its own; or let the one whose it is say `owns: true`, and `delegate` to the other"))
	}
}

// readDelegations reads what a package lets others do.
func (l *linker) readDelegations(p *pkg) {
	n := p.node.Field("delegate")
	for _, w := range []string{"owns", "delegate", "mtls", "access", "egress"} {
		if f := p.node.Field(w); f.Exists() && p.namespace == "" && (!p.root || w == "owns" || w == "delegate") {
			l.add(diag.New(diag.CodeNamespace, f.Pos(), "%s says `%s`, but has no namespace that it could own", p, w).WithFix("add: mesh: namespace: %q", namespaceFor(p.dir)))
		}
	}
	p.delegates = map[string]model.Delegation{}
	for _, e := range n.Fields() {
		d := model.Delegation{To: e.Name, Services: e.Node.Field("services").Bool(), Accounts: e.Node.Field("accounts").Strings()}
		for _, h := range e.Node.Field("hosts").Fields() {
			d.Hosts = append(d.Hosts, l.delegatedHost(h))
		}
		if e.Name == p.dir || !d.Services && len(d.Accounts) == 0 && len(d.Hosts) == 0 {
			why := "nothing"
			if e.Name == p.dir {
				why = "to itself"
			}
			l.add(diag.New(diag.CodeDelegation, e.Node.Pos(), "%s delegates %s", p, why).WithFix("delete it, or name a package and `services`, `accounts` or `hosts`"))
			continue
		}
		p.delegates[e.Name] = d
	}
}

func (l *linker) delegatedHost(e intent.Entry) model.DelegatedHost {
	h := model.DelegatedHost{Name: strings.ToLower(e.Name)}
	paths := e.Node.Field("paths")
	if paths.Exists() && len(paths.List()) == 0 {
		l.add(diag.New(diag.CodeDelegation, paths.Pos(), "an empty list of paths delegates nothing").WithFix("leave `paths` out to delegate all, or delete the host"))
	}
	for _, n := range paths.List() {
		p, ok := l.grantPath(n)
		if ok && p.Kind == model.PathEnd {
			l.add(diag.New(diag.CodePath, n.Pos(), "a delegation is told by how paths begin, and %q says how they end", n.Str()).WithFix(`write "/a", "/a/*" or "/a/{id}"`))
			continue
		}
		if ok {
			h.Paths = append(h.Paths, p)
		}
	}
	sortPaths(h.Paths)
	return h
}

// describeOwners writes the owners into the mesh and notes their lines.
func (l *linker) describeOwners() {
	for _, name := range sortedKeys(l.domains) {
		d := l.domains[name]
		ns := model.Namespace{Name: name, Package: d.owner.dir, Owner: d.owner.owner}
		l.place(model.OwnerPath(name), d.owner.claimedAt())
		for _, m := range d.members {
			if m.guest {
				ns.Guests = append(ns.Guests, m.dir)
				l.place(model.GuestPath(name, m.dir), m.claimedAt())
			}
		}
		for _, to := range sortedKeys(d.owner.delegates) {
			ns.Delegations = append(ns.Delegations, d.owner.delegates[to])
			l.place(model.DelegationPath(name, to), d.owner.node.Field("delegate").Field(to).Pos())
		}
		l.mesh.Namespaces = append(l.mesh.Namespaces, ns)
	}
}

// checkOwners tells what somebody does with another one's without a word of him.
func (l *linker) checkOwners(pkgs []*pkg) {
	for _, name := range sortedKeys(l.domains) {
		for _, m := range l.domains[name].members {
			if m.guest && !l.domains[name].nobodys {
				l.checkGuest(name, l.domains[name].owner, m)
			}
		}
	}
	l.checkAccounts()
	l.checkHosts()
	l.checkDelegations(pkgs)
}

// checkDelegations warns of words about what is not there: to no package, of no account,
// of no host. It may still come, but as a rule it is a typo.
func (l *linker) checkDelegations(pkgs []*pkg) {
	folders := make([]string, 0, len(pkgs))
	for _, p := range pkgs {
		folders = append(folders, p.dir)
	}
	for _, p := range pkgs {
		if len(p.delegates) == 0 {
			continue
		}
		accounts := l.accountsIn(p.namespace)
		for _, to := range sortedKeys(p.delegates) {
			n := p.node.Field("delegate").Field(to)
			if !slices.Contains(folders, to) {
				l.addMissing(n.Pos(), to, folders, fmt.Sprintf("%s delegates to package %q, which does not exist", p, to))
			}
			for _, account := range n.Field("accounts").List() {
				if !slices.Contains(accounts, account.Str()) {
					l.addMissing(account.Pos(), account.Str(), accounts, fmt.Sprintf("%s delegates account %q, as which nothing in namespace %q runs", p, account.Str(), p.namespace))
				}
			}
			hosts := l.hostsOf(p.dir, to) // the guest's, too: the word may be for a host that only it has
			for _, h := range p.delegates[to].Hosts {
				if !slices.ContainsFunc(hosts, func(host string) bool { return concerns(h.Name, host) }) {
					l.addMissing(n.Field("hosts").Field(h.Name).Pos(), h.Name, hosts, fmt.Sprintf("%s delegates host %q, which nobody has", p, h.Name))
				}
			}
		}
	}
}

func (l *linker) addMissing(at diag.Pos, name string, known []string, text string) {
	d := diag.Warn(diag.CodeDelegation, at, "%s", text).WithFix("delete it, or leave it for what is still to come")
	if near, ok := diag.Nearest(name, known); ok {
		d = d.WithFix("did you mean %q?", near)
	}
	l.add(d)
}

// accountsIn are the names of a namespace's accounts.
func (l *linker) accountsIn(namespace string) []string {
	var out []string
	for _, account := range sortedKeys(l.uses) {
		if ns, name, _ := strings.Cut(account, "/"); ns == namespace {
			out = append(out, name)
		}
	}
	return out
}

// hostsOf are the hosts that packages have.
func (l *linker) hostsOf(folders ...string) []string {
	var out []string
	for _, host := range sortedKeys(l.hosts) {
		if slices.ContainsFunc(l.hosts[host], func(c hostClaim) bool { return slices.Contains(folders, c.pkg.dir) }) {
			out = append(out, host)
		}
	}
	return out
}

// concerns reports whether two names of hosts have one in common.
func concerns(a, b string) bool {
	return a == b || slices.Contains(wildcardsOver(a), b) || slices.Contains(wildcardsOver(b), a)
}

// checkGuest checks a package in another one's namespace.
func (l *linker) checkGuest(namespace string, owner, m *pkg) {
	if !owner.delegates[m.dir].Services && !m.claims() {
		l.add(diag.New(diag.CodeNamespaceOwner, m.node.Field("namespace").Pos(), "%s is in namespace %q, which belongs to %s", m, namespace, owner).
			WithRelated(owner.claimedAt(), "the owner").
			WithFix("give it a namespace of its own; or let the owner say, in %s: %s", owner, delegateLine(model.Delegation{To: m.dir, Services: true, Accounts: l.foreignAccounts(owner, m)})))
	}
	for _, w := range ownersWords() {
		if w != "gateway" && m.root {
			continue // it is the whole mesh's there
		}
		if n := m.node.Field(w); n.Exists() {
			l.add(diag.New(diag.CodeOwnersWord, n.Pos(), "%s says `%s` in namespace %q, which only its owner may: %s", m, w, namespace, owner).
				WithRelated(owner.claimedAt(), "the owner").WithFix("move it into %s, or give this package a namespace of its own", owner))
		}
	}
}

// foreignAccounts are the names of the accounts that m uses and owner, too.
func (l *linker) foreignAccounts(owner, m *pkg) []string {
	var out []string
	for _, account := range sortedKeys(l.uses) {
		by := func(p *pkg) bool { return slices.ContainsFunc(l.uses[account], func(u use) bool { return u.pkg == p }) }
		if ns, name, _ := strings.Cut(account, "/"); ns == m.namespace && by(owner) && by(m) {
			out = append(out, name)
		}
	}
	return out
}

// checkAccounts: an account is that package's which alone uses it. Where several
// do, the namespace's owner decides, and all others need his word.
func (l *linker) checkAccounts() {
	for _, account := range sortedKeys(l.uses) {
		users := l.uses[account]
		namespace, name, _ := strings.Cut(account, "/")
		d := l.domains[namespace]
		if d == nil || !slices.ContainsFunc(users, func(u use) bool { return u.pkg != users[0].pkg }) {
			continue
		}
		owner := d.owner
		for _, u := range users {
			word := owner.delegates[u.pkg.dir]
			if u.pkg == owner || !word.Services || slices.Contains(word.Accounts, name) {
				continue // without `services` it has been told
			}
			other := users[slices.IndexFunc(users, func(x use) bool { return x.pkg != u.pkg })]
			l.add(diag.New(diag.CodeAccountOwner, u.at, "%s of %s runs as account %q, as %s of %s does: it would gain all that is granted to that one", u.who, u.pkg, account, other.who, other.pkg).
				WithRelated(other.at, "the other").
				WithFix("give it a `serviceAccount` of its own; or let the namespace's owner say, in %s: %s", owner, delegateLine(model.Delegation{To: u.pkg.dir, Services: true, Accounts: append(slices.Clone(word.Accounts), name)})))
		}
	}
}

// checkHosts: a host belongs to the package that declares it, and so do those below
// a wildcard. Which gateway a name leads to is decided by DNS, so all gateways count.
func (l *linker) checkHosts() {
	for _, host := range sortedKeys(l.hosts) {
		claims := l.hosts[host]
		for _, c := range claims[1:] {
			l.checkHost(host, c, host, claims[0])
		}
		for _, wildcard := range wildcardsOver(host) {
			for _, above := range l.hosts[wildcard] {
				for _, c := range claims {
					l.checkHost(host, c, wildcard, above)
				}
			}
		}
	}
}

// checkHost demands one package, or its word, for a host and what covers it.
func (l *linker) checkHost(host string, c hostClaim, over string, above hostClaim) {
	if c.pkg == above.pkg || above.pkg.delegatesHost(c.pkg, host) || host == over && c.pkg.delegatesHost(above.pkg, host) {
		return
	}
	text := fmt.Sprintf("host %q of %s belongs to %s", host, c.pkg, above.pkg)
	if host != over {
		text = fmt.Sprintf("host %q of %s lies under %q, which belongs to %s", host, c.pkg, over, above.pkg)
	}
	l.add(diag.New(diag.CodeHostOwner, c.at, "%s", text).WithRelated(above.at, "the owner's").
		WithFix("choose another host; for some of its paths, attach routes to %q at the owner's gateway; or, for all of it, let the owner say, in %s: %s",
			over, above.pkg, delegateLine(model.Delegation{To: c.pkg.dir, Hosts: []model.DelegatedHost{{Name: host}}})))
}

// delegatesHost reports whether p lets to have the whole of a host.
func (p *pkg) delegatesHost(to *pkg, host string) bool {
	return slices.ContainsFunc(p.delegates[to.dir].Hosts, func(h model.DelegatedHost) bool {
		return h.Paths == nil && (h.Name == host || slices.Contains(wildcardsOver(host), h.Name))
	})
}

// wildcardsOver lists the wildcards that cover a host, the nearest first. "*" is not
// among them: it takes what comes to one listener and is a claim to no name.
func wildcardsOver(host string) []string {
	var out []string
	for rest := strings.TrimPrefix(host, "*."); ; {
		_, up, ok := strings.Cut(rest, ".")
		if !ok {
			return out
		}
		out = append(out, "*."+up)
		rest = up
	}
}

// delegateLine is the line that an owner would have to write.
func delegateLine(d model.Delegation) string {
	var parts []string
	if d.Services {
		parts = append(parts, "services: true")
	}
	if len(d.Accounts) > 0 {
		parts = append(parts, "accounts: "+quotedList(d.Accounts))
	}
	for _, h := range d.Hosts {
		text := "{}"
		if len(h.Paths) > 0 {
			text = "paths: " + quotedList(pathTexts(h.Paths))
		}
		parts = append(parts, "hosts: "+strconv.Quote(h.Name)+": "+text)
	}
	text := strings.Join(parts, ", ")
	if len(parts) > 1 {
		text = "{" + text + "}"
	}
	return "mesh: delegate: " + strconv.Quote(d.To) + ": " + text
}

func quotedList(xs []string) string {
	out := make([]string, len(xs))
	for i, x := range xs {
		out[i] = strconv.Quote(x)
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// pathTexts are paths as a grant and a delegation write them.
func pathTexts(ps []model.Path) []string {
	var out []string
	for _, p := range ps {
		out = append(out, p.Written())
	}
	slices.Sort(out)
	return out
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
