package importer

import (
	"cmp"
	"fmt"
	"slices"

	"meshc.dev/meshc/internal/diag"
)

// service is a Service that intent can say.
type service struct {
	o        *object
	ports    []*port
	selector map[string]string
	// dropped says that it is not written.
	dropped bool
}

func (s *service) id() string { return s.o.id() }

// port finds a port by its number.
func (s *service) port(number int) *port {
	for _, p := range s.ports {
		if p.number == number {
			return p
		}
	}
	return nil
}

// port is a port of a Service.
type port struct {
	name           string
	number, target int
	// protocol is meshc's word, "" while nothing says it.
	protocol string
	at       node
}

// appProtocols are the names of protocols by which a Service's port says what it speaks.
func appProtocols() map[string]string {
	return map[string]string{"http": "http", "kubernetes.io/h2c": "http2", "grpc": "grpc", "tcp": "tcp"}
}

// service reads a Service of which nothing says who may call it.
func (w *world) service(o *object) {
	if s := w.readService(o, func(map[string]string, string) (int, bool) { return 0, false }); !s.dropped {
		o.top().note(diag.Warning, diag.CodeImportAccess, "nothing says here who may call it, so everybody may; intent lets nobody in who is not named, and names the gateways whose routes lead there. Its workloads' account is taken to be %q", o.name_).
			fix("write who calls it: `service: %s: grant: NAME: from: [...]`, and `calls: %q: {}` on each caller; and `serviceAccount` if it is another", label(o.name_), o.id())
	}
}

// readService reads a Service: a name, ports, and whose pods they are. named tells the number of
// a container's port by its name, where something is known of the pods with such labels.
func (w *world) readService(o *object, named func(labels map[string]string, port string) (int, bool)) *service {
	spec, s := o.top().field("spec"), &service{o: o, selector: map[string]string{}}
	w.services = append(w.services, s)
	for name, harmless := range map[string]string{"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster", "publishNotReadyAddresses": "false"} {
		if n := spec.field(name); n.there() && n.y.Value == harmless {
			n.skip()
		}
	}
	for _, name := range []string{"clusterIP", "clusterIPs"} { // given by the cluster, but for "None"
		n := spec.field(name)
		if n.there() && !(n.y.Value == "None" || len(n.y.Content) > 0 && n.y.Content[0].Value == "None") {
			n.skip()
		}
	}
	spec.field("ipFamilies").skip()
	spec.field("ipFamilyPolicy").skip()
	external := spec.field("type").raw() == "ExternalName"
	for _, e := range spec.field("selector").entries() {
		s.selector[e.name] = e.text()
	}
	if s.dropped = len(s.selector) == 0 || external; len(s.selector) == 0 {
		spec.lacks(diag.CodeImportValue, "has no selector, so that its endpoints come from elsewhere").fix("write `endpoints` on the service, or an `external` for what lies outside of the cluster")
	}
	for _, n := range spec.field("ports").items() {
		p, ok := readPort(n, s.selector, named)
		if ok && p != nil && slices.ContainsFunc(s.ports, func(o *port) bool { return o.name == p.name || o.number == p.number }) {
			n.refuse(diag.CodeImportValue, "has the name or the number of another port").fix("give each port a name and a number of its own")
			ok = false
		}
		if s.dropped = s.dropped || !ok; p != nil {
			s.ports = append(s.ports, p)
		}
	}
	if len(s.ports) == 1 && s.ports[0].name == "" {
		s.ports[0].name = "main"
	}
	s.dropped = s.dropped || len(s.ports) == 0
	return s
}

// readPort reads a port, nil for one that the mesh does not carry; ok is false where what it is
// is not known.
func readPort(n node, labels map[string]string, named func(map[string]string, string) (int, bool)) (_ *port, ok bool) {
	p := &port{name: n.field("name").text(), at: n}
	number, ok := n.field("port").number(1, 65535)
	if !ok {
		return nil, false
	}
	p.number, p.target = number, number
	if proto := n.field("protocol"); proto.textOr("TCP") != "TCP" {
		n.field("targetPort").skip()
		proto.refuse(diag.CodeImportValue, "is %s, which the mesh does not carry", proto.raw()).fix("leave this port outside of the mesh")
		return nil, true
	}
	if t := n.field("targetPort"); t.there() {
		if number, known := named(labels, t.raw()); t.y.ShortTag() == "!!str" && known {
			t.skip()
			p.target = number
		} else if t.y.ShortTag() == "!!str" {
			t.refuse(diag.CodeImportValue, "is the name of a container's port, and these objects do not say its number").fix("write the number here")
			return p, false
		} else if p.target, ok = t.number(1, 65535); !ok {
			return p, false
		}
	}
	if a := n.field("appProtocol"); a.there() {
		said := a.text()
		if p.protocol = appProtocols()[said]; p.protocol == "" {
			a.refuse(diag.CodeImportValue, "is %q, which no word of intent says exactly", said).fix("write http, kubernetes.io/h2c, grpc or tcp, and `upgrade: [\"websocket\"]` on the routes that need it")
			return p, false
		}
	}
	return p, true
}

