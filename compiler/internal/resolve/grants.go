package resolve

import (
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/hop"
)

// grantsOf reads the grants of a service: those that hold, and those that are counted alone.
func (l *linker) grantsOf(p *pkg, s *model.Service, n intent.Node) (out, shadows []model.Grant) {
	for _, e := range n.Field("grant").Fields() {
		l.place(model.GrantPath(s.ID, e.Name), e.Node.Pos())
		g := l.grant(p, s, e) // checked, ended or not
		l.admitsStrangers(p, s, n, e, g)
		l.endsWith(e.Node)
		if l.expired(e.Node) {
			continue
		}
		if e.Node.Field("shadow").Bool() {
			l.canCount("grant", e, s, g.Terms)
			shadows = append(shadows, g)
			continue
		}
		if n := e.Node; g.Anyone && n.Field("until").Exists() {
			l.exceptions = append(l.exceptions, Exception{Path: model.GrantPath(s.ID, g.Name), Kind: "grant",
				Owner: n.Field("owner").Str(), Reason: n.Field("reason").Str(), Until: n.Field("until").Str()})
		}
		out = append(out, g)
	}
	return out, shadows
}

// admitsStrangers refuses a grant to callers without identity that lets them in from anywhere, that none of its
// ports ever takes plaintext for, or that says to last longer than they do.
func (l *linker) admitsStrangers(p *pkg, s *model.Service, n intent.Node, e intent.Entry, g model.Grant) {
	if !g.Plaintext {
		return
	}
	word := e.Node.Field("plaintext")
	if everywhere(g.Sources) {
		l.add(diag.New(diag.CodeStrangers, word.Pos(), "grant %q lets in callers without identity from anywhere", e.Name).
			WithFix(`say where they are: sources: ["10.2.0.0/16"]`))
	}
	taken, end := false, time.Time{}
	for _, port := range s.Ports {
		if g.Ports == nil || slices.Contains(g.Ports, port.Name) {
			is, until := l.takesPlaintext(p, n, port.Name)
			if taken = taken || is; until.After(end) {
				end = until
			}
		}
	}
	if !taken {
		l.add(diag.New(diag.CodeStrangers, word.Pos(), "grant %q lets in callers without identity, and mTLS is strict where it holds: nobody comes there without one", e.Name).
			WithFix(`delete ` + "`plaintext`" + `, or let the port say for a time: mtls: {mode: "permissive", owner: "…", reason: "…", until: "…"}`))
		return
	}
	if until, err := time.Parse(time.RFC3339, e.Node.Field("until").Str()); err == nil && until.After(end) {
		l.add(diag.New(diag.CodeStrangers, e.Node.Field("until").Pos(), "grant %q is for callers without identity, whom its ports take until %s only", e.Name, end.UTC().Format(time.RFC3339)).
			WithFix("let it end then at the latest, or leave `until` out: it ends with what lets them come"))
	}
}

// everywhere reports whether ranges, no range being all of them, together leave out no address of IPv4, or none of IPv6. What
// is taken out of them again does not count: that is all but somebody.
func everywhere(sources []string) bool {
	return len(sources) == 0 || cover(sources, netip.IPv4Unspecified()) || cover(sources, netip.IPv6Unspecified())
}

// cover reports whether ranges leave out no address from one on, of its family. A range begins before what it
// has in it, so that each has to begin no later than the ones before it end.
func cover(sources []string, next netip.Addr) bool {
	var ranges []netip.Prefix
	for _, source := range sources {
		if r, err := netip.ParsePrefix(source); err == nil && r.Addr().BitLen() == next.BitLen() {
			ranges = append(ranges, r)
		}
	}
	slices.SortFunc(ranges, netip.Prefix.Compare)
	for _, r := range ranges {
		if next.Less(r.Addr()) {
			return false
		}
		if last := lastOf(r); !last.Less(next) {
			if next = last.Next(); !next.IsValid() {
				return true
			}
		}
	}
	return false
}

