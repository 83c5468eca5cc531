package importer

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"meshc.dev/meshc/internal/diag"
)

// test is what is asked of one text: exact, prefix, regex or present.
type test struct{ kind, value string }

// asked is one alternative of a rule of a VirtualService.
type asked struct {
	at     node
	path   test // "" for every path; a prefix is by characters
	fold   bool // letters of either case in the path
	method string
	scheme string
	// headers, query and without are by name; none of without may hold.
	headers, query, without map[string]test
	// from are the Services whose workloads ask, nil for anybody; namespace is theirs.
	from      []*service
	namespace string
	// gateways are where it holds, nil for all of the VirtualService; port is 0 for any.
	gateways []string
	port     int
}

// testOf reads a StringMatch. One without anything asks for the text to be there.
func testOf(n node) test {
	var out test
	for _, kind := range []string{"exact", "prefix", "regex"} {
		if x := n.field(kind); x.there() {
			if out.kind != "" {
				x.refuse(diag.CodeImportValue, "stands beside %s", out.kind).fix("write one of them")
				continue
			}
			if out = (test{kind, x.text()}); out.value == "" && kind != "prefix" {
				x.refuse(diag.CodeImportValue, "is empty").fix("write a value, or nothing but the name for any")
			}
			if _, err := regexp.Compile(out.value); kind == "regex" && err != nil {
				x.refuse(diag.CodeImportValue, "is no regular expression: %v", err).fix("write RE2")
			}
		}
	}
	if out.kind == "" || out.kind == "prefix" && out.value == "" {
		return test{kind: "present"}
	}
	return out
}

func (i *istio) asked(v *virtual, n node) asked {
	a := asked{at: n}
	if u := n.field("uri"); u.there() {
		if a.path = testOf(u); a.path.kind == "present" || a.path == (test{"prefix", "/"}) {
			a.path = test{}
		}
		if a.path.kind != "" && a.path.kind != "regex" && !strings.HasPrefix(a.path.value, "/") {
			u.lacks(diag.CodeImportValue, "does not begin with a slash").fix("write a path")
		}
	}
	fold := n.field("ignoreUriCase")
	fold.skip()
	a.fold = fold.raw() == "true" && (a.path.kind == "exact" || a.path.kind == "prefix")
	for name, into := range map[string]*string{"method": &a.method, "scheme": &a.scheme} {
		x := n.field(name)
		if !x.there() {
			continue
		}
		t := testOf(x)
		if *into = t.value; t.kind != "exact" {
			x.lacks(diag.CodeImportValue, "is not exact").fix("write one rule for each %s", name)
		}
	}
	if x := n.field("authority"); x.there() {
		x.refuse(diag.CodeImportValue, "asks for a host, and a route of intent stands below its host").fix("write the host in `hosts` of a VirtualService of its own")
	}
	a.headers, a.query, a.without = tests(n.field("headers"), true), tests(n.field("queryParams"), false), tests(n.field("withoutHeaders"), true)
	for _, name := range sortedKeys(a.without) {
		t := a.without[name]
		if re, err := regexp.Compile("^(?:" + t.value + ")$"); t.kind == "regex" && err == nil && re.MatchString("") {
			n.field("withoutHeaders").lacks(diag.CodeImportValue, "takes the empty text for %q, for which Istio takes a header that is missing", name).fix("write an expression that does not")
		}
	}
	for _, g := range n.field("gateways").items() {
		a.gateways = append(a.gateways, v.gatewayID(g.text()))
	}
	if len(a.gateways) == 0 {
		i.callers(&a, n)
	} else {
		passedOver(n.field("sourceLabels"), n.field("sourceNamespace"))
	}
	a.port, _ = n.field("port").number(1, 65535)
	if s := n.field("statPrefix"); s.there() {
		s.note(diag.Note, diag.CodeImportLeft, "names a counter").fix("nothing; routes are counted by their own names")
		s.skip()
	}
	n.field("name").skip()
	return a
}

