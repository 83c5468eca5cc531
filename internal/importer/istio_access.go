package importer

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"meshc.dev/meshc/internal/diag"
)

// This file reads who may call whom: PeerAuthentication, AuthorizationPolicy, and Sidecar.

// aim is which workloads a policy is about.
type aim struct {
	o        *object
	selector map[string]string
	// lost says that something of the policy itself is not translated.
	lost bool
}

// aimed reads the selector of a policy.
func aimed(o *object, n node) aim {
	a := aim{o: o, selector: map[string]string{}}
	for _, e := range n.field("matchLabels").entries() {
		a.selector[e.name] = e.text()
	}
	return a
}

// meets reports whether a policy is about all workloads of a Service, or about none.
func (i *istio) meets(a aim, s *service) (all, none bool) {
	if a.o.ns != istioRoot && a.o.ns != s.o.ns {
		return false, true
	}
	return i.selects(a.selector, s)
}

// meetsEdge reports whether a policy is about a gateway's proxies: also where it may be, since the
// objects do not say their labels.
func (i *istio) meetsEdge(a aim, e *edge) bool {
	if len(e.workloads) > 0 {
		return slices.ContainsFunc(e.workloads, func(w *workload) bool {
			return (a.o.ns == istioRoot || a.o.ns == w.o.ns) && fits(a.selector, w.labels)
		})
	}
	named := len(e.selector) > 0 && len(a.selector) > 0 && (fits(a.selector, e.selector) || fits(e.selector, a.selector))
	if named || a.o.ns != istioRoot && a.o.ns != e.ns {
		return named
	}
	known := maps.Clone(e.selector)
	for _, s := range i.services {
		switch {
		case s.o.ns != e.ns:
		case len(e.selector) > 0 && fits(e.selector, s.selector): // the Service of the proxies
			maps.Copy(known, s.selector)
		case len(a.selector) > 0 && maps.Equal(s.selector, a.selector): // these are another Service's workloads
			return false
		}
	}
	if e.conventional {
		known["app"] = cmp.Or(known["app"], "istio-ingressgateway")
	}
	for key, value := range a.selector {
		if has, there := known[key]; there && has != value {
			return false
		}
	}
	return true
}

// refuseEdge drops the hosts of a gateway about whose proxies a policy is.
func (i *istio) refuseEdge(a aim, e *edge) {
	e.why = a.o.String() + " is about visitors at its proxies, which is not translated"
	if !i.told[e.why] {
		i.told[e.why] = true
		a.o.top().lacks(diag.CodeImportValue, "is about visitors at the proxies of %s, or may be, since the objects do not say their labels: no host there is written", e.o).
			fix("write `deny` on the gateway by hand; import the Deployment of its proxies, if the policy is about others")
	}
}

// peer is a PeerAuthentication.
type peer struct {
	aim
	mode    node
	ports   map[int]node
	created time.Time
}

func (i *istio) peerAuthentication(o *object) {
	spec := o.top().field("spec")
	p := &peer{aim: aimed(o, spec.field("selector")), mode: spec.down("mtls", "mode"), ports: map[int]node{}, created: created(o)}
	p.mode.text()
	per := spec.field("portLevelMtls")
	for _, e := range per.entries() {
		number, err := strconv.Atoi(e.name)
		if err != nil {
			e.refuse(diag.CodeImportValue, "is no number of a port").fix("write the number at which the workload listens")
			continue
		}
		p.ports[number] = e.field("mode")
		p.ports[number].text()
	}
	switch {
	case len(p.selector) == 0 && per.there():
		per.note(diag.Warning, diag.CodeImportLeft, "means nothing to Istio without a selector").fix("take it out, or write it in a policy with a selector")
		p.ports = nil
	case len(p.selector) > 0 && o.ns == istioRoot:
		o.top().note(diag.Warning, diag.CodeImportLeft, "means nothing to Istio: a policy of the root namespace has no selector").fix("take it out, or write it in the namespace of the workloads")
		return
	}
	i.peers = append(i.peers, p)
}

// unset reports whether a mode leaves it to what is more general.
func unset(mode node) bool { return !mode.there() || mode.raw() == "UNSET" }