// protocols settles what ports speak of which nothing says it: what an HTTPRoute leads to speaks
// HTTP/1.1, and the rest are bytes.
func (w *world) protocols() {
	for _, r := range w.routes {
		for _, b := range r.backends() {
			if b.port != nil && b.port.protocol == "" {
				b.port.protocol = "http"
			}
		}
	}
	for _, s := range w.services {
		for _, p := range s.ports {
			if p.protocol == "" {
				p.protocol = "tcp"
				p.at.note(diag.Note, diag.CodeImportLeft, "says no appProtocol and no route leads there: taken for bytes").fix("write `protocol` there, if it speaks HTTP")
			}
			if p.name == "main" && len(s.ports) == 1 && p.at.field("name").text() == "" {
				p.name = p.protocol
			}
		}
	}
}

// backend is a port of a Service to which a route sends.
type backend struct {
	service *service
	port    *port
	weight  int
	edits   *tree // of what goes there alone
	at      node
}

// find is the Service of a reference.
func (w *world) find(namespace, name string) *service {
	for _, s := range w.services {
		if s.o.ns == namespace && s.o.name_ == name {
			return s
		}
	}
	return nil
}

// tree is the service as intent. doors are the gateways whose routes lead to it, with the ports.
func (s *service) tree(doors map[string][]string) *tree {
	out := &tree{}
	ports, apps := out.child("port"), &tree{}
	for _, p := range s.ports {
		t := &tree{}
		ports.put(p.name, t)
		t.add("number", fmt.Sprint(p.number))
		if p.protocol != "http" {
			t.add("protocol", quote(p.protocol))
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
	if len(apps.fields) > 0 {
		out.child("version").child("default").put("port", apps)
	}
	var given names
	for _, door := range sortedKeys(doors) {
		g := &tree{}
		out.child("grant").put(given.give("gateway-"+door), g)
		g.add("from", "["+quote("gateway/"+door)+"]")
		if len(s.ports) > 1 {
			used := slices.Compact(slices.Sorted(slices.Values(doors[door])))
			g.add("ports", quoteList(used))
		}
	}
	return out
}

// referenceGrant lets objects of other namespaces refer to Services of its own.
type referenceGrant struct {
	namespace string
	from      []string // namespaces of HTTPRoutes
	to        []string // names of Services, "" for all
}

func (w *world) referenceGrant(o *object) {
	g := &referenceGrant{namespace: o.ns}
	spec := o.top().field("spec")
	for _, f := range spec.field("from").items() {
		group, kind, ns := f.field("group").text(), f.field("kind").text(), f.field("namespace").text()
		if group == gatewayGroup && kind == "HTTPRoute" {
			g.from = append(g.from, ns)
		} else {
			f.note(diag.Note, diag.CodeImportLeft, "is about %s, of which nothing is translated that needs it", cmp.Or(kind, "another kind")).fix("nothing")
		}
	}
	for _, t := range spec.field("to").items() {
		group, kind, name := t.field("group").text(), t.field("kind").text(), t.field("name").text()
		if group == "" && kind == "Service" {
			g.to = append(g.to, name)
		} else {
			t.note(diag.Note, diag.CodeImportLeft, "is about %s, of which nothing is translated that needs it", cmp.Or(kind, "another kind")).fix("nothing")
		}
	}
	w.grants = append(w.grants, g)
}

// mayRefer reports whether HTTPRoutes of a namespace may name a Service of another one.
func (w *world) mayRefer(from, namespace, name string) bool {
	return from == namespace || slices.ContainsFunc(w.grants, func(g *referenceGrant) bool {
		return g.namespace == namespace && slices.Contains(g.from, from) && (slices.Contains(g.to, "") || slices.Contains(g.to, name))
	})
}
