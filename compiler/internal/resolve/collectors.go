package resolve

import (
	"time"

	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/internal/diag"
)

// zipkinPath is where Zipkin's servers take spans.
const zipkinPath = "/api/v2/spans"

// declareCollectors reads where proxies send what they tell of requests: to a service with one
// version, at a port on which it speaks the collector's protocol.
func (l *linker) declareCollectors(p *pkg) {
	for _, e := range p.node.Field("collector").Fields() {
		l.collectors[e.Name] = model.Collector{}
		kind := model.CollectorKind(l.oneOf(e.Node, string(model.OTLP), string(model.Zipkin), string(model.File)))
		n := e.Node.Field(string(kind))
		c := model.Collector{Kind: kind}
		if kind == "" {
			continue
		}
		if kind == model.File {
			c.Path = n.Str()
			l.collectors[e.Name] = c
			continue
		}
		if kind == model.Zipkin {
			c.Path = zipkinPath
			if path := n.Field("path"); path.Exists() {
				x := Place{l: l}
				written, ok := x.Path(path)
				if !ok {
					continue
				}
				c.Path = written
			}
		}
		if to, ok := l.collecting(p, "collector", e.Name, kind, n); ok {
			c.Receiver = to
			l.collectors[e.Name] = c
		}
	}
}

// declareLimiters reads who counts requests: a service with one version, at a port on which it speaks
// gRPC.
func (l *linker) declareLimiters(p *pkg) {
	for _, e := range p.node.Field("limiter").Fields() {
		l.limiters[e.Name] = model.Limiter{}
		to, ok := l.collecting(p, "limiter", e.Name, limiting, e.Node)
		if !ok {
			continue
		}
		c, x := model.Limiter{Receiver: to, Domain: "meshc"}, Place{l: l}
		if d := e.Node.Field("domain"); d.Exists() {
			c.Domain = d.Str()
		}
		c.Timeout = x.Duration(e.Node.Field("timeout"), usualPatience)
		l.limiters[e.Name] = c
	}
}

const (
	// usualPatience is how long a request waits for a limiter if nobody says it.
	usualPatience = 100 * time.Millisecond
	// limiting is the protocol of limiters.
	limiting = "the rate limit service"
)

// collecting is the service that is a collector. A problem is noted.
func (l *linker) collecting(p *pkg, what, name string, kind model.CollectorKind, n intent.Node) (model.Receiver, bool) {
	id, ok := l.service(p, n.Field("to"))
	if !ok {
		return model.Receiver{}, false
	}
	port, ok := l.port(id, n.Field("port"), n, "port")
	switch vs := l.versions[id]; {
	case !ok:
	case kind != model.Zipkin && port.Protocol != model.GRPC:
		spoken := string(kind)
		if kind == model.OTLP {
			spoken = "OTLP"
		}
		l.add(diag.New(diag.CodeProtocol, n.Pos(), "%s is spoken over gRPC, and port %q of %q is %s", spoken, port.Name, id, port.Protocol).
			WithRelated(l.declaredAt(id), "declared here").WithFix("name a port with protocol: \"grpc\""))
	case kind == model.Zipkin && port.Protocol != model.HTTP && port.Protocol != model.HTTP2:
		l.add(diag.New(diag.CodeProtocol, n.Pos(), "spans are posted to Zipkin over HTTP, and port %q of %q is %s", port.Name, id, port.Protocol).
			WithRelated(l.declaredAt(id), "declared here").WithFix("name a port that speaks http or http2"))
	case len(vs) != 1:
		l.add(diag.New(diag.CodeOneOf, n.Pos(), "%s %q is service %q, which has %d versions in place of one", what, name, id, len(vs)).
			WithRelated(l.declaredAt(id), "declared here").WithFix("make each version a service of its own, and name one of them"))
	default:
		return model.Receiver{To: id, Port: port.Name, Version: vs[0]}, true
	}
	return model.Receiver{}, false
}