// modes says what kinds of connections each Service takes: the mode of its workloads, else that
// of its namespace, else that of the root namespace, else both; and at each of these the oldest
// policy alone.
func (i *istio) modes() {
	for _, s := range i.services {
		var levels [3][]*peer
		for _, p := range i.peers {
			all, none := i.meets(p.aim, s)
			level := 0
			switch {
			case len(p.selector) > 0:
				level = 2
			case p.o.ns != istioRoot:
				level = 1
			}
			if !none && !all {
				i.dropService(s, p.o.top().at(), p.o.String()+" is about some of its workloads, or about which ones the objects do not say", "select all workloads of the Service, or import them")
			} else if !none {
				levels[level] = append(levels[level], p)
			}
		}
		var mode node
		var ports map[int]node
		for _, of := range levels {
			by := i.oldest(s, of)
			if by == nil {
				continue
			}
			if ports = by.ports; !unset(by.mode) {
				mode = by.mode
			}
		}
		i.mode(i.of[s], mode, ports)
	}
}

// oldest is the policy that counts among some of one level, nil if there are none.
func (i *istio) oldest(s *service, all []*peer) *peer {
	if len(all) == 0 {
		return nil
	}
	slices.SortStableFunc(all, func(a, b *peer) int { return a.created.Compare(b.created) })
	if len(all) > 1 && (all[0].created.IsZero() || all[0].created.Equal(all[1].created)) {
		i.dropService(s, all[1].o.top().at(), fmt.Sprintf("%s and %s are both about it, and Istio takes the older one alone, but which that is their creationTimestamp does not say", all[0].o, all[1].o), "import them as the API server has them, or write one")
		return all[0]
	}
	for _, p := range all[1:] {
		if told := p.o.id() + " is younger"; !i.told[told] {
			i.told[told] = true
			p.o.top().note(diag.Warning, diag.CodeImportLeft, "means nothing to Istio beside the older %s", all[0].o).fix("take it out")
		}
	}
	return all[0]
}

func (i *istio) mode(of *serving, mode node, ports map[int]node) {
	if unset(mode) {
		if i.answer.Owner != "" {
			of.mtls = "permissive"
		}
		of.o.top().note(diag.Warning, diag.CodeImportDefault, "has no PeerAuthentication with a mode, and Istio takes plaintext beside mTLS then: written as %q", cmp.Or(of.mtls, "strict")).
			fix("import it; or give --owner, --reason and --until for plaintext")
	} else if m := i.excepted(mode); m != "strict" {
		of.mtls = m
	}
	for _, p := range of.ports {
		n, there := ports[p.target]
		if !there || unset(n) {
			continue
		}
		if m := i.excepted(n); m != cmp.Or(of.mtls, "strict") && m != "strict" {
			of.portMTLS[p.name] = m
		} else if m == "strict" && of.mtls != "" {
			i.dropService(of.service, n.at(), "a port of it is stricter than the Service, which needs no exception", "write the mode of each port by hand")
		}
	}
}

// excepted is a mode that is written: one that is not strict needs somebody who answers for it.
func (i *istio) excepted(n node) string {
	word := map[string]string{"PERMISSIVE": "permissive", "DISABLE": "disable", "STRICT": "strict"}[n.raw()]
	if word == "strict" || word != "" && i.answer.Owner != "" {
		return word
	}
	if told := n.at().String() + " is an exception"; !i.told[told] {
		i.told[told] = true
		n.lacks(diag.CodeImportAnswer, "is %s, which intent has for a time only, with somebody who answers for it: written as strict", n.raw()).fix("give --owner, --reason and --until; or write STRICT")
	}
	return "strict"
}

// policy is an AuthorizationPolicy.
type policy struct {
	aim
	action string
	rules  []*accessRule
}

// access is who may call a Service.
type access struct {
	// allows says that an AuthorizationPolicy says who may: nobody else may.
	allows         bool
	grants, denies []*accessRule
}

// who are callers: one is enough.
type who struct {
	// ids are accounts, "namespace/name"; accounts are patterns of them.
	ids        []string
	accounts   []string
	namespaces []string
	mesh       bool
}

func (w who) none() bool {
	return len(w.ids)+len(w.accounts)+len(w.namespaces) == 0 && !w.mesh
}

// accessRule is one of alternatives: all of it has to hold.
type accessRule struct {
	at    node
	name  string
	by    who
	not   who
	what  *tree // beside callers, ports and users
	other *tree // what must not be
	// user is asked of end users, nil for nothing; userNot must not be. By whom each is signed in
	// stands beside it, "" for anybody.
	user, userNot     *tree
	issuer, issuerNot string
	// principal says that user has a condition on who it is.
	principal bool
	// ports are those that it is about, all if there are none; without portsNot.
	ports, portsNot []int
	// http says that it asks for something of HTTP.
	http bool
	bad  bool
}

