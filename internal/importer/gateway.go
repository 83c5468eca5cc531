package importer

import (
	"fmt"
	"slices"
	"strings"

	"meshc.dev/meshc/internal/diag"
)

const gatewayGroup = "gateway.networking.k8s.io"

// gateway is a Gateway.
type gateway struct {
	o         *object
	listeners []*listener
	// named are the names of its ports of intent: listeners of one number and protocol share one.
	named map[door]string
	// neighbours are the names of the Services in its namespace.
	neighbours map[string]bool
}

// door is what a port of intent is made of.
type door struct {
	port  int
	https bool
}

func (l *listener) door() door { return door{l.port, l.https} }

// listener is one of its doors.
type listener struct {
	gateway *gateway
	at      node
	name    string
	port    int
	https   bool
	// other says that it speaks neither, so that no HTTPRoute is attached.
	other    bool
	hostname string // "*" where none is written
	// allows reports whether routes of a namespace may be attached; known is false if the
	// objects do not say it.
	allows       func(namespace string) (ok, known bool)
	certificates []string // Secrets of the gateway's namespace
	// bad says that something of it is not translated.
	bad bool
}

func (w *world) gateway(o *object) {
	g := &gateway{o: o, neighbours: map[string]bool{}}
	for _, s := range w.services {
		if s.o.ns == o.ns {
			g.neighbours[s.o.name_] = true
		}
	}
	spec := o.top().field("spec")
	spec.field("gatewayClassName").skip() // meshc's own gateways take its place
	for _, n := range spec.field("listeners").items() {
		before := len(w.findings)
		l := w.listener(g, n)
		l.bad = slices.ContainsFunc(w.findings[before:], diag.Diagnostic.IsError)
		g.listeners = append(g.listeners, l)
	}
	for _, path := range o.rest() {
		for i, l := range g.listeners {
			// What is left out of a listener, or of all, its hosts must not be without: it may be
			// what visitors have to show.
			l.bad = l.bad || strings.HasPrefix(path, fmt.Sprintf("spec.listeners[%d]", i)) || !slices.Contains(harmless(), path) && !strings.HasPrefix(path, "spec.listeners")
		}
	}
	g.name()
	w.gateways = append(w.gateways, g)
}

// name gives each port a name: a listener's own that is alone at it, else one of its protocol
// and number.
func (g *gateway) name() {
	var given names
	at := map[int]int{}
	for _, l := range g.listeners {
		at[l.port]++
	}
	g.named = map[door]string{}
	for _, l := range g.listeners {
		if at[l.port] == 1 && nameOf(l.name) == l.name && given.take(l.name) {
			g.named[l.door()] = l.name
		}
	}
	for _, l := range g.listeners {
		if g.named[l.door()] == "" {
			g.named[l.door()] = given.give(fmt.Sprintf("%s-%d", map[bool]string{false: "http", true: "https"}[l.https], l.port))
		}
	}
}

// certified names the certificates of each namespace.
func (w *world) certified() {
	secrets := map[string]map[string]bool{}
	for _, g := range w.gateways {
		for _, l := range g.listeners {
			for _, c := range l.certificates {
				if secrets[g.o.ns] == nil {
					secrets[g.o.ns] = map[string]bool{}
				}
				secrets[g.o.ns][c] = true
			}
		}
	}
	w.certificates = map[string]map[string]string{}
	for ns, all := range secrets {
		var given names
		w.certificates[ns] = map[string]string{}
		for _, own := range []bool{true, false} { // who is called so already stays it
			for _, c := range sortedKeys(all) {
				if own == (nameOf(c) == c) {
					w.certificates[ns][c] = given.give(c)
				}
			}
		}
	}
}

// harmless are the fields of a Gateway that are about the objects by which it runs.
func harmless() []string { return []string{"spec.addresses", "spec.infrastructure"} }

