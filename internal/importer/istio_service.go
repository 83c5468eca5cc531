package importer

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"meshc.dev/meshc/internal/diag"
)

// workload is a Deployment, or another kind that makes pods, or a Pod.
type workload struct {
	o       *object
	labels  map[string]string
	account string
	ports   map[string]int
}

// workload reads what a pod is called, as whom it runs, and its ports. All else of it is about no
// traffic.
func (i *istio) workload(o *object) {
	w := &workload{o: o, labels: map[string]string{}, account: "default", ports: map[string]int{}}
	pod := o.top()
	if o.kind != "Pod" {
		pod = pod.down("spec", "template")
	}
	for _, e := range pod.down("metadata", "labels").entries() {
		w.labels[e.name] = e.text()
	}
	for _, e := range pod.down("metadata", "annotations").entries() {
		if strings.Contains(e.name, "istio.io/") {
			e.note(diag.Warning, diag.CodeImportLeft, "says something to Istio's proxies, and is not carried over").fix("say it where you run the pods")
		}
	}
	spec := pod.field("spec")
	if a := spec.field("serviceAccountName").textOr(spec.field("serviceAccount").text()); a != "" {
		w.account = a
	}
	for _, c := range spec.field("containers").items() {
		for _, p := range c.field("ports").items() {
			if number, ok := p.field("containerPort").number(1, 65535); ok {
				w.ports[p.field("name").text()] = number
			}
		}
	}
	o.skip(o.root)
	i.workloads = append(i.workloads, w)
}

// fits reports whether a selector takes what has these labels.
func fits(selector, labels map[string]string) bool {
	for key, value := range selector {
		if got, there := labels[key]; !there || got != value {
			return false
		}
	}
	return true
}

// behind are the workloads among the objects that a selector takes.
func (i *istio) behind(ns string, selector map[string]string) (out []*workload) {
	for _, w := range i.workloads {
		if w.o.ns == ns && fits(selector, w.labels) {
			out = append(out, w)
		}
	}
	return out
}

// portNamed is the number of a container's port, where all workloads with such labels agree.
func (i *istio) portNamed(selector map[string]string, name string) (number int, ok bool) {
	for _, w := range i.workloads {
		if n, has := w.ports[name]; fits(selector, w.labels) && has {
			if ok && n != number {
				return 0, false
			}
			number, ok = n, true
		}
	}
	return number, ok
}

// selects reports whether a selector takes all workloads of a Service, or none; neither where it
// takes some, or where the objects do not say it.
func (i *istio) selects(selector map[string]string, s *service) (all, none bool) {
	if fits(selector, s.selector) {
		return true, false
	}
	for key, value := range selector {
		if got, there := s.selector[key]; there && got != value {
			return false, true
		}
	}
	behind := i.behind(s.o.ns, s.selector)
	all, none = len(behind) > 0, len(behind) > 0
	for _, w := range behind {
		all, none = all && fits(selector, w.labels), none && !fits(selector, w.labels)
	}
	return all, none
}

// istioProtocols settles what ports speak: their names begin with it.
func (i *istio) istioProtocols() {
	known := map[string]string{"http": "http", "http2": "http2", "grpc": "grpc", "tcp": "tcp", "tls": "tcp", "https": "tcp", "mongo": "tcp", "mysql": "tcp", "redis": "tcp"}
	for _, s := range i.services {
		for _, p := range s.ports {
			said, _, _ := strings.Cut(p.at.field("name").text(), "-")
			if p.protocol == "" {
				p.protocol = known[said]
			}
			if p.protocol == "" {
				p.protocol = "tcp"
				for _, v := range i.virtual {
					if v.reaches(i, s) {
						p.protocol = "http"
					}
				}
				p.at.note(diag.Warning, diag.CodeImportDefault, "does not say by its name or appProtocol what it speaks, which Istio then finds out of each connection: written as %q", p.protocol).
					fix("write `protocol` there, if it speaks something else")
			}
			if p.name == "main" && len(s.ports) == 1 && p.at.field("name").text() == "" {
				p.name = p.protocol
			}
		}
	}
}

// destinationRule is a DestinationRule.
type destinationRule struct {
	o       *object
	service *service
	outside *outside
	subsets []*subset
	tuning  *tree
	ports   map[int]*tree
}

// subset is a version of a Service.
type subset struct {
	name   string
	labels map[string]string
	at     node
	tuning *tree
	named  bool // a route names it
}

// fqdn is a host of an object, in full.
func fqdn(host, ns string) string {
	if !strings.Contains(host, ".") && host != "*" {
		return host + "." + ns + ".svc." + istioTrust
	}
	return host
}

// named is the Service of a host, nil if it is none of the objects.
func (i *istio) named(host, ns string) *service {
	name, ok := strings.CutSuffix(fqdn(host, ns), ".svc."+istioTrust)
	name, ns, both := strings.Cut(name, ".")
	if !ok || !both {
		return nil
	}
	return i.find(ns, name)
}