func (r *accessRule) lacks(n node, format string, args ...any) told {
	r.bad = true
	n.skip()
	return n.lacks(diag.CodeImportValue, format, args...)
}

func (i *istio) authorizationPolicy(o *object) {
	spec := o.top().field("spec")
	p := &policy{aim: aimed(o, spec.field("selector")), action: spec.field("action").textOr("ALLOW")}
	i.policies = append(i.policies, p)
	switch p.action {
	case "AUDIT":
		spec.field("action").lacks(diag.CodeImportValue, "is AUDIT, which lets be noted and refuses nothing").fix("write `telemetry: logs`")
		spec.field("rules").skip()
	case "CUSTOM":
		spec.field("action").lacks(diag.CodeImportValue, "is CUSTOM, which asks somebody else").fix("write an `authorizer`, and `authorize` on the service")
		spec.field("provider").skip()
		spec.field("rules").skip()
		p.lost = true
	case "ALLOW", "DENY":
		i.accessRules(p, spec.field("rules"))
	default:
		p.lost = true
	}
	p.lost = p.lost || len(o.rest()) > 0
}

// accessRules reads rules: each is `from` and `to` and `when`, and each of the former two a list of
// alternatives.
func (i *istio) accessRules(p *policy, list node) {
	var given names
	rules := list.items()
	for at, n := range rules {
		froms, tos := n.field("from").items(), n.field("to").items()
		if len(froms) == 0 {
			froms = []node{{o: p.o, key: n.key}}
		}
		if len(tos) == 0 {
			tos = []node{{o: p.o, key: n.key}}
		}
		for _, f := range froms {
			for _, t := range tos {
				r := &accessRule{at: n, what: &tree{}, other: &tree{}}
				i.source(r, f.field("source"))
				operation(r, t.field("operation"))
				for _, c := range n.field("when").items() {
					i.condition(r, c)
				}
				name := p.o.name_
				if len(rules) > 1 {
					name += fmt.Sprintf("-%d", at+1)
				}
				r.name = given.give(name)
				p.rules = append(p.rules, r)
			}
		}
	}
	if p.action == "DENY" && len(p.rules) > 0 {
		p.o.top().field("spec").note(diag.Warning, diag.CodeImportDefault, "is a denial, which intent reads more broadly: paths in every spelling, `/x/*` with `/x`, GET with HEAD, a header by each of its values").fix("nothing, unless somebody needs what only looks like it")
	}
}

// once tells of a second condition on the same thing: both would have to hold.
func (r *accessRule) once(n node, there bool) bool {
	if there {
		r.lacks(n, "is a second condition on the same thing, and both would have to hold").fix("write one that says both")
	}
	return !there
}

// texts are a list of texts.
func texts(n node) (out []string) {
	for _, x := range n.items() {
		out = append(out, x.text())
	}
	return out
}

func (i *istio) source(r *accessRule, n node) {
	for _, w := range []struct {
		yes, no string
		read    func(*who, node)
	}{{"principals", "notPrincipals", i.principals(r)}, {"namespaces", "notNamespaces", i.inNamespaces(r)}, {"serviceAccounts", "notServiceAccounts", i.byAccount(r)}} {
		i.both(r, n.field(w.yes), n.field(w.no), w.read)
	}
	r.list(r.what, "sources", n.field("ipBlocks"), ipRange)
	r.list(r.other, "sources", n.field("notIpBlocks"), ipRange)
	r.list(r.what, "clients", n.field("remoteIpBlocks"), ipRange)
	r.list(r.other, "clients", n.field("notRemoteIpBlocks"), ipRange)
	r.principals(n.field("requestPrincipals"), n.field("notRequestPrincipals"))
	for _, name := range []string{"trustDomains", "notTrustDomains"} {
		if x := n.field(name); x.there() {
			r.lacks(x, "asks for trust domains, of which the mesh has one").fix("write `mesh: true` for its own: no proxy takes certificates of another; `identities` are some of it")
		}
	}
}

