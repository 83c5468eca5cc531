package importer

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	networking "istio.io/api/networking/v1alpha3"
	security "istio.io/api/security/v1beta1"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/schemas"
)

const (
	istioNetworking = "networking.istio.io"
	istioSecurity   = "security.istio.io"
	// istioRoot is the namespace whose policies are about all others.
	istioRoot = "istio-system"
	// istioTrust is the trust domain that Istio's policies name.
	istioTrust = "cluster.local"
)

// Answer is who answers for exceptions that intent has for a time only (plaintext, faults,
// callers without identity). Without an owner they are told and not written.
type Answer struct{ Owner, Reason, Until string }

// Istio translates objects of Istio, with the Services, and the labels, accounts and ports of
// the workloads behind them. check is asked until the intent compiles: what it refuses is left
// out, and told.
func Istio(in []Input, answer Answer, check Check) (Result, error) {
	i := &istio{world: &world{language: schemas.LanguageVersion, certificates: map[string]map[string]string{}}, answer: answer, cuts: map[string]bool{}, told: map[string]bool{}, given: map[string]*names{}, of: map[*service]*serving{}}
	objects := read(in, &i.findings)
	for _, o := range objects {
		o.head()
		i.decodes(o)
	}
	i.read(objects)
	i.join()
	for _, o := range objects {
		o.rest()
	}
	var files []File
	var err error
	if !i.unread() {
		files, err = settle(i, check)
	}
	whole := 0
	for _, o := range objects {
		if len(files) > 0 && !o.broken && !o.lost {
			whole++
		}
	}
	return Result{Files: files, Objects: len(objects), Whole: whole, Findings: i.findings.Sorted()}, err
}

// istio is what objects of Istio say, before it is intent.
type istio struct {
	*world
	answer    Answer
	workloads []*workload
	// of is what is said of each Service.
	of       map[*service]*serving
	rules    []*destinationRule
	virtual  []*virtual
	edges    []*edge
	policies []*policy
	peers    []*peer
	issuers  []*issuers
	outside  []*outside
	sidecars []*sidecar
	// cuts are parts of the intent that do not compile, by file and path.
	cuts map[string]bool
	// told are findings about what several are made of.
	told map[string]bool
	// given are the names of externals, certificates and issuers, by what they are and the namespace.
	given map[string]*names
	// pages are those that were written last, by their paths.
	pages map[string]*tree
}

// serving is a Service with all that is said of it.
type serving struct {
	*service
	// seen are the accounts of its workloads, those that the objects say.
	seen []string
	// account is theirs, "" for the Service's name; accounts are those of versions that differ.
	account  string
	accounts map[string]string
	rule     *destinationRule
	versions []*subset
	virtual  []*virtual
	routes   *tree
	// plain says that its routes do nothing to a request but choose versions.
	plain bool
	// leads are the services to which its routes lead, or send copies.
	leads  []*service
	access *access
	mtls   string
	// portMTLS is the mode of single ports, by name.
	portMTLS map[string]string
	users    *tree
}

// decodes reads an object as Istio itself does: what it does not take, no word can be said of.
func (i *istio) decodes(o *object) {
	var into json.Unmarshaler
	switch group, _, _ := strings.Cut(o.apiVersion, "/"); group + " " + o.kind {
	case istioNetworking + " VirtualService":
		into = &networking.VirtualService{}
	case istioNetworking + " DestinationRule":
		into = &networking.DestinationRule{}
	case istioNetworking + " Gateway":
		into = &networking.Gateway{}
	case istioNetworking + " ServiceEntry":
		into = &networking.ServiceEntry{}
	case istioNetworking + " Sidecar":
		into = &networking.Sidecar{}
	case istioSecurity + " AuthorizationPolicy":
		into = &security.AuthorizationPolicy{}
	case istioSecurity + " PeerAuthentication":
		into = &security.PeerAuthentication{}
	case istioSecurity + " RequestAuthentication":
		into = &security.RequestAuthentication{}
	default:
		return
	}
	spec := node{o: o, key: o.root, path: "spec"}
	for at, k := range o.root.Content {
		if at%2 == 0 && k.Value == "spec" {
			spec.y, spec.key = o.root.Content[at+1], k
		}
	}
	if !spec.there() {
		return
	}
	text, err := json.Marshal(plain(spec.y))
	if err == nil {
		err = into.UnmarshalJSON(text)
	}
	if err != nil {
		spec.lacks(diag.CodeImportValue, "is nothing that Istio reads: %s", strings.ReplaceAll(err.Error(), "\u00a0", " ")).fix("mend it, as `istioctl analyze` wants it")
	}
}