// lastOf is the last address of a range.
func lastOf(r netip.Prefix) netip.Addr {
	b := r.Addr().AsSlice()
	for i := r.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// takesPlaintext reports whether a port does at some time, by what is written, and until when at the latest.
func (l *linker) takesPlaintext(p *pkg, n intent.Node, port string) (taken bool, until time.Time) {
	for _, m := range append([]intent.Node{n.Field("port").Field(port).Field("mtls"), n.Field("mtls")}, l.mtlsAbove(p)...) {
		if !m.Exists() {
			continue
		}
		end, err := time.Parse(time.RFC3339, m.Field("until").Str())
		if err != nil {
			end = time.Unix(1<<40, 0) // it has none: nothing above counts
		}
		if model.MTLS(m.Field("mode").Str()) != model.Strict {
			if taken = true; end.After(until) {
				until = end
			}
		}
		if err != nil {
			break
		}
	}
	return taken, until
}

// mtlsAbove are the mTLS blocks around a package's services, the nearest first, ended or not.
func (l *linker) mtlsAbove(p *pkg) []intent.Node {
	var out []intent.Node
	if owner := l.ownerOf(p); !owner.root && owner.node.Has("mtls") {
		out = append(out, owner.node.Field("mtls"))
	}
	if l.root != nil && l.root.node.Has("mtls") {
		out = append(out, l.root.node.Field("mtls"))
	}
	return out
}

// canCount refuses what is counted at a port of bytes: who gets in there is the handshake's to say,
// which counts nothing.
func (l *linker) canCount(what string, e intent.Entry, s *model.Service, t model.Terms) {
	for _, p := range s.Ports {
		if !p.Protocol.IsHTTP() && (t.Ports == nil || slices.Contains(t.Ports, p.Name)) {
			l.add(diag.New(diag.CodeProtocol, e.Node.Field("shadow").Pos(), "%s %q is to be counted, but port %q takes bytes, whose callers the handshake tells apart: nobody counts there", what, e.Name, p.Name).
				WithFix("name the ports that speak HTTP in `ports`"))
		}
	}
}

// asked are the grants of probes and scrapes. They are sorted behind the others: a name of
// intent has no slash.
func (l *linker) asked(s *model.Service, n intent.Node) []model.Grant {
	var out []model.Grant
	for _, kind := range []string{"probe", "scrape"} {
		for _, e := range n.Field(kind).Fields() {
			port, ok := l.httpPort(s.ID, e.Node.Field("port"), e.Node, "port")
			path := e.Node.Field("path")
			if why := badPath(path.Str(), false); why != "" {
				l.add(diag.New(diag.CodePath, path.Pos(), "path %q %s", path.Str(), why).WithFix("write the path as it is after normalisation, such as \"/healthz\""))
				ok = false
			}
			if !ok {
				continue
			}
			name := kind + "/" + e.Name
			l.place(model.GrantPath(s.ID, name), e.Node.Pos())
			out = append(out, model.Grant{Name: name, Asked: true, Terms: model.Terms{
				Anyone: true, Methods: []string{"GET", "HEAD"}, Paths: []model.Path{{Kind: model.PathExact, Value: path.Str()}}, Ports: []string{port},
			}})
		}
	}
	return out
}

// askedByCallers are the grants of what callers' proxies ask by themselves (Rule.Asks), each port's once: of ports to which
// another grant lets somebody in, and without the upgrades that those may have. Where nobody has an identity they would be
// anyone's, which is refused.
func (l *linker) askedByCallers(s *model.Service) []model.Grant {
	var out []model.Grant
	for _, r := range l.rules {
		if r.Asks == nil {
			continue
		}
		for _, p := range portsGranted(s) {
			for _, v := range s.Versions {
				value, says := s.TraitsTo(p.Name, v.Name).Lookup(r.Name)
				if !says {
					continue
				}
				what, ok := r.Asks(value)
				if !ok || slices.ContainsFunc(out, func(g model.Grant) bool {
					return g.Ports[0] == p.Name && slices.Equal(g.Methods, what.Methods) && slices.Equal(g.Paths, what.Paths)
				}) {
					continue
				}
				if p.MTLS == model.Disable {
					l.add(diag.New(diag.CodeNotAsked, l.saidAt(s, p, v, r.Name), "port %q of %q takes no mTLS, where nobody has an identity: what callers' proxies ask would be open to anyone", p.Name, s.ID).
						WithFix("take mTLS there, or let the port be asked by a connection: port: %q: %s: tcp: {}", p.Name, r.Field))
					continue
				}
				what.Mesh, what.Ports = true, []string{p.Name}
				g := model.Grant{Name: r.Name + "/" + p.Name + "/" + v.Name, Asked: true, Terms: what, Not: model.Terms{Headers: []model.Value{{Name: hop.UpgradeTo, Kind: space.Present}}}}
				l.place(model.GrantPath(s.ID, g.Name), l.saidAt(s, p, v, r.Name))
				out = append(out, g)
			}
		}
	}
	return out
}

// portsGranted are the ports of a service to which a grant lets somebody in.
func portsGranted(s *model.Service) []model.Port {
	return slices.DeleteFunc(slices.Clone(s.Ports), func(p model.Port) bool {
		return !slices.ContainsFunc(s.Grants, func(g model.Grant) bool { return g.Ports == nil || slices.Contains(g.Ports, p.Name) })
	})
}

// checkAskable refuses denies that refuse callers what their proxies ask by themselves, and not all else as well: they
// would take all workloads to be ill, and send nothing.
func (l *linker) checkAskable(s *model.Service) {
	for _, a := range s.Grants {
		if !a.Asked || !a.Mesh { // a probe, or a scrape
			continue
		}
		for _, d := range s.Denies {
			if d.Whole(a.Ports[0]) || !d.MayRefuseCheck(a.Ports[0], a.Methods[0], a.Paths[0].Value) {
				continue
			}
			l.add(diag.New(diag.CodeNotAsked, l.lineOf(model.DenyPath(model.ServicePath(s.ID), d.Name)), "deny %q may refuse %s %s, by which callers' proxies ask port %q of %q who is well: to callers whom it refuses no workload is, whatever they ask for",
				d.Name, a.Methods[0], a.Paths[0].Value, a.Ports[0], s.ID).
				WithRelated(l.lineOf(model.GrantPath(s.ID, a.Name)), "what is asked").WithFix("leave the path out of it: deny: %q: not: paths: [%q]", d.Name, a.Paths[0].Value))
		}
	}
}

// saidAt is where what callers know of a version at a port is said: by the port, the version or the service.
func (l *linker) saidAt(s *model.Service, p model.Port, v model.Version, feature string) diag.Pos {
	for _, path := range []string{model.VersionPath(s.ID, v.Name), model.ServicePath(s.ID)} {
		for _, at := range []string{path + model.PortLines(p.Name), path} {
			if pos, ok := l.pos.At(at + "/" + feature); ok {
				return pos
			}
		}
	}
	return l.lineOf(model.ServicePath(s.ID))
}

// checkAsked warns of what grants keep to some callers and a probe or a scrape opens to all.
func (l *linker) checkAsked(s *model.Service) {
	for _, a := range s.Grants {
		if !a.Asked {
			continue
		}
		for _, g := range s.Grants {
			if g.Asked || g.Anyone || a.Mesh && g.Mesh || g.Ports != nil && !slices.Contains(g.Ports, a.Ports[0]) || !slices.ContainsFunc(g.Paths, func(p model.Path) bool { return p.Pattern().Matches(a.Paths[0].Value) }) {
				continue
			}
			who := "anyone"
			if a.Mesh {
				who = "everyone in the mesh"
			}
			l.add(diag.Warn(diag.CodeOpened, l.lineOf(model.GrantPath(s.ID, a.Name)), who+" may read %q of %q by this, which grant %q gives to some callers", a.Paths[0].Value, s.ID, g.Name).
				WithRelated(l.lineOf(model.GrantPath(s.ID, g.Name)), "the grant").WithFix("ask another path, which tells nothing, or take the path out of the grant"))
		}
	}
}

func (l *linker) grant(p *pkg, s *model.Service, e intent.Entry) model.Grant {
	n := e.Node
	g := model.Grant{Name: e.Name, Terms: l.termsOf(p, n), Not: l.exceptOf(p, n.Field("not"))}
	l.saysWho("grant "+strconv.Quote(e.Name), g.Terms, n, orAnyone)
	g.Ports = l.grantPorts(s, n)
	l.describes(n, s.ID, g.Ports)
	l.needRequests("grant", e, s, both(g.Terms, g.Not))
	l.seesClients("grant", e, g.Terms, g.Not)
	l.canGrant(e, g)
	return g
}

// both are terms with what others say of requests.
func both(t, other model.Terms) model.Terms {
	t.Methods, t.Paths, t.Headers = slices.Concat(t.Methods, other.Methods), slices.Concat(t.Paths, other.Paths), slices.Concat(t.Headers, other.Headers)
	t.Hosts = slices.Concat(t.Hosts, other.Hosts)
	t.Query, t.Users = slices.Concat(t.Query, other.Query), slices.Concat(t.Users, other.Users)
	t.Sources, t.Clients = slices.Concat(t.Sources, other.Sources), slices.Concat(t.Clients, other.Clients)
	return t
}

// canGrant refuses a grant whose own exceptions leave it nothing, and warns of one that says who
// may not call instead of who may.
func (l *linker) canGrant(e intent.Entry, g model.Grant) {
	not := e.Node.Field("not")
	if not.Exists() && !l.leaves(g.Terms, g.Not) {
		l.add(diag.New(diag.CodeNever, e.Node.Pos(), "grant %q lets nobody through: its `not` takes back all that it says", e.Name).
			WithFix("delete it, or what excepts too much"))
		return
	}
	if names := len(not.Field("from").List()) + len(g.Not.Namespaces) + len(g.Not.Identities); names > 0 && (g.Mesh || g.Anyone) {
		l.add(diag.Warn(diag.CodeAllBut, not.Pos(), "grant %q lets in all but those whom its `not` names, whoever comes to the mesh later too", e.Name).
			WithFix("name those who may call in `from` or `namespaces`, or refuse the others by a deny"))
	}
}

// orAnyone is how terms that may hold for callers without identity name somebody.
const orAnyone = "add `from`, `namespaces`, `accounts`, `identities`, `mesh: true` (every workload), `plaintext: true` (callers without identity) or `anyone: true` (all of these)"

// saysWho refuses terms that name nobody.
func (l *linker) saysWho(what string, t model.Terms, n intent.Node, fix string) {
	if len(n.Field("from").List()) == 0 && len(n.Field("accounts").List()) == 0 && len(n.Field("identities").List()) == 0 && len(t.Namespaces) == 0 && !t.Mesh && !t.Plaintext && !t.Anyone {
		l.add(diag.New(diag.CodeWho, n.Pos(), "%s does not say who", what).
			WithFix("%s", fix))
	}
}

// termsOf reads who asks for what, without ports.
func (l *linker) termsOf(p *pkg, n intent.Node) model.Terms {
	t := l.eachOf(p, n)
	if called, ok := l.called(n); ok {
		t.Paths = l.pathsOf(n, t.Paths, called)
	}
	return t
}

// exceptOf reads what terms leave out, each field of it by itself, without ports.
func (l *linker) exceptOf(p *pkg, n intent.Node) model.Terms {
	t := l.eachOf(p, n)
	if called, ok := l.called(n); ok {
		t.Paths = append(t.Paths, called)
		sortPaths(t.Paths)
	}
	return t
}

// called is the path of the methods of gRPC that terms name.
func (l *linker) called(n intent.Node) (p model.Path, ok bool) {
	if called := n.Field("grpc"); called.Exists() {
		p = (&Place{l: l}).onMethodOfGRPC(called).Path
	}
	return p, !p.IsZero()
}

// pathsOf are paths, all if there are none, that methods of gRPC have.
func (l *linker) pathsOf(n intent.Node, paths []model.Path, called model.Path) []model.Path {
	if len(paths) == 0 {
		return []model.Path{called}
	}
	var out []model.Path
	for _, p := range paths {
		if p.Kind == model.PathEnd && called.Kind != model.PathExact {
			l.add(diag.New(diag.CodeOneOf, n.Field("grpc").Pos(), "methods of gRPC and how a path ends cannot be asked for together").
				WithRelated(n.Field("paths").Pos(), "paths").WithFix("name the service and the method, or write the paths"))
			return []model.Path{called}
		}
		if both, ok := model.IntersectPaths(p, called); ok {
			out = append(out, both)
		}
	}
	if len(out) == 0 {
		l.add(diag.New(diag.CodeNever, n.Field("grpc").Pos(), "no method of gRPC that this names has one of the paths").
			WithRelated(n.Field("paths").Pos(), "paths").WithFix("delete one of them: \"/shop.Reviews/Watch\" is the path of a method"))
	}
	sortPaths(out)
	return out
}

// eachOf reads the fields of terms, but for those of which several are about the same.
func (l *linker) eachOf(p *pkg, n intent.Node) model.Terms {
	t := model.Terms{Mesh: n.Field("mesh").Bool(), Plaintext: n.Field("plaintext").Bool(), Anyone: n.Field("anyone").Bool()}
	for _, f := range n.Field("from").List() {
		t.Accounts = append(t.Accounts, l.caller(p, f)...)
	}
	t.Namespaces = l.namespaces(n.Field("namespaces"))
	for _, a := range n.Field("accounts").List() {
		l.readAccount(p, a, &t)
	}
	slices.Sort(t.Accounts)
	t.Accounts = slices.Compact(t.Accounts)
	slices.Sort(t.Patterns)
	t.Patterns = slices.Compact(t.Patterns)
	t.Identities = l.identities(n.Field("identities"))
	l.nonEmpty(n.Field("methods"), "methods")
	t.Methods = l.methods(n.Field("methods"))
	for _, pn := range n.Field("paths").List() {
		if path, ok := l.grantPath(pn); ok {
			t.Paths = append(t.Paths, path)
		}
	}
	l.nonEmpty(n.Field("paths"), "paths")
	sortPaths(t.Paths)
	t.Hosts = slices.Sorted(slices.Values(l.nonEmpty(n.Field("hosts"), "hosts")))
	t.Sources, t.Clients = l.ranges(n, "sources"), l.ranges(n, "clients")
	for _, e := range n.Field("headers").Fields() {
		if v, ok := l.accessHeader(e); ok {
			t.Headers = append(t.Headers, v)
		}
	}
	slices.SortFunc(t.Headers, func(a, b model.Value) int { return strings.Compare(a.Name, b.Name) })
	for _, e := range n.Field("query").Fields() {
		if v, ok := l.accessParameter(e); ok {
			t.Query = append(t.Query, v)
		}
	}
	t.Users = l.userTerms(p, n.Field("user"))
	return t
}

// ranges reads a list of addresses and ranges of them, as they are without what is not of their network.
func (l *linker) ranges(n intent.Node, field string) []string {
	l.nonEmpty(n.Field(field), field)
	var out []string
	for _, r := range n.Field(field).List() {
		p, err := netip.ParsePrefix(r.Str())
		if a, single := netip.ParseAddr(r.Str()); single == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		switch {
		case err != nil || p.Addr().Zone() != "" || p.Addr().Is4In6():
			l.add(diag.New(diag.CodeRange, r.Pos(), "%q is no address and no range of them", r.Str()).WithFix(`write "10.2.0.7", "10.2.0.0/16" or "2001:db8::/32"`))
		case p != p.Masked():
			l.add(diag.New(diag.CodeRange, r.Pos(), "%q is an address with the size of its network: the range is %s", r.Str(), p.Masked()).WithFix("write %q, or %q for that address alone", p.Masked(), p.Addr()))
		default:
			out = append(out, p.String())
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// seesClients refuses addresses of visitors where somebody else than a gateway may call: what other callers
// say of whom they call for is their word.
func (l *linker) seesClients(what string, e intent.Entry, t, not model.Terms) {
	if len(t.Clients)+len(not.Clients) == 0 {
		return
	}
	if at := slices.IndexFunc(t.Accounts, func(a string) bool { return !l.onlyGateway(a) }); t.Mesh || t.Plaintext || t.Anyone || len(t.Namespaces)+len(t.Patterns)+len(t.Identities) > 0 || at >= 0 {
		l.add(diag.New(diag.CodeWho, e.Node.Pos(), "%s %q tells visitors apart by their addresses, which gateways alone see, and names others who call", what, e.Name).
			WithFix("name gateways in `from`, such as \"gateway/edge/edge\", or write `sources` for the address of the connection"))
	}
}

// onlyGateway reports whether gateways and no services run as an account.
func (l *linker) onlyGateway(account string) bool {
	of := false
	for id := range l.accounts {
		if slices.Contains(l.accountsOf(id), account) {
			if !strings.HasPrefix(id, gatewayPrefix) {
				return false
			}
			of = true
		}
	}
	return of
}

// accessHeader reads what a header is like: a value that can be told from several.
func (l *linker) accessHeader(e intent.Entry) (model.Value, bool) {
	v := model.Value{Name: strings.ToLower(e.Name), Kind: space.Kind(l.oneOf(e.Node, string(space.Exact), string(space.Prefix), space.Present))}
	text := e.Node.Field(string(v.Kind))
	refuse := func(code diag.Code, fix, format string, args ...any) (model.Value, bool) {
		l.add(diag.New(code, e.Node.Pos(), format, args...).WithFix("%s", fix))
		return v, false
	}
	switch {
	case v.Kind == "":
		return v, false
	case hop.Reserved(v.Name) || hop.OfConnection(v.Name):
		return refuse(diag.CodeRange, "ask for a header of your own, or for who calls", "header %q belongs to the proxies: they replace what a caller sends", v.Name)
	case v.Kind == space.Present:
		return v, true
	}
	v.Text = text.Str()
	switch {
	case v.Text == "" && v.Kind == space.Prefix:
		return refuse(diag.CodeNever, "write present: true", "every value begins with nothing")
	case strings.Contains(v.Text, ","):
		return refuse(diag.CodeNever, "write one value; several headers stand beside each other, of several values each has a grant", "%q has a comma, which stands between values: who may is told by a header that has one", v.Text)
	case strings.Trim(v.Text, " \t") != v.Text && (v.Kind == space.Exact || strings.TrimLeft(v.Text, " \t") != v.Text):
		return refuse(diag.CodeNever, "write it without", "no header is like %q: HTTP drops the blanks around a value", v.Text)
	}
	return v, true
}

// accessParameter reads what a parameter of the query is like.
func (l *linker) accessParameter(e intent.Entry) (model.Value, bool) {
	v := model.Value{Name: e.Name, Kind: space.Kind(l.oneOf(e.Node, string(space.Exact), string(space.Prefix), space.Present))}
	if v.Kind == "" || v.Kind == space.Present {
		return v, v.Kind != ""
	}
	switch v.Text = e.Node.Field(string(v.Kind)).Str(); {
	case v.Text == "" && v.Kind == space.Prefix:
		l.add(diag.New(diag.CodeNever, e.Node.Pos(), "every value begins with nothing").WithFix("write present: true"))
		return v, false
	case strings.Contains(v.Text+v.Name, ";"):
		l.add(diag.New(diag.CodeNever, e.Node.Pos(), "%q has a semicolon, which stands between parameters to some applications", v.Name+"="+v.Text).
			WithFix("write %%3B if the value has one, and see that callers do"))
		return v, false
	}
	return v, true
}

// namespaces reads a list of namespaces that there are.
func (l *linker) namespaces(n intent.Node) []string {
	for _, s := range n.List() {
		if known := sortedKeys(l.domains); !slices.Contains(known, s.Str()) {
			l.add(l.unknown(s.Pos(), "namespace", s.Str(), known))
		}
	}
	return n.Strings()
}

// stars are any letters, as one is.
var stars = regexp.MustCompile(`\*+`)

// readAccount adds an account to terms, or a pattern of them: what takes a whole namespace, or all
// of them, as such. Several "*" in a row are one.
func (l *linker) readAccount(p *pkg, n intent.Node, t *model.Terms) {
	written := stars.ReplaceAllLiteralString(p.qualify(n.Str()), "*")
	known := l.allAccounts()
	namespace, name, _ := strings.Cut(written, "/")
	switch {
	case !strings.Contains(written, "*"):
		switch {
		case slices.Contains(known, written):
		case l.wasAccount(written): // its owner may not know who names it
			l.add(diag.Warn(diag.CodeNoAccount, n.Pos(), "no account of the mesh is %q any more: it is a former one, which has ended", n.Str()).
				WithFix("delete it"))
		default:
			l.add(l.unknown(n.Pos(), "account", n.Str(), known))
		}
		t.Accounts = append(t.Accounts, written)
	case !slices.ContainsFunc(known, func(a string) bool { return model.AccountFits(written, a) }):
		l.add(diag.Warn(diag.CodeNoAccount, n.Pos(), "no account of the mesh is like %q", n.Str()).
			WithFix("correct it, or leave it out until there is one: what comes to fit it later is meant by it"))
		fallthrough
	default:
		switch all := "*"; {
		case namespace == all && name == all:
			t.Mesh = true
		case name == all && !strings.Contains(namespace, all):
			t.Namespaces = append(t.Namespaces, namespace)
		default:
			t.Patterns = append(t.Patterns, written)
		}
	}
}

// identities reads SPIFFE IDs and patterns of them: as their paths in the trust domain and in those that are taken for it,
// as they are in others.
func (l *linker) identities(n intent.Node) []string {
	var out []string
	for _, id := range n.List() {
		domain, path, _ := strings.Cut(strings.TrimPrefix(id.Str(), "spiffe://"), "/")
		switch {
		case slices.Contains(domainNames(l.federation), domain):
			out = append(out, id.Str())
			continue
		case domain != l.trustDomain && !slices.Contains(domainNames(l.aliases), domain):
			l.add(diag.New(diag.CodeForeign, id.Pos(), "%q is of trust domain %q, and no proxy of this mesh takes certificates of another than %q", id.Str(), domain, l.trustDomain).
				WithFix("name identities of the mesh's own trust domain, or let the root package say whose authority signs them: federation: %q: bundle: file: \"roots.pem\"", domain))
			continue
		}
		ofAccount := strings.Split(path, "/")
		if len(ofAccount) == 4 && ofAccount[0] == "ns" && ofAccount[2] == "sa" && !slices.ContainsFunc(l.allAccounts(), func(a string) bool { return model.IdentityFits(path, a) }) {
			l.add(diag.Warn(diag.CodeNoAccount, id.Pos(), "no account of the mesh has an identity like %q", id.Str()).
				WithFix("correct it, or leave it out until there is one: what comes to fit it later is meant by it"))
		}
		out = append(out, path)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// allAccounts are the accounts of services and gateways, former ones too, "namespace/account", sorted.
func (l *linker) allAccounts() []string {
	var out []string
	for id := range l.accounts {
		out = append(out, l.accountsOf(id)...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func sortPaths(ps []model.Path) {
	slices.SortFunc(ps, func(a, b model.Path) int { return strings.Compare(a.Value+string(a.Kind), b.Value+string(b.Kind)) })
}

// needRequests refuses conditions on requests at ports that have none.
func (l *linker) needRequests(what string, e intent.Entry, s *model.Service, t model.Terms) {
	if !t.AsksRequests() {
		return
	}
	for _, p := range s.Ports {
		if !p.Protocol.IsHTTP() && (t.Ports == nil || slices.Contains(t.Ports, p.Name)) {
			l.add(diag.New(diag.CodeProtocol, e.Node.Pos(), "%s %q restricts methods, paths, hosts, headers, query, users or addresses, but port %q is tcp", what, e.Name, p.Name).
				WithFix("name the http ports in `ports`, and write a %s of its own for port %q", what, p.Name))
		}
	}
}

// grantPorts are the ports that a grant is for. Where it names none of several, it is for
// the main one: a port that is added lets nobody in. nil is the only port.
func (l *linker) grantPorts(s *model.Service, n intent.Node) []string {
	ports := l.servicePorts(s, n)
	if n.Field("ports").Exists() || len(s.Ports) < 2 {
		return ports
	}
	if p, ok := l.port(s.ID, intent.Node{}, n, "ports"); ok {
		return []string{p.Name}
	}
	return nil
}

// servicePorts are the ports of a service that `ports` names, nil if it is not there.
func (l *linker) servicePorts(s *model.Service, n intent.Node) []string {
	ports := n.Field("ports")
	for _, port := range ports.List() {
		if _, ok := s.Port(port.Str()); !ok {
			l.add(l.unknown(port.Pos(), "port", port.Str(), portNames(s.Ports)))
		}
	}
	return l.nonEmpty(ports, "ports")
}

// nonEmpty reads a list that restricts; an empty one would hold for nothing, which is a mistake here.
func (l *linker) nonEmpty(n intent.Node, field string) []string {
	if n.Exists() && len(n.List()) == 0 {
		l.add(diag.New(diag.CodeNever, n.Pos(), "an empty list of %s holds for nothing", field).
			WithFix("leave `%s` out to not restrict, or delete what it stands in", field))
	}
	return n.Strings()
}

// grantPath reads "/a" (exactly) or "/a/*" (everything below "/a/"), in which "{name}" may
// stand for any one segment, or "*/a" (everything that ends so).
func (l *linker) grantPath(n intent.Node) (model.Path, bool) {
	s := n.Str()
	if tail, ends := strings.CutPrefix(s, "*"); ends {
		if why := badPath(tail, false); why != "" {
			l.add(diag.New(diag.CodePath, n.Pos(), "path %q %s", s, why).WithFix(`write "*/a" for everything that ends in "/a"`))
			return model.Path{}, false
		}
		return model.Path{Kind: model.PathEnd, Value: tail}, true
	}
	below, isBelow := strings.CutSuffix(s, "*")
	free := strings.ContainsAny(s, "{}")
	why := badPath(below, true)
	switch {
	case why != "":
	case isBelow && !strings.HasSuffix(below, "/"):
		why = "has * that is not a whole segment"
	case free && !goodTemplate(strings.TrimSuffix(below, "/")):
		why = "has { or } that does not enclose a whole segment's name, each once"
	}
	if why != "" {
		l.add(diag.New(diag.CodePath, n.Pos(), "path %q %s", s, why).
			WithFix(`write "/a" for exactly that path, "/a/*" for everything below "/a/", or "/a/{id}" for any one segment there`))
		return model.Path{}, false
	}
	if free {
		return model.Path{Kind: model.PathTemplate, Value: s}, true
	}
	if isBelow {
		return model.Path{Kind: model.PathBelow, Value: below}, true
	}
	return model.Path{Kind: model.PathExact, Value: s}, true
}