// tests are those of headers or parameters, by name.
func tests(n node, lower bool) map[string]test {
	out := map[string]test{}
	for _, e := range n.entries() {
		name := e.name
		if lower {
			name = strings.ToLower(name)
		}
		if lower && slices.Contains([]string{"uri", "scheme", "method", "authority"}, name) {
			e.note(diag.Note, diag.CodeImportLeft, "is passed over by Istio").fix("take it out, or write the field of that name")
			e.skip()
			continue
		}
		if _, twice := out[name]; twice {
			e.refuse(diag.CodeImportValue, "stands there twice, in other letters").fix("leave one of them")
			continue
		}
		if e.y.Tag == "!!null" {
			e.skip()
			out[name] = test{kind: "present"}
			continue
		}
		out[name] = testOf(e.node)
	}
	return out
}

// passedOver tells of callers that stand beside gateways.
func passedOver(all ...node) {
	for _, x := range all {
		if x.there() {
			x.note(diag.Warning, diag.CodeImportLeft, "is passed over by Istio, since gateways stand beside it: the alternative takes all callers").fix("take it out, or the gateways")
			x.skip()
		}
	}
}

// callers reads whose requests it is about.
func (i *istio) callers(a *asked, n node) {
	a.namespace = n.field("sourceNamespace").text()
	labels := map[string]string{}
	l := n.field("sourceLabels")
	for _, e := range l.entries() {
		labels[e.name] = e.text()
	}
	if len(labels) == 0 {
		return
	}
	for _, s := range i.services {
		if maps.Equal(s.selector, labels) && (a.namespace == "" && s.o.ns == n.o.ns || s.o.ns == a.namespace) {
			a.from = append(a.from, s)
		} else if all, none := i.selects(labels, s); !none || all {
			l.lacks(diag.CodeImportValue, "takes workloads of %s, and is not its selector", s.o).fix("write `match: from` with services")
			return
		}
	}
	if len(a.from) == 0 {
		l.lacks(diag.CodeImportValue, "is the selector of no Service").fix("write `match: from` with services")
	}
}

// before reports whether intent tries a before b by itself, where one request fits both.
func (a asked) before(b asked) bool {
	if a.fold || b.fold || a.path.kind == "regex" || b.path.kind == "regex" {
		return a.path.kind == "exact" && !a.fold
	}
	rank := map[string]int{"exact": 2, "prefix": 1}
	if d := cmp.Or(rank[a.path.kind]-rank[b.path.kind], len(a.path.value)-len(b.path.value)); d != 0 {
		return d > 0
	}
	if len(a.from)+len(b.from)+len(a.namespace)+len(b.namespace)+len(a.without)+len(b.without)+len(a.scheme)+len(b.scheme) > 0 {
		return false // not known here
	}
	return cmp.Or(min(1, len(a.method))-min(1, len(b.method)), len(a.headers)-len(b.headers), len(a.query)-len(b.query)) > 0
}

// everything reports whether it takes every request that comes to its place.
func (a asked) everything() bool {
	path := a.path.kind == "" || a.path == test{"regex", ".*"}
	return path && a.method == "" && a.scheme == "" && len(a.headers)+len(a.query)+len(a.without) == 0 && a.from == nil && a.namespace == ""
}

// apart reports whether no request fits both, each header and parameter being there once.
func (a asked) apart(b asked) bool {
	differ := func(x, y map[string]test) bool {
		for name, t := range x {
			if u, both := y[name]; both && t.kind == "exact" && u.kind == "exact" && t.value != u.value {
				return true
			}
		}
		return false
	}
	switch {
	case a.method != "" && b.method != "" && a.method != b.method,
		a.scheme != "" && b.scheme != "" && a.scheme != b.scheme,
		a.namespace != "" && b.namespace != "" && a.namespace != b.namespace,
		differ(a.headers, b.headers), differ(a.query, b.query):
		return true
	case a.fold || b.fold || a.path.kind == "regex" || b.path.kind == "regex":
		return false
	case a.path.kind == "exact" && b.path.kind == "exact":
		return a.path.value != b.path.value
	case a.path.kind == "exact":
		return !strings.HasPrefix(a.path.value, b.path.value)
	case b.path.kind == "exact":
		return !strings.HasPrefix(b.path.value, a.path.value)
	}
	return !strings.HasPrefix(a.path.value, b.path.value) && !strings.HasPrefix(b.path.value, a.path.value)
}

