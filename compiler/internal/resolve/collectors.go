package resolve

import (
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
		switch kind {
		case "":
			continue
		case model.File:
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
		if to, ok := l.collecting(p, e.Name, kind, n); ok {
			c.Receiver = to
			l.collectors[e.Name] = c
		}
	}
}

// collecting is the service that is a collector. A problem is noted.
func (l *linker) collecting(p *pkg, name string, kind model.CollectorKind, n intent.Node) (model.Receiver, bool) {
	id, ok := l.service(p, n.Field("to"))
	if !ok {
		return model.Receiver{}, false
	}
	port, ok := l.port(id, n.Field("port"), n, "port")
	switch vs := l.versions[id]; {
	case !ok:
	case kind == model.OTLP && port.Protocol != model.GRPC:
		l.add(diag.New(diag.CodeProtocol, n.Pos(), "OTLP is spoken over gRPC, and port %q of %q is %s", port.Name, id, port.Protocol).
			WithRelated(l.declaredAt(id), "declared here").WithFix("name a port with protocol: \"grpc\""))
	case kind == model.Zipkin && port.Protocol != model.HTTP && port.Protocol != model.HTTP2:
		l.add(diag.New(diag.CodeProtocol, n.Pos(), "spans are posted to Zipkin over HTTP, and port %q of %q is %s", port.Name, id, port.Protocol).
			WithRelated(l.declaredAt(id), "declared here").WithFix("name a port that speaks http or http2"))
	case len(vs) != 1:
		l.add(diag.New(diag.CodeOneOf, n.Pos(), "collector %q is service %q, which has %d versions; a collector has one", name, id, len(vs)).
			WithRelated(l.declaredAt(id), "declared here").WithFix("make each version a service of its own, and name one of them"))
	default:
		return model.Receiver{To: id, Port: port.Name, Version: vs[0]}, true
	}
	return model.Receiver{}, false
}