// plain is a value as JSON has it: names are texts, and so are instants.
func plain(y *yaml.Node) any {
	switch y.Kind {
	case yaml.MappingNode:
		out := map[string]any{}
		for at := 0; at+1 < len(y.Content); at += 2 {
			out[y.Content[at].Value] = plain(y.Content[at+1])
		}
		return out
	case yaml.SequenceNode:
		out := []any{}
		for _, c := range y.Content {
			out = append(out, plain(c))
		}
		return out
	}
	var out any
	if y.ShortTag() == "!!timestamp" || y.Decode(&out) != nil {
		return y.Value
	}
	return out
}

// read goes through all objects, those first that others refer to.
func (i *istio) read(objects []*object) {
	kinds := map[string]func(*object){
		" Namespace": func(o *object) { o.skip(o.root) },
		" Service": func(o *object) {
			s := i.readService(o, i.portNamed)
			i.of[s] = &serving{service: s, seen: i.accountsBehind(s), accounts: map[string]string{}, portMTLS: map[string]string{}}
		},
		" ServiceAccount": func(o *object) { o.skip(o.root) }, // what there is of it is its name, and pods say it
		" Pod":            i.workload, "apps Deployment": i.workload, "apps StatefulSet": i.workload, "apps DaemonSet": i.workload,
		istioNetworking + " DestinationRule":     i.destinationRule,
		istioNetworking + " ServiceEntry":        i.serviceEntry,
		istioNetworking + " Gateway":             i.edge,
		istioNetworking + " VirtualService":      i.virtualService,
		istioNetworking + " Sidecar":             i.sidecar,
		istioSecurity + " PeerAuthentication":    i.peerAuthentication,
		istioSecurity + " RequestAuthentication": i.requestAuthentication,
		istioSecurity + " AuthorizationPolicy":   i.authorizationPolicy,
	}
	order := []string{"Pod", "DaemonSet", "Deployment", "StatefulSet", "Service", "ServiceEntry", "DestinationRule", "Gateway", "VirtualService", "Sidecar", "PeerAuthentication", "RequestAuthentication", "AuthorizationPolicy"}
	sorted := slices.Clone(objects)
	slices.SortStableFunc(sorted, func(a, b *object) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.kind), slices.Index(order, b.kind)), strings.Compare(a.ns, b.ns), strings.Compare(a.name_, b.name_))
	})
	for _, o := range sorted {
		group, version, named := strings.Cut(o.apiVersion, "/")
		if !named {
			group, version = "", o.apiVersion
		}
		if f := kinds[group+" "+o.kind]; f != nil && slices.Contains([]string{"v1", "v1beta1", "v1alpha3"}, version) {
			f(o)
			continue
		}
		why, way := unsaidIstio(group, o.kind)
		if why == "" {
			why, way = unsaidKind(o.apiVersion, o.kind)
		}
		n := o.top()
		n.key = o.top().field("kind").key
		n.skip()
		o.broken = true
		n.say(diag.New(diag.CodeImportKind, n.at(), "%s: %s", o, why)).fix("%s", way)
	}
}

// unsaidIstio says why a kind of Istio is not translated.
func unsaidIstio(group, kind string) (why, way string) {
	switch group + " " + kind {
	case "telemetry.istio.io Telemetry":
		return "is about logs, metrics and traces", "write `telemetry` at the mesh, the namespace or the service"
	case istioNetworking + " EnvoyFilter":
		return "is raw configuration of Envoy, of which nothing is known", "write the word of intent for it, or `patch` for what there is none"
	case "extensions.istio.io WasmPlugin":
		return "is a program within proxies", "write `wasm` with the module in the repository, or `process` for a service that is asked"
	case istioNetworking + " WorkloadEntry", istioNetworking + " WorkloadGroup":
		return "is a workload outside of the cluster", "write it as a `workload`"
	case istioNetworking + " ProxyConfig":
		return "is about how proxies run", "say it where you run them"
	}
	return "", ""
}