// covers reports whether everything that b takes is taken by a.
func (a asked) covers(b asked) bool {
	subset := func(x, y map[string]test) bool {
		for name, t := range x {
			if u, there := y[name]; !there || u != t && t.kind != "present" {
				return false
			}
		}
		return true
	}
	same := a.path == b.path && (a.fold || !b.fold)
	prefix := a.path.kind == "prefix" && !b.fold && b.path.kind != "regex" && b.path.kind != "" && strings.HasPrefix(b.path.value, a.path.value)
	without := true
	for name, t := range a.without {
		u, there := b.without[name]
		without = without && there && u == t
	}
	return (a.path.kind == "" || same || prefix) && without && subset(a.headers, b.headers) && subset(a.query, b.query) &&
		(a.method == "" || a.method == b.method) && (a.scheme == "" || a.scheme == b.scheme) && (a.namespace == "" || a.namespace == b.namespace) &&
		(a.from == nil || slices.Equal(a.from, b.from))
}

// tree is the match as intent, nil for everything; ns is the namespace in which it stands.
func (a asked) tree(ns string) *tree {
	out := &tree{}
	if word := map[string]string{"exact": "exact", "prefix": "startsWith", "regex": "regex"}[a.path.kind]; word != "" {
		if out.child("path").add(word, quote(a.path.value)); a.fold {
			out.child("path").add("ignoreCase", "true")
		}
	}
	if a.method != "" {
		out.add("methods", quoteList([]string{a.method}))
	}
	if a.scheme != "" {
		out.add("scheme", quote(a.scheme))
	}
	testTrees(out, "headers", a.headers)
	testTrees(out, "query", a.query)
	if len(a.from) > 0 {
		var refs []string
		for _, s := range a.from {
			refs = append(refs, s.ref(ns))
		}
		out.add("from", quoteList(refs))
	} else if a.namespace != "" {
		out.add("namespaces", quoteList([]string{a.namespace}))
	}
	if len(a.without) > 0 {
		testTrees(out.child("not"), "headers", a.without)
	}
	if len(out.fields) == 0 {
		return nil
	}
	return out
}

func testTrees(out *tree, word string, all map[string]test) {
	for _, name := range sortedKeys(all) {
		t := all[name]
		value := quote(t.value)
		if t.kind == "present" {
			value = "true"
		}
		out.child(word).child(name).add(t.kind, value)
	}
}

// ordered is one alternative with its rank.
type ordered struct {
	asked
	rule     *steps
	ri, mi   int
	priority int
}

// inOrder are the alternatives that some request comes to, in Istio's order, where the first that
// fits is the one. Where intent would try a later one first, priority says it.
func inOrder(all []ordered, where string) (out []ordered) {
	for _, c := range all {
		if slices.ContainsFunc(out, func(o ordered) bool { return o.covers(c.asked) }) {
			c.at.note(diag.Note, diag.CodeImportLeft, "is never reached at %s: another rule takes every request before it", where).fix("take it out")
			continue
		}
		out = append(out, c)
	}
	for at := len(out) - 1; at >= 0; at-- {
		for _, later := range out[at+1:] {
			if out[at].apart(later.asked) {
				continue
			}
			least := later.priority
			if !out[at].before(later.asked) {
				least++
			}
			out[at].priority = max(out[at].priority, least)
		}
	}
	return out
}

// name is that of the route.
func (c ordered) name(v *virtual) string {
	out := cmp.Or(c.rule.name, v.o.name_)
	if c.rule.name == "" && len(v.rules) > 1 {
		out += fmt.Sprintf("-%d", c.ri+1)
	}
	if len(c.rule.matches) > 1 {
		out += fmt.Sprintf("-%d", c.mi+1)
	}
	return nameOf(out)
}