func (w *world) listener(g *gateway, n node) *listener {
	l := &listener{gateway: g, at: n, name: n.field("name").text(), hostname: n.field("hostname").textOr("*")}
	if slices.ContainsFunc(g.listeners, func(o *listener) bool { return o.name == l.name }) {
		n.field("name").refuse(diag.CodeImportValue, "is %q, as is another listener's", l.name).fix("give each listener a name of its own")
	}
	if l.hostname == "" {
		l.hostname = "*"
	}
	l.port, _ = n.field("port").number(1, 65535)
	switch p := n.field("protocol"); p.text() {
	case "HTTP":
	case "HTTPS":
		l.https = true
	default:
		l.other = true
		p.refuse(diag.CodeImportValue, "is %q; only HTTP and HTTPS are translated", p.raw()).fix("write a port of the protocol \"tls\" or \"tcp\" at the gateway, with routes of its own")
	}
	if tls := n.field("tls"); l.https {
		if m := tls.field("mode"); m.textOr("Terminate") != "Terminate" {
			m.refuse(diag.CodeImportValue, "is not translated where TLS is passed on").fix("write a port of the protocol \"tls\" at the gateway, with routes by `sni`")
		}
		for _, c := range tls.field("certificateRefs").items() {
			if c.field("group").text() != "" || c.field("kind").textOr("Secret") != "Secret" || c.field("namespace").textOr(g.o.ns) != g.o.ns {
				c.refuse(diag.CodeImportValue, "is no Secret of the gateway's own namespace").fix("copy the Secret there, and name it here")
				continue
			}
			l.certificates = append(l.certificates, c.field("name").text())
		}
		if len(l.certificates) == 0 {
			n.field("tls").lacks(diag.CodeImportMissing, "names no certificate").fix("name a Secret in certificateRefs")
		}
	}
	if tls := n.field("tls"); !l.https && tls.there() {
		tls.refuse(diag.CodeImportValue, "is about TLS, which the listener's protocol does not speak or pass on here").fix("take it out")
	}
	l.allows = w.allowed(g, n.field("allowedRoutes"))
	return l
}

// allowed reads which routes may be attached.
func (w *world) allowed(g *gateway, n node) func(string) (ok, known bool) {
	for _, k := range n.field("kinds").items() {
		if k.field("group").textOr(gatewayGroup) != gatewayGroup || k.field("kind").text() != "HTTPRoute" {
			k.refuse(diag.CodeImportValue, "is not HTTPRoute").fix("write the routes of other kinds by hand")
		}
	}
	ns := n.field("namespaces")
	from := ns.field("from")
	switch from.textOr("Same") {
	case "Same":
		return func(namespace string) (ok, known bool) { return namespace == g.o.ns, true }
	case "All":
		return func(string) (ok, known bool) { return true, true }
	case "Selector":
		want := map[string]string{}
		for _, e := range ns.field("selector").field("matchLabels").entries() {
			want[e.name] = e.text()
		}
		if s := ns.field("selector"); len(want) == 0 {
			s.lacks(diag.CodeImportValue, "is translated with matchLabels alone").fix("write the labels as matchLabels")
		}
		return func(namespace string) (ok, known bool) {
			labels, known := w.labels(namespace)
			for key, value := range want {
				if got, there := labels[key]; !there || got != value {
					return false, known || key == "kubernetes.io/metadata.name"
				}
			}
			return true, true
		}
	}
	from.refuse(diag.CodeImportValue, "is %q; it takes Same, All or Selector", from.raw()).fix("write one of them")
	return func(string) (ok, known bool) { return false, false }
}

// ports are the gateway's ports of intent: one for each number, by its name.
func (g *gateway) ports() map[string]*listener {
	out := map[string]*listener{}
	for _, l := range g.listeners {
		out[g.named[l.door()]] = l
	}
	return out
}

// meet is the part of two hostnames that both take; ok is false if there is none.
func meet(a, b string) (_ string, ok bool) {
	switch {
	case within(a, b):
		return a, true
	case within(b, a):
		return b, true
	}
	return "", false
}

// within reports whether a takes nothing that b does not. "*.x" is all names below x, and not x.
func within(a, b string) bool {
	if b == "*" || a == b {
		return true
	}
	suffix, wild := strings.CutPrefix(b, "*.")
	return wild && a != "*" && strings.HasSuffix(strings.TrimPrefix(a, "*"), "."+suffix)
}
