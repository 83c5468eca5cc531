package imports

import (
	"cmp"
	"fmt"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// scene is a namespace with a Gateway of its own, the Services s1 (of the subsets v1 and v2) and s2, and their callers
// c1 and c2, beside those in the namespace "far".
type scene struct {
	ns       string
	virtual  []virtual
	policies []object
}

// virtual is a VirtualService.
type virtual struct {
	name, created string
	hosts         []string
	mesh, edge    bool // whose requests it is about
	rules         []object
}

// at reports whether it is about visitors, or callers in the mesh.
func (v virtual) at(edge bool) bool { return edge && v.edge || !edge && v.mesh }

const (
	farAway = "far"
	// doors is where gateways' proxies run, each with the account of its scene's name: a policy of a namespace is about
	// the visitors of those within as well, which the import tells and does not write.
	doors = "doors"
)

// label is the value of "app" of an application's workloads.
func label(ns, app string) string { return app + "-" + ns }

// scene draws one.
func (d drawing) scene(ns string) scene {
	s := scene{ns: ns}
	if d.one(2) { // intent applies a service's routes to visitors as well, so the import writes one or the other
		v := virtual{name: "mesh", created: "2024-01-09T00:00:00Z", mesh: true, hosts: []string{pick(d, "s1", "s1."+ns+".svc.cluster.local")}}
		v.rules = d.rules(s, v)
		s.virtual = append(s.virtual, v)
	} else {
		for i := range 1 + d.IntN(3) { // of one host often, so that their rules are joined
			v := virtual{name: fmt.Sprintf("edge%d", i), created: fmt.Sprintf("2024-01-0%dT00:00:00Z", 1+(i*2)%3), edge: true,
				hosts: pick(d, []string{"x." + ns}, []string{"x." + ns}, []string{"x." + ns, "y." + ns}, []string{"*.w." + ns}, []string{"a.w." + ns})}
			v.rules = d.rules(s, v)
			s.virtual = append(s.virtual, v)
		}
	}
	if d.one(2) {
		for range 1 + d.IntN(3) {
			s.policies = append(s.policies, d.policy(ns))
		}
	}
	return s
}

// rules draws those of a VirtualService. Most say in a header of their answers which one they are.
func (d drawing) rules(s scene, v virtual) (out []object) {
	for i := range 1 + d.IntN(4) {
		r := object{}
		if i > 0 || !d.one(4) {
			for range pick(d, 0, 1, 1, 1, 2) {
				r["match"] = append(list(r["match"]), d.matching(s.ns, v.mesh))
			}
		}
		switch d.IntN(8) {
		case 0:
			r["redirect"] = d.redirecting()
		case 1:
			r["directResponse"] = object{"status": pick(d, 200, 418, 503), "body": object{"string": "said"}}
		default:
			d.sending(r, v)
		}
		if r["route"] != nil && d.one(6) {
			r["fault"] = pick(d, object{"abort": object{"httpStatus": 418, "percentage": object{"value": 100}}}, object{"delay": object{"fixedDelay": "0.020s", "percentage": object{"value": 100}}},
				object{"abort": object{"httpStatus": 503, "percentage": object{"value": 0}}})
		}
		if !d.one(6) {
			edit(r, "response", "set", tag, fmt.Sprintf("%s.%s.%d", s.ns, v.name, i))
		}
		out = append(out, r)
	}
	return out
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}

// edit adds an edit of a header, below "headers" of a rule or a destination.
func edit(of object, which, how, name, value string) {
	at := of
	for _, key := range []string{"headers", which, how} {
		below, ok := at[key].(object)
		if !ok {
			below = object{}
			at[key] = below
		}
		at = below
	}
	at[name] = value
}

func (d drawing) matching(ns string, mesh bool) object {
	m := object{}
	switch d.IntN(6) {
	case 0:
		m["uri"] = object{"exact": pick(d, "/a", "/a/b", "/", "/a/")}
	case 1, 2, 3:
		m["uri"] = object{"prefix": pick(d, "/", "/a", "/a/", "/a/b", "/aa")}
	case 4:
		m["uri"] = object{"regex": pick(d, "/a/.*", "/[ab]", ".*b", ".*", "/a(/.*)?")}
	}
	if m["uri"] != nil && d.one(6) {
		m["ignoreUriCase"] = true
	}
	if d.one(4) {
		m["method"] = object{"exact": pick(d, "GET", "POST")}
	}
	text := func() object {
		return pick(d, object{"exact": "1"}, object{"exact": "2"}, object{"prefix": "1"}, object{"regex": "1|2"}, object{"regex": "[12]+"}, object{})
	}
	for _, word := range []string{"headers", "withoutHeaders", "queryParams"} {
		if d.one(5) {
			m[word] = object{pick(d, "x-a", "x-b"): text()}
		}
	}
	switch {
	case mesh && d.one(6):
		m["sourceLabels"] = object{"app": label(ns, pick(d, "c1", "c2"))}
	case mesh && d.one(8):
		m["sourceNamespace"] = farAway
	case mesh && d.one(20):
		m["gateways"], m["sourceLabels"] = []any{"mesh"}, object{"app": label(ns, "c1")}
	case d.one(12):
		m["port"] = pick(d, 80, 80, 81)
	case !mesh && d.one(40):
		m["scheme"] = object{"exact": "http"}
	}
	return m
}

func (d drawing) redirecting() object {
	r := object{}
	if d.one(2) {
		r["uri"] = pick(d, "/to", "/", "/to/")
	}
	if d.one(2) {
		r["authority"] = "to.test"
	}
	if d.one(3) {
		r["scheme"] = pick(d, "https", "http")
	}
	switch d.IntN(5) {
	case 0:
		r["port"] = pick(d, 80, 443, 8080)
	case 1:
		r["derivePort"] = pick(d, "FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT")
	}
	if d.one(3) {
		r["redirectCode"] = pick(d, 301, 302, 303, 307, 308)
	}
	if len(r) == 0 {
		r["uri"] = "/to"
	}
	return r
}

// sending draws what becomes of a request that goes on.
func (d drawing) sending(r object, v virtual) {
	places := []object{{"host": "s1", "subset": "v1"}, {"host": "s1", "subset": "v2"}, {"host": "s2"}}
	d.Shuffle(len(places), func(i, j int) { places[i], places[j] = places[j], places[i] })
	var to []any
	for _, place := range places[:pick(d, 1, 1, 2)] {
		if d.one(3) {
			place["port"] = object{"number": 80}
		}
		one := object{"destination": place}
		if d.one(6) {
			edit(one, "request", pick(d, "set", "add"), pick(d, "x-b", "x-to"), "place")
		}
		if d.one(8) {
			edit(one, "response", pick(d, "set", "add"), pick(d, "x-app", "x-from"), "place")
		}
		to = append(to, one)
	}
	for _, one := range to {
		if len(to) > 1 || d.one(3) {
			one.(object)["weight"] = pick(d, 1, 1, 3)
		}
	}
	r["route"] = to
	if d.one(3) {
		w := object{}
		if d.one(3) {
			w["authority"] = "in.test"
		}
		switch d.IntN(4) {
		case 0:
			w["uriRegexRewrite"] = object{"match": pick(d, "^/a/(.*)$", "^/(.)(.*)$"), "rewrite": pick(d, `/r/\1`, `/r\1`)}
		case 1, 2:
			w["uri"] = pick(d, "/new", "/new", "/new/it", "/", "/a/new/")
		}
		if len(w) > 0 {
			r["rewrite"] = w
		}
	}
	if d.one(4) {
		edit(r, "request", pick(d, "set", "add"), pick(d, "x-a", "X-New"), pick(d, "rule", `a b; c="d"`))
	}
	if d.one(6) {
		r["headers"] = object{"request": object{"remove": []any{"x-a", "x-none"}}, "response": object{"remove": []any{"x-app-two"}}}
	}
	if d.one(5) {
		edit(r, "response", "add", pick(d, "x-app", "x-back"), "rule")
	}
	if d.one(8) {
		copied := object{"host": "s2"}
		if d.one(2) {
			r["mirror"], r["mirrorPercentage"] = copied, object{"value": pick(d, 100, 100, 0)}
		} else {
			r["mirrors"] = []any{object{"destination": copied}}
		}
	}
	switch d.IntN(12) {
	case 0:
		r["timeout"] = "0.3s"
	case 1:
		r["retries"] = object{"attempts": 0}
	case 2, 3:
		r["retries"] = object{"attempts": pick(d, 1, 2), "retryOn": pick(d, "5xx", "gateway-error", "connect-failure,refused-stream", "503,retriable-status-codes", "retriable-4xx", "500"), "backoff": "0.005s"}
	case 4:
		r["retries"] = object{"attempts": 2, "perTryTimeout": "0.2s", "retryOn": "5xx,reset"}
	}
	if v.edge && !v.mesh && d.one(6) {
		r["corsPolicy"] = object{"allowOrigins": []any{object{"exact": "https://app.test"}}, "allowMethods": []any{"GET", "POST"}, "allowHeaders": []any{"x-a"}, "exposeHeaders": []any{"x-app"},
			"maxAge": "60s", "allowCredentials": d.one(2), "unmatchedPreflights": "FORWARD"}
	}
}

// policy draws an AuthorizationPolicy.
func (d drawing) policy(ns string) object {
	p := object{"action": pick(d, "ALLOW", "ALLOW", "DENY")}
	if d.one(2) {
		p["selector"] = object{"matchLabels": object{"app": label(ns, pick(d, "s1", "s2"))}}
	}
	var rules []any
	n := d.IntN(3)
	if p["action"] == "DENY" {
		n = max(n, 1)
	}
	for range n {
		rule := object{}
		var from []any
		for range d.IntN(3) {
			c1, c3 := "cluster.local/ns/"+ns+"/sa/c1", "cluster.local/ns/"+farAway+"/sa/c3"
			from = append(from, object{"source": pick(d,
				object{"principals": []any{pick(d, c1, c3, "cluster.local/ns/"+doors+"/sa/"+ns, "*", "*/sa/c2", "cluster.local/ns/"+farAway+"/*", "cluster.local/ns/x/sa/none")}},
				object{"namespaces": []any{pick(d, ns, farAway, "x")}},
				object{"notPrincipals": []any{pick(d, c1, c3, "cluster.local/ns/x/sa/none")}},
				object{"principals": []any{"*"}, "notNamespaces": []any{pick(d, ns, farAway)}})})
		}
		if len(from) > 0 {
			rule["from"] = from
		}
		if d.one(2) {
			o := object{}
			if d.one(2) {
				o[pick(d, "methods", "methods", "notMethods")] = []any{pick(d, "GET", "POST")}
			}
			if d.one(3) {
				o[pick(d, "hosts", "notHosts")] = []any{pick(d, "x."+ns, "S1."+ns+".svc.cluster.local", "s1."+ns+".svc.cluster.local", "in.test", "*."+ns)}
			}
			if d.one(2) || len(o) == 0 {
				o[pick(d, "paths", "paths", "notPaths")] = []any{pick(d, "/a", "/a", "/a/*", "*/b", "/", "*", "/new*")}
			}
			rule["to"] = []any{object{"operation": o}}
		}
		if d.one(4) {
			rule["when"] = []any{object{"key": "request.headers[x-a]", pick(d, "values", "values", "notValues"): []any{pick(d, "1", "2", "*", "1*")}}}
		}
		rules = append(rules, rule)
	}
	if len(rules) > 0 {
		p["rules"] = rules
	}
	return p
}

// manifests are all scenes.
func manifests(t *testing.T, scenes []scene) []byte {
	t.Helper()
	var out []byte
	add := func(version, kind, ns, name, created string, spec object) {
		meta := object{"name": name, "namespace": ns}
		if created != "" {
			meta["creationTimestamp"] = created
		}
		if kind == "Pod" {
			meta["labels"] = object{"door": name}
		}
		b, err := yaml.Marshal(object{"apiVersion": version, "kind": kind, "metadata": meta, "spec": spec})
		if err != nil {
			t.Fatal(err)
		}
		out = append(append(out, b...), "---\n"...)
	}
	const net, sec = "networking.istio.io/v1", "security.istio.io/v1"
	of := func(ns string, apps ...string) {
		for _, app := range apps {
			add("v1", "Service", ns, app, "", object{"selector": object{"app": label(ns, app)}, "ports": []any{object{"name": "http", "port": 80, "targetPort": 8080}}})
			add("apps/v1", "Deployment", ns, app, "", object{"template": object{"metadata": object{"labels": object{"app": label(ns, app)}}, "spec": object{"serviceAccountName": app}}})
		}
		reach := "./*"
		if ns == farAway {
			reach = "*/*"
		}
		add(net, "Sidecar", ns, "default", "", object{"egress": []any{object{"hosts": []any{reach}}}})
		add(sec, "PeerAuthentication", ns, "default", "", object{"mtls": object{"mode": "STRICT"}})
	}
	of(farAway, "c3")
	for _, s := range scenes {
		of(s.ns, "s1", "s2", "c1", "c2")
		add("v1", "Pod", doors, s.ns, "", object{"serviceAccountName": s.ns})
		add(net, "Gateway", s.ns, s.ns, "", object{"selector": object{"door": s.ns}, "servers": []any{object{"port": object{"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": []any{"*"}}}})
		add(net, "DestinationRule", s.ns, "s1", "", object{"host": "s1", "subsets": []any{object{"name": "v1", "labels": object{"version": "v1"}}, object{"name": "v2", "labels": object{"version": "v2"}}}})
		for _, v := range s.virtual {
			spec := object{"hosts": v.hosts, "http": v.rules}
			if v.edge {
				spec["gateways"] = []any{s.ns}
			}
			add(net, "VirtualService", s.ns, v.name, v.created, spec)
		}
		for i, p := range s.policies {
			add(sec, "AuthorizationPolicy", s.ns, fmt.Sprintf("p%d", i), "", p)
		}
	}
	return out
}

// question is a request to a scene.
type question struct {
	scene              scene
	from               string // "c1", "c2", "far/c3", or "" for a visitor at the gateway
	host, method, path string
	headers            []value
}

// question draws one that most often is what some match asks for.
func (d drawing) question(s scene) question {
	q := question{scene: s, method: pick(d, "GET", "GET", "POST", "HEAD", "OPTIONS"),
		path: pick(d, "/", "/a", "/a/", "/a/b", "/A/b", "/a/bc", "/aa", "/b", "/new", "/a/b/c")}
	v := pick(d, s.virtual...)
	if v.mesh {
		q.from = pick(d, "c1", "c1", "c2", "far/c3")
	}
	switch {
	case q.from != "":
		q.host = "s1." + s.ns + ".svc.cluster.local"
	case d.one(10):
		q.host = pick(d, "other."+s.ns, "w."+s.ns, "X."+s.ns)
	default:
		q.host = strings.Replace(pick(d, v.hosts...), "*", pick(d, "a", "b", "c.b"), 1)
	}
	rule := pick(d, v.rules...)
	headers, params := map[string]string{}, map[string]string{}
	some := func(into map[string]string) {
		for _, name := range []string{"x-a", "x-b"} {
			if d.one(2) {
				into[name] = pick(d, "1", "2", "12", "3")
			}
		}
	}
	some(headers)
	some(params)
	if all := list(rule["match"]); len(all) > 0 && !d.one(4) {
		m := pick(d, all...).(object)
		for kind, text := range within(m["uri"]) {
			q.path = map[string]string{"exact": text.(string), "prefix": text.(string) + pick(d, "", "/", "c", "b/c"), "regex": pick(d, "/a/b", "/a", "/b")}[kind]
		}
		for _, text := range within(m["method"]) {
			q.method = text.(string)
		}
		for name := range within(m["headers"]) {
			headers[name] = pick(d, "1", "2")
		}
		for name := range within(m["queryParams"]) {
			params[name] = pick(d, "1", "2")
		}
		for name := range within(m["withoutHeaders"]) {
			delete(headers, name)
		}
	}
	if d.one(12) {
		q.path = strings.ToUpper(q.path)
	}
	q.path = strings.ReplaceAll(q.path, "//", "/") // which intent says of every request, and Istio leaves
	q.write(headers, params)
	d.trouble(&q, rule)
	return q
}

// within is an object's content.
func within(v any) object {
	o, _ := v.(object)
	return o
}

func (q *question) write(headers, params map[string]string) {
	q.headers = []value{{"x-c", "c"}}
	for _, name := range []string{"x-a", "x-b"} {
		if v, ok := headers[name]; ok {
			q.headers = append(q.headers, value{name, v})
		}
	}
	var query []string
	for _, name := range []string{"x-a", "x-b"} {
		if v, ok := params[name]; ok {
			query = append(query, name+"="+v)
		}
	}
	if len(query) > 0 {
		q.path += "?" + strings.Join(query, "&")
	}
}

// trouble adds what a rule says more of: origins, failures, and answers that are late.
func (d drawing) trouble(q *question, rule object) {
	if rule["corsPolicy"] != nil && !d.one(4) {
		q.headers = append(q.headers, value{"origin", pick(d, "https://app.test", "https://other.test")})
		if q.method == "OPTIONS" || d.one(2) {
			q.method = "OPTIONS"
			q.headers = append(q.headers, value{"access-control-request-method", pick(d, "GET", "PUT")})
		}
	}
	if r := within(rule["retries"]); r != nil && r["perTryTimeout"] == nil && !d.one(3) {
		q.headers = append(q.headers, value{"x-rehearsal-fail", "1000000"}, value{"x-rehearsal-fail-with", "status=" + pick(d, "500", "503", "502", "409", "404")})
	}
	late := rule["timeout"] != nil || within(rule["retries"])["perTryTimeout"] != nil
	if late && d.one(2) {
		q.headers = append(q.headers, value{"x-rehearsal-wait", "700ms"})
	}
}

// bytes are the request as it is sent.
func (q question) bytes(id string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n%s: %s\r\n", q.method, q.path, q.host, asked, id)
	for _, h := range q.headers {
		fmt.Fprintf(&b, "%s: %s\r\n", h.Name, h.Value)
	}
	if q.method == "POST" || q.method == "OPTIONS" {
		b.WriteString("content-length: 0\r\n")
	}
	b.WriteString("\r\n")
	return b.String()
}

// proxy is whose sidecar, or gateway, takes the request.
func (q question) proxy() string {
	switch {
	case q.from == "":
		return doors + "/" + q.scene.ns
	case strings.Contains(q.from, "/"):
		return q.from
	}
	return q.scene.ns + "/" + q.from
}

// told are the words of a request and of all that decides about it.
func (q question) words() string {
	return fmt.Sprintf("%s to %s\n%s", cmp.Or(q.from, "a visitor"), q.scene.ns, strings.TrimSpace(q.bytes("n")))
}