// join says what becomes of each Service, host and external by everything that is said of it.
func (i *istio) join() {
	i.istioProtocols()
	for _, s := range i.services {
		i.versions(i.of[s])
	}
	i.identities()
	i.modes()
	i.accesses()
	i.signIn()
	i.aimless()
	i.meshRoutes()
	i.edgeHosts()
}

// aimless tells of what is about nobody that is written.
func (i *istio) aimless() {
	var all []aim
	for _, p := range i.policies {
		all = append(all, p.aim)
	}
	for _, p := range i.issuers {
		all = append(all, p.aim)
	}
	for _, p := range i.peers {
		all = append(all, p.aim)
	}
	for _, p := range i.sidecars {
		all = append(all, p.aim)
	}
	for _, a := range all {
		met := slices.ContainsFunc(i.services, func(s *service) bool { _, none := i.meets(a, s); return !none }) ||
			slices.ContainsFunc(i.edges, func(e *edge) bool { return i.meetsEdge(a, e) })
		if !met && len(a.selector) > 0 {
			a.o.top().lacks(diag.CodeImportMissing, "is about no Service among the objects (%s): nothing of it is written", selectorText(a.selector)).fix("import the Service of these workloads, with what makes them; else take it out")
		}
	}
	for _, x := range i.sidecars {
		for _, s := range i.services {
			if all, none := i.meets(x.aim, s); !all && !none {
				x.o.top().lacks(diag.CodeImportValue, "is about some of the workloads of %s, or about which ones the objects do not say: it is written for none of them", s.o).fix("select all workloads of the Service, or write `calls` by hand")
			}
		}
	}
}

// dropService drops a Service of which a part is not translated that decides about requests.
func (i *istio) dropService(s *service, at diag.Pos, why, way string) {
	if s.dropped {
		return
	}
	s.dropped, s.o.lost = true, true
	i.findings = append(i.findings, diag.New(diag.CodeImportWhole, at, "%s is not written: %s", s.o, why).WithFix("%s", way))
}

// depend drops what leads to services that are not written.
func (i *istio) depend() {
	for again := true; again; {
		again = slices.ContainsFunc(i.services, i.leadsNowhere)
	}
	for _, e := range i.edges {
		for _, h := range e.hosts {
			at := slices.IndexFunc(h.to, func(s *service) bool { return s.dropped })
			if at >= 0 && !h.dropped {
				i.dropEdgeHost(h, diag.CodeImportWhole, h.at, "it leads to "+h.to[at].o.String()+", which is not written", "mend what is told of the Service")
			}
		}
		for again := true; again; {
			again = slices.ContainsFunc(e.hosts, i.around)
		}
	}
}

// leadsNowhere drops a Service whose routes lead to one that is not written.
func (i *istio) leadsNowhere(s *service) bool {
	at := slices.IndexFunc(i.of[s].leads, func(to *service) bool { return to.dropped })
	if at < 0 || s.dropped {
		return false
	}
	i.dropService(s, s.o.top().at(), "its routes lead to "+i.of[s].leads[at].o.String()+", which is not written", "mend what is told of that Service")
	return true
}

// around drops a host that would take the requests of one that is not written.
func (i *istio) around(h *edgeHost) bool {
	at := slices.IndexFunc(h.edge.hosts, func(d *edgeHost) bool { return d.dropped && within(d.name, h.name) })
	if at < 0 || h.dropped {
		return false
	}
	i.dropEdgeHost(h, diag.CodeImportWhole, h.at, fmt.Sprintf("it would take the requests of host %q, which is not written", h.edge.hosts[at].name), "mend what is told of that host, or write it by hand")
	return true
}

// alive counts what is written, and what can still be cut.
func (i *istio) alive() int {
	n := 0
	for _, s := range i.services {
		if !s.dropped {
			n++
		}
		if a := i.of[s].access; a != nil {
			n += 2 * len(a.grants)
		}
		n += 8
	}
	for _, e := range i.edges {
		for _, h := range e.hosts {
			if !h.dropped {
				n++
			}
		}
	}
	for _, x := range i.outside {
		if !x.dropped {
			n++
		}
	}
	return n - len(i.cuts)
}

