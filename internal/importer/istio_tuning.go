package importer

import (
	"fmt"
	"strings"
	"time"

	"meshc.dev/meshc/internal/diag"
)

// This file reads how requests are carried: each value is written, or told, by itself.

// span is a duration as both spell it, "" where none is written.
func span(n node) string {
	if !n.there() {
		return ""
	}
	text := n.text()
	if d, err := time.ParseDuration(text); err != nil || d < 0 || strings.ContainsAny(text, "nuµ+-") {
		n.partly("is %q, which is no duration in milliseconds or longer", n.raw()).fix("write one such as 10s")
		return ""
	}
	return text
}

// zero reports whether a duration is none.
func zero(text string) bool {
	d, err := time.ParseDuration(text)
	return err == nil && d == 0
}

// amount writes a number that is at least 1; 0 is Istio's default where it means that.
func amount(into *tree, word, name string, n node) {
	switch number, ok := n.number(0, 1<<31-1); {
	case !ok, number == 0:
	case word == "":
		into.add(name, fmt.Sprint(number))
	default:
		into.child(word).add(name, fmt.Sprint(number))
	}
}

// lasting writes a duration, if there is one.
func lasting(into *tree, word, name string, n node) {
	if text := span(n); text != "" && !zero(text) {
		into.child(word).add(name, quote(text))
	}
}

// trafficPolicy is how requests are carried to a place.
func trafficPolicy(n node) *tree {
	out := &tree{}
	if !n.there() {
		return out
	}
	loadBalancer(out, n.field("loadBalancer"))
	connectionPool(out, n.field("connectionPool"))
	outlierDetection(out, n.field("outlierDetection"))
	if mode := n.down("tls", "mode"); mode.raw() == "ISTIO_MUTUAL" {
		mode.skip() // as always in the mesh
	}
	if tls := n.field("tls"); tls.there() && tls.field("mode").raw() != "ISTIO_MUTUAL" {
		tls.partly("begins TLS, or none, of another kind than the mesh's").fix("for what lies outside write `tls` on the external; inside, mTLS is between all proxies")
	}
	for name, way := range map[string]string{
		"tunnel":        "write `via: proxy` on the external",
		"proxyProtocol": "nothing does that for callees",
		"retryBudget":   "write `budget` in the `retry` of the service",
	} {
		if x := n.field(name); x.there() {
			x.partly("is not translated").fix("%s", way)
		}
	}
	return out
}

func loadBalancer(out *tree, n node) {
	if !n.there() {
		return
	}
	kind := ""
	switch s := n.field("simple"); s.text() {
	case "", "UNSPECIFIED":
	case "ROUND_ROBIN":
		kind = "roundRobin"
	case "LEAST_REQUEST", "LEAST_CONN":
		kind = "leastRequest"
	case "RANDOM":
		kind = "random"
	default:
		s.partly("is %q, for which there is no word", s.raw()).fix("write `balance`")
	}
	if h := n.field("consistentHash"); h.there() {
		consistentHash(out, h)
	} else if w := warmup(n); w != "" && kind != "random" {
		if kind == "" {
			kind = "leastRequest"
		}
		out.child("balance").child(kind).child("slowStart").add("window", quote(w))
	} else if kind != "" {
		out.child("balance").child(kind)
	}
	for _, name := range []string{"localityLbSetting", "zoneAwareLbSetting", "backendUtilization"} {
		if x := n.field(name); x.there() {
			x.partly("prefers some of the workloads").fix("write `locality` on the service: `prefer`, or `failover` by zones")
		}
	}
}

// warmup is how long a new workload gets less.
func warmup(n node) string {
	if w := n.field("warmup"); w.there() {
		for name, usual := range map[string]string{"minimumPercent": "10", "aggression": "1"} {
			if x := w.field(name); x.there() && x.raw() != usual {
				x.partly("is %s, and intent has %s", x.raw(), usual).fix("take it out")
			} else {
				x.skip()
			}
		}
		return span(w.field("duration"))
	}
	return span(n.field("warmupDurationSecs"))
}

func consistentHash(out *tree, n node) {
	hash := &tree{}
	for _, w := range [][2]string{{"httpHeaderName", "header"}, {"httpQueryParameterName", "query"}} {
		name, word := w[0], w[1]
		if x := n.field(name); x.there() {
			hash.add(word, quote(x.text()))
		}
	}
	if x := n.field("useSourceIp"); x.raw() == "true" {
		x.skip()
		hash.add("source", "true")
	}
	if c := n.field("httpCookie"); c.there() {
		hash.add("cookie", quote(c.field("name").text()))
		for _, name := range []string{"ttl", "path", "attributes"} {
			if x := c.field(name); x.there() {
				x.partly("has the proxy set the cookie, and intent hashes one that somebody else has set").fix("write `session: cookie` on the service, or let the application set it")
			}
		}
	}
	for _, name := range []string{"maglev", "ringHash"} {
		x := n.field(name)
		if x.there() && name == "maglev" {
			hash.add("table", `"maglev"`)
		}
		for _, size := range []string{"minimumRingSize", "tableSize"} {
			if e := x.field(size); e.there() {
				e.partly("is the size of a table, which intent does not say").fix("take it out")
			}
		}
	}
	if len(hash.fields) > 0 {
		out.child("balance").put("hash", hash)
	}
}