func (i *istio) destinationRule(o *object) {
	spec := o.top().field("spec")
	r := &destinationRule{o: o, ports: map[int]*tree{}}
	exported(spec.field("exportTo"))
	host := spec.field("host")
	r.service = i.named(host.text(), o.ns)
	policy := spec.field("trafficPolicy")
	r.tuning = trafficPolicy(policy)
	r.portSettings(policy.field("portLevelSettings"))
	for _, n := range spec.field("subsets").items() {
		s := &subset{name: n.field("name").text(), labels: map[string]string{}, at: n}
		for _, e := range n.field("labels").entries() {
			s.labels[e.name] = e.text()
		}
		p := n.field("trafficPolicy")
		if s.tuning = trafficPolicy(p); p.field("connectionPool").there() {
			alike(p.field("connectionPool"), r.tuning.only("connection", "circuitBreaker"), s.tuning)
		}
		if ports := p.field("portLevelSettings"); ports.there() {
			ports.partly("is about ports of one version, and intent speaks of ports or of versions").fix("say it of the port, or of the version")
		}
		if slices.ContainsFunc(r.subsets, func(x *subset) bool { return x.name == s.name }) {
			n.refuse(diag.CodeImportValue, "is called %q, as another subset is", s.name).fix("give each a name of its own")
			continue
		}
		r.subsets = append(r.subsets, s)
	}
	i.rules = append(i.rules, r)
	if r.service == nil {
		if r.outside = i.outsideNamed(host.text()); r.outside == nil {
			host.lacks(diag.CodeImportMissing, "is %q, which is no Service or ServiceEntry among the objects", host.raw()).fix("import it as well, or take the DestinationRule out")
			return
		}
		i.outsideRule(r, policy)
		return
	}
	of := i.of[r.service]
	switch {
	case of.rule != nil:
		i.dropService(r.service, host.at(), "there are two DestinationRules for it", "write one")
	case r.service.o.ns != o.ns:
		host.lacks(diag.CodeImportValue, "is of another namespace, so that the rule is for callers of %q alone", o.ns).fix("write it in the Service's namespace, for all callers")
	default:
		of.rule = r
	}
}

// portSettings are those of single ports, by the Service's numbers.
func (r *destinationRule) portSettings(n node) {
	for _, p := range n.items() {
		if number, ok := p.down("port", "number").number(1, 65535); ok {
			if r.service != nil && r.service.port(number) == nil {
				p.down("port", "number").note(diag.Warning, diag.CodeImportLeft, "is %d, and %s has no such port: Istio asks for the Service's number, and not for that at which the workload listens", number, r.service.o).fix("write a port of the Service")
			}
			r.ports[number] = trafficPolicy(p)
			alike(p, r.tuning, r.ports[number])
		}
	}
}

// exported tells of objects that only some namespaces see.
func exported(n node) {
	for _, e := range n.items() {
		if e.text() != "*" {
			e.lacks(diag.CodeImportValue, "shows the object to some namespaces alone").fix("take exportTo out: in intent grants and calls say who reaches what")
		}
	}
}

// alike tells of words that what is more special leaves to Istio's defaults, where intent goes on
// with what is said around it.
func alike(n node, around, special *tree) {
	for _, f := range around.fields {
		if !special.has(f.name) {
			n.o.lost = true
			n.note(diag.Error, diag.CodeImportPart, "leaves out what is written for all, and Istio takes its own default then, where intent keeps `%s` of the service", f.name).fix("write it here as well")
		}
	}
}

// only are some of the words of a tree.
func (t *tree) only(names ...string) *tree {
	out := &tree{}
	for _, f := range t.fields {
		if slices.Contains(names, f.name) {
			out.fields = append(out.fields, f)
		}
	}
	return out
}

// partly tells of a value that is not written, while what is around it is: it says how requests
// are carried, and not where they go or who may send them.
func (n node) partly(format string, args ...any) told {
	n.skip()
	n.o.lost = true
	return n.note(diag.Error, diag.CodeImportPart, format, args...)
}

// versions says which versions a Service has: its subsets, if a route names one of them.
func (i *istio) versions(s *serving) {
	if s.rule == nil {
		return
	}
	i.nameSubsets(s)
	named := slices.ContainsFunc(s.rule.subsets, func(x *subset) bool { return x.named })
	for _, x := range s.rule.subsets {
		if !named {
			x.at.note(diag.Note, diag.CodeImportLeft, "is a version that no route names: the service is written without versions").fix("write `version` on the service, once a route names one")
			continue
		}
		for _, o := range s.versions {
			if apart(o.labels, x.labels) {
				continue
			}
			i.dropService(s.service, x.at.at(), fmt.Sprintf("its subsets %q and %q may have the same workloads", o.name, x.name), "give each subset a value of its own of one label")
		}
		if len(x.labels) == 0 {
			i.dropService(s.service, x.at.at(), fmt.Sprintf("its subset %q has no labels, and so all workloads", x.name), "give it the labels of a version")
		}
		s.versions = append(s.versions, x)
	}
}