// giving gives names to things of one kind in a namespace.
func (i *istio) giving(what, ns string) *names {
	key := what + " " + ns
	if i.given[key] == nil {
		i.given[key] = &names{}
	}
	return i.given[key]
}

// page is the tree of a namespace.
func (i *istio) page(ns string) *tree {
	if i.pages[ns] == nil {
		i.pages[ns] = &tree{}
	}
	return i.pages[ns]
}

// files are the intent of all that is not dropped.
func (i *istio) files() ([]File, error) {
	i.pages = map[string]*tree{}
	i.clashes()
	for _, e := range i.edges {
		i.edgeTree(e)
	}
	for _, x := range i.outside {
		if !x.dropped {
			out := x.out.copied()
			if others := i.everywhere(x.o.ns); len(others) > 0 {
				out.child("grant").child("everyone").add("namespaces", quoteList(others))
			}
			i.page(x.o.ns).child("external").set(field{name: x.name, sub: out, at: &x.at})
		}
	}
	for _, p := range i.issuers {
		i.issuerTrees(p)
	}
	for _, s := range i.services {
		if !s.dropped {
			n := s.o.top()
			i.page(s.o.ns).child("service").set(field{name: s.o.name_, sub: i.serviceTree(i.of[s]), at: &n})
		}
	}
	for ns, p := range i.pages {
		for cut := range i.cuts {
			if parts := strings.Split(cut, "\x00"); parts[0] == ns {
				p.cut(parts[1:])
			}
		}
		p.tidy()
		if len(p.fields) == 0 {
			delete(i.pages, ns)
		}
	}
	if len(i.pages) == 0 {
		return nil, nil
	}
	root, err := i.root()
	if err != nil {
		return nil, err
	}
	return i.written(root, i.pages)
}

// clashes drops what was to have two values of one word.
func (i *istio) clashes() {
	for _, s := range i.services {
		if !s.dropped {
			if path := i.serviceTree(i.of[s]).clashing(); path != "" {
				i.dropService(s, s.o.top().at(), "`"+path+"` was to have two values", "write it once in what is said of the Service")
			}
		}
	}
	for _, x := range i.outside {
		if path := x.out.clashing(); path != "" && !x.dropped {
			i.dropOutside(x, x.at.at(), "`"+path+"` was to have two values", "write it once")
		}
	}
	i.depend()
}

// root is the root package: what Istio does where nothing is written is said once, for all.
func (i *istio) root() ([]byte, error) {
	t := &tree{}
	t.add("trustDomain", quote(istioTrust))
	t.child("environment").child(Environment).add("capture", `"transparent"`)
	d := &tree{}
	d.add("timeout", `"none"`)
	d.add("idle", `"none"`)
	d.child("retry").add("attempts", "2")
	d.child("connection").add("connectTimeout", `"10s"`)
	d.add("buffer", `"1MiB"`)
	t.set(field{name: "default", sub: d, comment: "As Istio has it where nothing is written."})
	return rootPage(t)
}

// tuning are words without which requests go where they went, to whom they went.
func tuning() []string {
	return []string{"retry", "timeout", "balance", "connection", "outlier", "circuitBreaker", "calls"}
}

// blame leaves out what a problem is about: a word that only tunes, a grant, or all of a host or
// a Service.
func (i *istio) blame(files []File, d diag.Diagnostic) {
	at := slices.IndexFunc(files, func(f File) bool { return f.Path == d.Pos.File })
	if at < 0 {
		return
	}
	path := pathAt(files[at], d.Pos.Line)
	if len(path) < 3 {
		return
	}
	ns := ""
	for name := range i.pages {
		if folder, _ := folderOf(name); files[at].Path == folder+"/"+folder+".cue" {
			ns = name
		}
	}
	why := fmt.Sprintf("intent cannot say it, by %s: %s", d.Code, d.Text)
	way := cmp.Or(d.Fix, "see `meshc explain "+string(d.Code)+"`")
	origin := i.pages[ns].origin(path[1:])
	tell := func(what string) {
		if origin == nil {
			i.findings = append(i.findings, diag.New(diag.CodeImportPart, diag.Pos{File: i.where(ns)}, "%s is not written: %s", what, why).WithFix("%s", way))
			return
		}
		origin.o.broken = true
		i.findings = append(i.findings, diag.New(diag.CodeImportPart, origin.at(), "%s: %s is not written: %s", origin.o, what, why).WithFix("%s", way))
	}
	cut := func(n int) {
		key := strings.Join(append([]string{ns}, path[1:n]...), "\x00")
		if !i.cuts[key] {
			i.cuts[key] = true
			tell("`" + strings.Join(path[1:n], ": ") + "`")
		}
	}
	for n := 4; n <= len(path); n++ {
		if slices.Contains(tuning(), path[n-1]) && (path[1] == "service" || path[1] == "gateway" || path[1] == "external") {
			if path[n-1] == "calls" && n < len(path) {
				n++
			}
			cut(n)
			return
		}
	}
	if path[1] == "service" && len(path) > 4 && path[3] == "grant" {
		cut(5)
		return
	}
	i.blameWhole(ns, path, why, way)
}