func connectionPool(out *tree, n node) {
	if !n.there() {
		return
	}
	tcp, http := n.field("tcp"), n.field("http")
	amount(out, "circuitBreaker", "maxConnections", tcp.field("maxConnections"))
	amount(out, "circuitBreaker", "maxPendingRequests", http.field("http1MaxPendingRequests"))
	amount(out, "circuitBreaker", "maxRequests", http.field("http2MaxRequests"))
	amount(out, "circuitBreaker", "maxRetries", http.field("maxRetries"))
	lasting(out, "connection", "connectTimeout", tcp.field("connectTimeout"))
	lasting(out, "connection", "maxAge", tcp.field("maxConnectionDuration"))
	lasting(out, "connection", "idle", http.field("idleTimeout"))
	amount(out, "connection", "maxRequests", http.field("maxRequestsPerConnection"))
	if k := tcp.field("tcpKeepalive"); k.there() {
		alive := &tree{}
		amount(alive, "", "probes", k.field("probes"))
		for _, name := range []string{"time", "interval"} {
			if text := span(k.field(name)); text != "" {
				alive.add(name, quote(text))
			}
		}
		if len(alive.fields) > 0 {
			out.child("connection").put("tcpKeepAlive", alive)
		}
	}
	h2 := &tree{}
	amount(h2, "", "maxConcurrentStreams", http.field("maxConcurrentStreams"))
	lasting(h2, "ping", "every", http.down("http2KeepAlive", "interval"))
	lasting(h2, "ping", "within", http.down("http2KeepAlive", "timeout"))
	if len(h2.fields) > 0 {
		out.child("connection").put("http2", h2)
	}
	for _, name := range []string{"h2UpgradePolicy", "useClientProtocol"} {
		if x := http.field(name); x.there() {
			x.note(diag.Note, diag.CodeImportLeft, "says what proxies speak with each other: those of the mesh always speak HTTP/2").fix("nothing; `protocol` of a port says what the application speaks")
			x.skip()
		}
	}
	if x := tcp.field("idleTimeout"); x.there() {
		x.partly("ends connections of bytes on which nothing moves, for which there is no word").fix("write `idle` on the port, if it speaks HTTP")
	}
}

func outlierDetection(out *tree, n node) {
	if !n.there() {
		return
	}
	o := &tree{}
	for _, w := range [][2]string{{"consecutive5xxErrors", "consecutive5xx"}, {"consecutiveGatewayErrors", "gatewayErrors"}, {"consecutiveErrors", "gatewayErrors"}} {
		name, word := w[0], w[1]
		x := n.field(name)
		if x.raw() == "0" && name == "consecutive5xxErrors" {
			x.partly("turns ejection by errors off, and intent has at least 1").fix("write `outlier: consecutive5xx` with a large number")
			continue
		}
		if name != "consecutiveErrors" || !n.field("consecutiveGatewayErrors").there() {
			amount(o, "", word, x)
		}
	}
	split, local := n.field("splitExternalLocalOriginErrors"), n.field("consecutiveLocalOriginFailures")
	switch split.skip(); {
	case split.raw() != "true" && local.there():
		local.note(diag.Note, diag.CodeImportLeft, "counts only beside splitExternalLocalOriginErrors").fix("take it out")
		local.skip()
	case split.raw() == "true" && local.there():
		amount(o, "", "localErrors", local)
	case split.raw() == "true":
		o.add("localErrors", "5")
	}
	for _, w := range [][2]string{{"interval", "interval"}, {"baseEjectionTime", "baseEjection"}} {
		name, word := w[0], w[1]
		if text := span(n.field(name)); text != "" {
			o.add(word, quote(text))
		}
	}
	if m := n.field("maxEjectionPercent"); m.there() {
		percent, _ := m.number(0, 100)
		o.add("maxEjectionPercent", fmt.Sprint(percent))
	} else {
		o.add("maxEjectionPercent", "10") // Istio's default
	}
	if x := n.field("minHealthPercent"); x.there() && x.raw() != "0" {
		x.partly("turns ejection off where too few workloads are well").fix("write `panic` on the service")
	} else {
		x.skip()
	}
	if x := n.field("outlierDetectionHttpErrorCodes"); x.there() {
		x.partly("names the statuses that count").fix("intent counts 500 and more")
	}
	out.put("outlier", o)
}