// nameSubsets marks those that routes name.
func (i *istio) nameSubsets(s *serving) {
	for _, v := range i.virtual {
		for _, r := range v.rules {
			for _, d := range r.all() {
				for _, x := range s.rule.subsets {
					x.named = x.named || d.service == s.service && d.subset == x.name
				}
			}
		}
	}
}

// apart reports whether nothing has both of two sets of labels.
func apart(a, b map[string]string) bool {
	for key, value := range a {
		if other, both := b[key]; both && other != value {
			return true
		}
	}
	return false
}

// identities says as whom the workloads of each Service run.
func (i *istio) identities() {
	for _, s := range i.services {
		of := i.of[s]
		switch names := of.seen; len(names) {
		case 0:
			s.o.top().note(diag.Warning, diag.CodeImportDefault, "has no workloads among the objects: their account is taken to be %q", s.o.name_).fix("import its Deployment, or write `serviceAccount`")
		case 1:
			of.account = names[0]
		default:
			i.versionAccounts(of, names)
		}
	}
}

// versionAccounts are the accounts of versions, where they differ.
func (i *istio) versionAccounts(s *serving, names []string) {
	for _, v := range s.versions {
		both := maps.Clone(s.selector)
		maps.Copy(both, v.labels)
		for _, w := range i.behind(s.o.ns, both) {
			if has := s.accounts[v.name]; has != "" && has != w.account {
				i.dropService(s.service, v.at.at(), fmt.Sprintf("the workloads of its version %q have several accounts", v.name), "give them one")
			}
			s.accounts[v.name] = w.account
		}
	}
	if len(s.accounts) < len(s.versions) || len(s.versions) == 0 {
		i.dropService(s.service, s.o.top().at(), "its workloads have several accounts: "+strings.Join(names, ", "), "give them one, or write a version for each")
	}
}

// allAccounts are the accounts of a Service.
func (s *serving) allAccounts() []string {
	if len(s.seen) > 0 {
		return s.seen
	}
	return []string{s.o.name_}
}

// accountsBehind are the accounts of a Service's workloads, sorted.
func (i *istio) accountsBehind(s *service) []string {
	accounts := map[string]bool{}
	for _, w := range i.behind(s.o.ns, s.selector) {
		accounts[w.account] = true
	}
	return sortedKeys(accounts)
}

// ref is the name of a Service in a namespace.
func (s *service) ref(ns string) string {
	if s.o.ns == ns {
		return s.o.name_
	}
	return s.id()
}

// serviceTree is a Service as intent.
func (i *istio) serviceTree(s *serving) *tree {
	out := &tree{}
	apps := &tree{}
	for _, p := range s.ports {
		t := out.child("port").child(p.name)
		t.add("number", fmt.Sprint(p.number))
		if p.protocol != "http" {
			t.add("protocol", quote(p.protocol))
		}
		if m := s.portMTLS[p.name]; m != "" {
			t.put("mtls", i.exception(m))
		}
		if s.rule != nil && s.rule.ports[p.number] != nil {
			t.join(s.rule.ports[p.number].copied())
		}
		if p.target != p.number {
			apps.child(p.name).add("app", fmt.Sprint(p.target))
		}
	}
	if len(s.selector) != 1 || s.selector["app"] != s.o.name_ {
		for _, key := range sortedKeys(s.selector) {
			out.child("selector").add(key, quote(s.selector[key]))
		}
	}
	if s.account != "" && s.account != s.o.name_ {
		out.add("serviceAccount", quote(s.account))
	}
	i.versionTrees(s, out, apps)
	if s.mtls != "" {
		out.put("mtls", i.exception(s.mtls))
	}
	if s.rule != nil {
		out.join(s.rule.tuning.copied())
	}
	if s.users != nil {
		out.put("users", s.users.copied())
	}
	if s.routes != nil {
		out.put("route", s.routes.copied())
	}
	i.accessTrees(s, out)
	i.callTrees(s, out)
	return out
}

func (i *istio) versionTrees(s *serving, out, apps *tree) {
	if len(s.versions) == 0 && len(apps.fields) > 0 {
		out.child("version").child("default").put("port", apps)
	}
	for _, v := range s.versions {
		t := &tree{}
		n := v.at
		out.child("version").set(field{name: v.name, sub: t, at: &n})
		if len(v.labels) != 1 || v.labels["version"] != v.name || v.name == "default" {
			for _, key := range sortedKeys(v.labels) {
				t.child("labels").add(key, quote(v.labels[key]))
			}
		}
		if a := s.accounts[v.name]; a != "" {
			t.add("serviceAccount", quote(a))
		}
		if len(apps.fields) > 0 {
			t.put("port", apps.copied())
		}
		t.join(v.tuning.copied())
	}
}

// exception is a mode of mTLS or of egress, with who answers for it.
func (i *istio) exception(mode string) *tree {
	out := &tree{}
	out.add("mode", quote(mode))
	i.answered(out)
	return out
}

// answered adds who answers for an exception.
func (i *istio) answered(out *tree) {
	out.add("owner", quote(i.answer.Owner))
	out.add("reason", quote(i.answer.Reason))
	out.add("until", quote(i.answer.Until))
}