// where is a file in which something of a namespace stands.
func (i *istio) where(ns string) string {
	for _, s := range i.services {
		if s.o.ns == ns {
			return s.o.file
		}
	}
	return ""
}

// blameWhole leaves out a Service, hosts, or an external.
func (i *istio) blameWhole(ns string, path []string, why, way string) {
	origin := i.pages[ns].origin(path[1:])
	at := func(otherwise diag.Pos) diag.Pos {
		if origin != nil {
			return origin.at()
		}
		return otherwise
	}
	switch path[1] {
	case "service":
		if s := i.find(ns, path[2]); s != nil && !s.dropped {
			s.o.broken = true
			i.dropService(s, at(s.o.top().at()), why, way)
		}
	case "external":
		for _, x := range i.outside {
			if x.o.ns == ns && x.name == path[2] && !x.dropped {
				x.dropped, x.o.broken = true, true
				i.findings = append(i.findings, diag.New(diag.CodeImportValue, x.at.at(), "%s is not written: %s", x.o, why).WithFix("%s", way))
			}
		}
	case "jwt":
		for _, p := range i.issuers {
			if p.o.ns == ns {
				i.dropIssuer(p, path[2], why, way)
			}
		}
	case "gateway", "certificate":
		for _, h := range i.hostsAt(ns, path) {
			i.dropEdgeHost(h, diag.CodeImportValue, at(h.at), why, way)
		}
	}
}

// hostsAt are the hosts that a part of the intent is about.
func (i *istio) hostsAt(ns string, path []string) (out []*edgeHost) {
	for _, e := range i.edges {
		for _, h := range e.hosts {
			its := path[1] == "certificate" && h.shows(path[2]) || path[1] == "gateway" && path[2] == e.name && (len(path) < 5 || path[3] != "host" || path[4] == h.name)
			if e.ns == ns && !h.dropped && its {
				out = append(out, h)
			}
		}
	}
	return out
}

// cut takes out what stands at a path.
func (t *tree) cut(path []string) {
	for at, f := range t.fields {
		switch {
		case f.name != path[0]:
		case len(path) == 1:
			t.fields = slices.Delete(t.fields, at, at+1)
			return
		case f.sub != nil:
			f.sub.cut(path[1:])
			return
		}
	}
}

// tidy takes out words below which nothing is left: kinds of things, and what things grant and call.
func (t *tree) tidy() {
	for _, kind := range t.fields {
		for _, thing := range kind.sub.fields {
			if thing.sub != nil {
				thing.sub.fields = slices.DeleteFunc(thing.sub.fields, func(f field) bool {
					return f.sub != nil && f.sub.empty() && slices.Contains([]string{"grant", "calls"}, f.name)
				})
			}
		}
	}
	t.fields = slices.DeleteFunc(t.fields, func(f field) bool { return f.sub.empty() })
}

// origin is what says the innermost field of a path of which that is known.
func (t *tree) origin(path []string) *node {
	var out *node
	for _, name := range path {
		at := slices.IndexFunc(t.fields, func(f field) bool { return f.name == name })
		if at < 0 {
			return out
		}
		if t.fields[at].at != nil {
			out = t.fields[at].at
		}
		if t = t.fields[at].sub; t == nil {
			return out
		}
	}
	return out
}