// list writes a list, if all of it can be said.
func (r *accessRule) list(into *tree, word string, n node, said func(string) (string, bool)) {
	if !n.there() || !r.once(n, into.has(word)) {
		return
	}
	var out []string
	for _, x := range n.items() {
		text, ok := said(x.text())
		if !ok {
			r.lacks(x, "is %q, which intent cannot say", x.raw()).fix("write it by hand: a list of `%s`", word)
			return
		}
		if !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	if len(out) > 0 {
		into.add(word, quoteList(out))
	}
}

// principalForm is a workload's identity, with * for its beginning or its end.
var principalForm = regexp.MustCompile(`^(?:\*/|\*|cluster\.local/)(?:ns/([-a-z0-9]+)/)?(?:sa/([-a-z0-9.]+)|(\*))$`)

func (i *istio) principals(r *accessRule) func(*who, node) {
	return func(into *who, n node) {
		for _, x := range n.items() {
			text := x.text()
			if text == "*" || text == istioTrust+"/*" {
				into.mesh = true
				continue
			}
			m := principalForm.FindStringSubmatch(text)
			switch {
			case m == nil || m[1] == "" && m[2] == "" || strings.HasPrefix(text, "*") && m[3] != "":
				r.lacks(x, "is %q, which is no account of the mesh", text).fix("write it as %s/ns/NAMESPACE/sa/ACCOUNT", istioTrust)
			case m[1] == "" && m[3] == "" && !strings.HasPrefix(text, "*"):
				r.lacks(x, "is %q, which names no namespace and which nobody is", text).fix("write it as %s/ns/NAMESPACE/sa/ACCOUNT", istioTrust)
			case m[3] != "":
				into.accounts = append(into.accounts, m[1]+"/*")
			case m[1] == "":
				into.accounts = append(into.accounts, "*/"+m[2])
			default:
				i.addAccount(into, x, m[1]+"/"+m[2])
			}
		}
	}
}

func (i *istio) byAccount(r *accessRule) func(*who, node) {
	return func(into *who, n node) {
		for _, x := range n.items() {
			ns, name, both := strings.Cut(x.text(), "/")
			if !both {
				ns, name = n.o.ns, ns
			}
			if strings.Contains(x.raw(), "*") {
				r.lacks(x, "is %q, and each account is written out", x.raw()).fix("write them")
				continue
			}
			i.addAccount(into, x, ns+"/"+name)
		}
	}
}

// addAccount adds whoever has an account. One that no Service or gateway has is written by its
// identity, since those who have it may call, or may not, all the same.
func (i *istio) addAccount(into *who, n node, id string) {
	into.ids = append(into.ids, id)
	ns, account, _ := strings.Cut(id, "/")
	has := func(s *service) bool { return s.o.ns == ns && slices.Contains(i.of[s].allAccounts(), account) }
	if !slices.ContainsFunc(i.services, has) && !slices.ContainsFunc(i.edges, func(e *edge) bool { return slices.Contains(e.accounts, id) }) {
		n.note(diag.Warning, diag.CodeImportMissing, "is account %q, which no Service or Gateway among the objects has: written is its identity", id).
			fix("import its Service with the Deployment; of a gateway that runs elsewhere write `from: [\"gateway/NAME\"]`")
	}
}

func (i *istio) inNamespaces(r *accessRule) func(*who, node) {
	return func(into *who, n node) {
		for _, x := range n.items() {
			if x.text() == "*" {
				into.mesh = true
			} else if strings.Contains(x.raw(), "*") {
				r.lacks(x, "is %q, and each namespace is written out", x.raw()).fix("write them")
			} else {
				into.namespaces = append(into.namespaces, x.raw())
			}
		}
	}
}

// signedIn reads principals of requests, "ISSUER/SUBJECT": one of them is enough, so that * takes
// everybody whom somebody signs in, and ISSUER/* everybody of an issuer.
func (r *accessRule) signedIn(n node) (out *tree, issuer string) {
	out = &tree{}
	r.http = true
	var subjects []string
	any, whole := false, false
	for _, x := range n.items() {
		text := x.text()
		if text == "*" {
			any = true
			continue
		}
		at := strings.LastIndex(text, "/")
		if at < 0 || strings.Contains(text[:at], "*") || issuer != "" && issuer != text[:at] || text[at+1:] != "*" && strings.Contains(text[at+1:], "*") {
			r.lacks(x, "is %q, and one issuer is named with whom it signs in", text).fix("write ISSUER/SUBJECT, or ISSUER/*")
			continue
		}
		issuer = text[:at]
		if whole = whole || text[at+1:] == "*"; text[at+1:] != "*" {
			subjects = append(subjects, text[at+1:])
		}
	}
	switch {
	case any:
		issuer = ""
	case !whole && len(subjects) > 0:
		out.add("subjects", quoteList(subjects))
	}
	return out, issuer
}

// templated is a path with {*} for a segment.
var templated = regexp.MustCompile(`\{\*\}`)

// pathOf is a path of a grant or a deny.
func pathOf(text string) (string, bool) {
	named := 0
	out := templated.ReplaceAllStringFunc(strings.TrimSuffix(text, "{**}"), func(string) string { named++; return fmt.Sprintf("{any%d}", named) })
	if strings.HasSuffix(text, "/{**}") {
		out += "*"
	} else if out != text && named == 0 {
		return "", false
	}
	switch star := strings.Index(out, "*"); {
	case text == "*":
		return "/*", true
	case star < 0, star == len(out)-1 && strings.HasSuffix(out, "/*"), star == 0 && strings.HasPrefix(out, "*/") && strings.Count(out, "*") == 1:
		return out, strings.HasPrefix(out, "/") || star == 0
	}
	return "", false
}

func operation(r *accessRule, n node) {
	methods := func(text string) (string, bool) { return text, !strings.Contains(text, "*") }
	hosts := func(text string) (string, bool) {
		return strings.ToLower(text), !strings.Contains(strings.TrimPrefix(text, "*."), "*") && !strings.Contains(text, ":")
	}
	for _, w := range []struct {
		yes, no, word string
		said          func(string) (string, bool)
	}{{"methods", "notMethods", "methods", methods}, {"paths", "notPaths", "paths", pathOf}, {"hosts", "notHosts", "hosts", hosts}} {
		if x := n.field(w.yes); x.there() {
			r.http = true
			if w.word != "paths" && slices.Contains(texts(x), "*") {
				continue // any
			}
			r.list(r.what, w.word, x, w.said)
		}
		if x := n.field(w.no); x.there() {
			r.http = true
			r.list(r.other, w.word, x, w.said)
		}
	}
	r.portNumbers(&r.ports, n.field("ports"))
	r.portNumbers(&r.portsNot, n.field("notPorts"))
}

// about reports whether a rule is about a port at which a workload listens.
func (r *accessRule) about(port int) bool {
	return (len(r.ports) == 0 || slices.Contains(r.ports, port)) && !slices.Contains(r.portsNot, port)
}

func (r *accessRule) portNumbers(into *[]int, n node) {
	if !n.there() || !r.once(n, len(*into) > 0) {
		return
	}
	for _, x := range n.items() {
		number, err := strconv.Atoi(x.text())
		if err != nil {
			r.lacks(x, "is no number of a port").fix("write one")
			continue
		}
		*into = append(*into, number)
	}
}

// keyed is a condition's key with names in brackets.
var keyed = regexp.MustCompile(`^([a-z.]+)((?:\[[^][]+\])*)$`)

// condition reads `when`.
func (i *istio) condition(r *accessRule, n node) {
	key, yes, no := n.field("key"), n.field("values"), n.field("notValues")
	m := keyed.FindStringSubmatch(key.text())
	if m == nil {
		r.lacks(n, "asks for %q, for which there is no word", key.raw()).fix("write it by hand")
		return
	}
	name := strings.Trim(strings.ReplaceAll(m[2], "][", "."), "[]")
	if m[1] == "request.auth.claims" && (strings.Contains(m[2], ".") || slices.Contains([]string{"scope", "permission"}, name)) {
		r.lacks(n, "asks for %q, whose name has a dot, which in intent is a claim within another; or which Istio takes apart at its spaces", key.raw()).fix("write `user: PROVIDER: claims` by hand")
		return
	}
	switch m[1] {
	case "source.principal":
		i.both(r, yes, no, i.principals(r))
	case "source.namespace":
		i.both(r, yes, no, i.inNamespaces(r))
	case "source.ip":
		r.list(r.what, "sources", yes, ipRange)
		r.list(r.other, "sources", no, ipRange)
	case "remote.ip":
		r.list(r.what, "clients", yes, ipRange)
		r.list(r.other, "clients", no, ipRange)
	case "destination.port":
		r.portNumbers(&r.ports, yes)
		r.portNumbers(&r.portsNot, no)
	case "request.headers":
		r.http = true
		r.header(r.what, strings.ToLower(name), yes)
		r.header(r.other, strings.ToLower(name), no)
	case "request.auth.principal":
		r.principals(yes, no)
	case "request.auth.audiences", "request.auth.presenter", "request.auth.claims":
		r.claim(strings.TrimPrefix(m[1], "request.auth."), name, yes, no)
	default:
		r.lacks(n, "asks for %q, for which there is no word", key.raw()).fix("write it by hand")
	}
}

func (i *istio) both(r *accessRule, yes, no node, read func(*who, node)) {
	if yes.there() && r.once(yes, !r.by.none()) {
		read(&r.by, yes)
		r.bad = r.bad || r.by.none() // nobody is left, which must not become everybody
	}
	if no.there() {
		read(&r.not, no)
	}
}

func (r *accessRule) principals(yes, no node) {
	if yes.there() && r.once(yes, r.principal) {
		asked, issuer := r.signedIn(yes)
		if r.principal, r.issuer = true, issuer; r.user == nil {
			r.user = &tree{}
		}
		r.user.join(asked)
	}
	if no.there() && r.once(no, r.userNot != nil) {
		r.userNot, r.issuerNot = r.signedIn(no)
	}
}

func (r *accessRule) header(into *tree, name string, n node) {
	if !n.there() {
		return
	}
	values := n.items()
	if len(values) != 1 {
		r.lacks(n, "has several values for one header, and a rule of intent has one").fix("write a rule for each")
		return
	}
	text := values[0].text()
	t := &tree{}
	switch star := strings.Index(text, "*"); {
	case text == "*":
		t.add("present", "true")
	case star < 0:
		t.add("exact", quote(text))
	case star == len(text)-1:
		t.add("prefix", quote(strings.TrimSuffix(text, "*")))
	default:
		r.lacks(n, "is %q, and a header is exact, begins with something, or is there", text).fix("write one of these")
		return
	}
	if r.once(n, into.holds("headers", name)) {
		into.child("headers").put(name, t)
	}
}

func (r *accessRule) claim(kind, name string, yes, no node) {
	r.http = true
	if no.there() {
		r.lacks(no, "is about claims that must not be").fix("write `not: user` by hand")
	}
	if !yes.there() {
		return
	}
	if r.user == nil {
		r.user = &tree{}
	}
	values := texts(yes)
	if slices.ContainsFunc(values, func(v string) bool { return strings.Contains(v, "*") }) {
		r.lacks(yes, "has a *, and what tokens say is exact").fix("write the values out")
		return
	}
	word := map[string]string{"audiences": "audiences", "presenter": "presenters"}[kind]
	switch {
	case word != "" && r.once(yes, r.user.has(word)):
		r.user.add(word, quoteList(values))
	case word == "" && r.once(yes, r.user.holds("claims", name)):
		r.user.child("claims").add(name, quoteList(values))
	}
}

// accesses says who may call each Service.
func (i *istio) accesses() {
	for _, s := range i.services {
		of := i.of[s]
		of.access = &access{}
		for _, p := range i.policies {
			all, none := i.meets(p.aim, s)
			switch {
			case none || p.action == "AUDIT":
			case !all:
				i.dropService(s, p.o.top().at(), p.o.String()+" is about some of its workloads, or about which ones the objects do not say", "select all workloads of the Service, or import them")
			case p.lost:
				i.dropService(s, p.o.top().at(), "a part of "+p.o.String()+" is not translated, and it decides who may call", "mend what is told of the policy, or write `grant` and `deny` by hand")
			case p.action == "ALLOW":
				of.access.allows = true
				of.access.grants = append(of.access.grants, p.rules...)
			default:
				of.access.denies = append(of.access.denies, p.rules...)
				i.refusable(s, p)
			}
		}
		if !of.access.allows && !s.dropped {
			s.o.top().note(diag.Warning, diag.CodeImportAccess, "has no AuthorizationPolicy that says who may call it, so everybody in the mesh may: written are all namespaces that there are").
				fix("write who calls it: `service: %s: grant: NAME: from: [...]`, and `calls: %q: {}` on each caller", label(s.o.name_), s.id())
		}
	}
	for _, e := range i.edges {
		for _, p := range i.policies {
			if p.action != "AUDIT" && i.meetsEdge(p.aim, e) {
				i.refuseEdge(p.aim, e)
			}
		}
	}
}

// refusable drops a Service of which a denial cannot be said.
func (i *istio) refusable(s *service, p *policy) {
	for _, r := range p.rules {
		tcp := slices.ContainsFunc(s.ports, func(x *port) bool {
			return x.protocol == "tcp" && r.about(x.target)
		})
		switch {
		case r.bad:
			i.dropService(s, r.at.at(), "a part of "+p.o.String()+" is not translated, and it would let in who is refused", "mend what is told of the policy, or write `deny` by hand")
		case r.http && tcp:
			i.dropService(s, r.at.at(), p.o.String()+" asks for something of HTTP, and a port of the Service takes bytes", "name the ports in the policy")
		}
	}
}

// accessTrees writes grants and denies.
func (i *istio) accessTrees(s *serving, out *tree) {
	var given names
	for _, r := range s.access.denies {
		if t := i.accessTree(s, r, false); t != nil {
			n := r.at
			out.child("deny").set(field{name: given.give(r.name), sub: t, at: &n})
		}
	}
	given = names{}
	for _, r := range s.access.grants {
		if r.bad {
			continue
		}
		if t := i.accessTree(s, r, true); t != nil {
			n := r.at
			out.child("grant").set(field{name: given.give(r.name), sub: t, at: &n})
		}
	}
	if !s.access.allows {
		n := s.o.top()
		out.child("grant").set(field{name: given.give("everyone"), sub: i.accessTree(s, &accessRule{at: n, what: &tree{}, other: &tree{}}, true), at: &n})
	}
}

// accessTree is a rule as intent, nil where it is about none of the Service's ports.
func (i *istio) accessTree(s *serving, r *accessRule, grant bool) *tree {
	out, not := &tree{}, &tree{}
	switch open := s.mtls != "" || len(s.portMTLS) > 0; {
	case !r.by.none():
		by := r.by
		if by.mesh && grant {
			by = who{namespaces: i.everywhere("")}
		}
		if i.whoTree(s, by, out); out.empty() {
			return nil // nobody of them is there
		}
	case !grant:
		out.add("anyone", "true")
	case open:
		out.add("anyone", "true")
		i.answered(out)
	default:
		i.whoTree(s, who{namespaces: i.everywhere("")}, out)
	}
	out.join(r.what.copied())
	var ports []string
	for _, p := range s.ports {
		if r.about(p.target) && !(grant && r.http && p.protocol == "tcp") {
			ports = append(ports, p.name)
		}
	}
	if len(ports) == 0 {
		return nil
	}
	if len(s.ports) > 1 && (grant || len(ports) < len(s.ports)) {
		out.add("ports", quoteList(ports))
	}
	i.whoTree(s, r.not, not)
	not.join(r.other.copied())
	for _, u := range []struct {
		asked, into *tree
		issuer      string
	}{{r.user, out, r.issuer}, {r.userNot, not, r.issuerNot}} {
		if u.asked != nil {
			u.into.child("user").put(i.providerOf(s, u.issuer), u.asked.copied())
		}
	}
	if len(not.fields) > 0 {
		out.put("not", not)
	}
	return out
}

// everywhere are all namespaces from which somebody calls, but one: whoever has an identity is in
// one of them.
func (i *istio) everywhere(but string) []string {
	all := map[string]bool{}
	for _, s := range i.services {
		all[s.o.ns] = all[s.o.ns] || !s.dropped
	}
	for _, e := range i.edges {
		all[e.ns] = all[e.ns] || slices.ContainsFunc(e.hosts, func(h *edgeHost) bool { return !h.dropped })
	}
	return slices.DeleteFunc(sortedKeys(all), func(ns string) bool { return !all[ns] || ns == but })
}

// whoTree writes callers. Who is not written is named by identity: a denial is about them as well.
func (i *istio) whoTree(s *serving, w who, out *tree) {
	words := map[string][]string{"accounts": slices.Clone(w.accounts)}
	for _, id := range w.ids {
		word, names := i.having(s, id)
		words[word] = append(words[word], names...)
	}
	written := i.everywhere("")
	for _, ns := range w.namespaces {
		if slices.Contains(written, ns) {
			words["namespaces"] = append(words["namespaces"], ns)
		} else {
			words["identities"] = append(words["identities"], "spiffe://"+istioTrust+"/ns/"+ns+"/sa/*")
		}
	}
	for word, list := range words {
		slices.Sort(list)
		if list = slices.Compact(list); len(list) > 0 {
			out.add(word, quoteList(list))
		}
	}
	if w.mesh {
		out.add("mesh", "true")
	}
	slices.SortFunc(out.fields, func(a, b field) int { return strings.Compare(a.name, b.name) })
}

// having is how those are named who have an account: by the names of Services and gateways that
// have no other one, else by the account, or by its identity where none of them is written.
func (i *istio) having(s *serving, id string) (word string, names []string) {
	ns, account, _ := strings.Cut(id, "/")
	for _, x := range i.services {
		all := i.of[x].allAccounts()
		if x.dropped || x.o.ns != ns || !slices.Contains(all, account) {
			continue
		}
		if len(all) > 1 {
			return "accounts", []string{id}
		}
		names = append(names, x.ref(s.o.ns))
	}
	for _, e := range i.edges {
		if slices.Contains(e.accounts, id) && slices.ContainsFunc(e.hosts, func(h *edgeHost) bool { return !h.dropped }) {
			names = append(names, "gateway/"+e.id())
		}
	}
	if len(names) == 0 {
		return "identities", []string{"spiffe://" + istioTrust + "/ns/" + ns + "/sa/" + account}
	}
	return "from", names
}

// sidecar is a Sidecar.
type sidecar struct {
	aim
	hosts [][2]string
	// open says that it lets out to where nothing is declared.
	open bool
}

func (i *istio) sidecar(o *object) {
	spec := o.top().field("spec")
	selector := spec.field("workloadSelector")
	x := &sidecar{aim: aim{o: o, selector: map[string]string{}}}
	for _, e := range selector.field("labels").entries() {
		x.selector[e.name] = e.text()
	}
	for _, n := range spec.field("egress").items() {
		for _, h := range n.field("hosts").items() {
			ns, host, both := strings.Cut(h.text(), "/")
			if !both {
				h.lacks(diag.CodeImportValue, "is not NAMESPACE/HOST").fix("write it so")
				continue
			}
			if ns == "." {
				ns = o.ns
			}
			x.hosts = append(x.hosts, [2]string{ns, host})
		}
	}
	if m := spec.down("outboundTrafficPolicy", "mode"); m.there() {
		switch m.skip(); {
		case m.raw() == "REGISTRY_ONLY": // as intent has it where nothing is written
		case m.raw() == "ALLOW_ANY" && i.answer.Owner != "":
			x.open = true
		default:
			m.lacks(diag.CodeImportAnswer, "lets out to where nothing is declared, which intent does for a time only, with somebody who answers for it: written as closed").
				fix("give --owner, --reason and --until; or write an `external` for each place")
		}
	}
	i.sidecars = append(i.sidecars, x)
}

// called reports whether a Sidecar lets a Service see a host.
func (x *sidecar) sees(ns, host string) bool {
	return slices.ContainsFunc(x.hosts, func(h [2]string) bool {
		return (h[0] == "*" || h[0] == ns) && within(host, h[1])
	})
}

// callTrees writes what a Service calls: what its Sidecar lets it see, else who names it as caller.
func (i *istio) callTrees(s *serving, out *tree) {
	own := i.sidecarOf(s.service)
	calls := map[string]*tree{}
	add := func(ns, name string, ports []string) {
		if ns != s.o.ns {
			name = ns + "/" + name
		}
		calls[name] = &tree{}
		if len(ports) > 1 {
			for _, port := range ports {
				calls[name].child("port").put(port, &tree{})
			}
		}
	}
	for _, t := range i.services {
		sees := own != nil && own.sees(t.o.ns, fqdn(t.o.name_, t.o.ns)) || own == nil && i.names(i.of[t], s.service)
		if t == s.service || t.dropped || !sees {
			continue
		}
		var ports []string
		for _, p := range t.ports {
			ports = append(ports, p.name)
		}
		add(t.o.ns, t.o.name_, ports)
	}
	for _, x := range i.outside {
		if own != nil && !x.dropped && slices.ContainsFunc(x.hosts, func(h string) bool { return own.sees(x.o.ns, h) }) {
			add(x.o.ns, x.name, x.ports)
		}
	}
	for _, ref := range sortedKeys(calls) {
		out.child("calls").put(ref, calls[ref])
	}
	if own != nil && own.open {
		out.put("egress", i.exception("shadow")) // let out as by Istio, and counted
	}
}

// names reports whether a grant is for a caller by its name.
func (i *istio) names(s *serving, caller *service) bool {
	return slices.ContainsFunc(s.access.grants, func(r *accessRule) bool {
		return !r.bad && slices.ContainsFunc(r.by.ids, func(id string) bool {
			ns, account, _ := strings.Cut(id, "/")
			return caller.o.ns == ns && slices.Contains(i.of[caller].allAccounts(), account)
		})
	})
}

// sidecarOf is the Sidecar of a Service's workloads, the most special one.
func (i *istio) sidecarOf(s *service) (own *sidecar) {
	for _, x := range i.sidecars {
		if all, _ := i.meets(x.aim, s); all && (own == nil || len(own.selector) == 0 || x.o.ns != istioRoot && own.o.ns == istioRoot) {
			own = x
		}
	}
	return own
}
