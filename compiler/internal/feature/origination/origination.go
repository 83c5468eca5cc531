// Package origination is the feature `external.tls`: the TLS that callers' proxies begin on
// ports of an external that speak https, https2 or grpcs. What is not verified is not in the
// language: the default verifies the external's own host by the authorities of the machine.
package origination

import (
	"fmt"
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"

	"meshc.dev/meshc/compiler/internal/feature"
	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/plan"
	"meshc.dev/meshc/compiler/internal/resolve"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/target/envoy"
	"meshc.dev/meshc/compiler/internal/target/gatewayapi"
	"meshc.dev/meshc/compiler/internal/target/kubernetes"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/internal/diag"
)

const (
	name = "origination"
	// oldest is the oldest version of TLS if nothing is written. RFC 8996 forbids what is older.
	oldest = "1.2"
)

// TLS is how an external proves who it is.
type TLS struct {
	// SNI is the name that is asked for, "" for the host of each request.
	SNI string `json:"sni"`
	// SANs are the names of which the certificate has one: exact, or "*.suffix" for the names
	// below; sorted, at least one.
	SANs []string `json:"sans"`
	// Roots names what the operator gave to the agents, "" for the authorities of their machine.
	Roots string `json:"roots,omitempty"`
	// Min is the oldest version of TLS, "1.2" or "1.3".
	Min string `json:"min"`
	// Client is the certificate that callers' proxies show, nil for none.
	Client *model.Certificate `json:"client,omitempty"`
}

// shows is the certificate for people, "" for none.
func (t TLS) shows() string {
	if t.Client == nil {
		return ""
	}
	return t.Client.ID + " (" + t.Client.Place() + ")"
}

// TraitName is "origination".
func (TLS) TraitName() string { return name }

// MeantAt is model.Selective: it is about the ports at which callers' proxies begin TLS.
func (TLS) MeantAt(p model.Port) bool { return p.Protocol.Secured() }

// Feature is the row.
var Feature = feature.Feature{
	Rule: resolve.Rule{
		Name: name, Field: "tls", On: []resolve.On{resolve.OnExternal}, Answers: false, Bytes: false,
		Defaults: []resolve.Default{
			{Field: "external.tls.sni", Value: "the external's first host", Why: "it is the name that was meant"},
			{Field: "external.tls.sans", Value: "the external's hosts, or the written sni", Why: "whoever proves another name is somebody else"},
			{Field: "external.tls.roots", Value: "the authorities that the agent's machine trusts", Why: "public APIs have certificates of public authorities"},
			{Field: "external.tls.min", Value: oldest, Why: "older versions are broken (RFC 8996)"},
		},
		Read: read, Fits: nil, Uses: nil,
	},
	Codec:      trait.JSON[TLS],
	Meaning:    meaning,
	Change:     change,
	Envoy:      envoy.OnCluster(lower),
	Kubernetes: kubernetes.NothingBut("the callers' proxies begin it", lacks),
	GatewayAPI: gatewayapi.Refuse("a BackendTLSPolicy is about a Service, and an external is none"),
}

// lacks: the folder of --roots is an operator's, on a host, and so are the folders of certificates; of Secrets
// a pod is let read those that its gateway shows.
func lacks(v TLS) (why, fix string) {
	switch {
	case v.Client != nil && v.Client.Secret == "":
		return fmt.Sprintf("the certificate %q is a file of the operator, which no pod has", v.Client.ID), "call it from a workload outside of the cluster"
	case v.Client != nil:
		return fmt.Sprintf("the certificate %q is a Secret, and no pod of a caller may read Secrets", v.Client.ID), "call it from a workload outside of the cluster, with the certificate as a `file`"
	case v.Roots == "":
		return "", ""
	}
	return fmt.Sprintf("the roots %q are a file of the operator, which no pod has", v.Roots),
		"leave `roots` out in the environments that are clusters, where the proxy's image has the authorities of the world; or call it from a workload outside"
}

// lower sets Cluster.transport_socket on the ports that the mesh secures.
func lower(c *clusterv3.Cluster, v TLS, _ *envoy.Ctx) {
	o := envoy.Origination{SNI: v.SNI, SANs: v.SANs, Roots: v.Roots, Min13: v.Min != oldest}
	if v.Client != nil {
		o.Shows = v.Client.Ref().String()
	}
	c.TransportSocket = envoy.Originate(o)
}

func read(n intent.Node, x *resolve.Place) trait.Value {
	e := x.External()
	if !slices.ContainsFunc(e.Ports, func(p model.Port) bool { return p.Protocol.Secured() }) {
		if n.Exists() {
			x.Problem(diag.New(diag.CodeNever, n.Pos(), "%s is set, but no port of external %q speaks https, https2 or grpcs: no proxy begins TLS", n.Path(), e.ID).
				WithFix("let the port say protocol: \"https\", or delete `tls`"))
		}
		return nil
	}
	t := TLS{SNI: e.Host(), SANs: slices.Clone(e.Hosts), Roots: n.Field("roots").Str(), Min: oldest}
	if m := n.Field("min"); m.Exists() {
		t.Min = m.Str()
	}
	if c := n.Field("client"); c.Exists() {
		if own, ok := x.Certificate(c); ok {
			t.Client = &own
		}
	}
	if len(t.SANs) == 0 && t.SNI != "" {
		t.SANs = []string{t.SNI}
	}
	if sni := n.Field("sni"); sni.Exists() {
		t.SNI, t.SANs = sni.Str(), []string{sni.Str()}
	}
	sans := n.Field("sans")
	if sans.Exists() {
		t.SANs = nil
		for _, s := range sans.List() {
			t.SANs = append(t.SANs, strings.ToLower(s.Str()))
		}
		slices.Sort(t.SANs)
		t.SANs = slices.Compact(t.SANs)
	}
	if e.Endpoints.Dynamic { // the name that is asked for is the one that has to be proved
		t.SNI, t.SANs = "", slices.Clone(e.Hosts)
		return t
	}
	switch {
	case t.SNI == "":
		x.Problem(diag.New(diag.CodeOneOf, n.Pos(), "external %q speaks TLS, but nothing says which name it proves", e.ID).
			WithFix(`add: hosts: ["api.example.com"], or tls: sni: "api.example.com"`))
	case len(t.SANs) == 0 || slices.Contains(t.SANs, "*"):
		x.Problem(diag.New(diag.CodeUnverified, n.Pos(), "external %q may prove any name at all: whoever has a certificate could stand in for it", e.ID).
			WithFix(`name whom you mean: tls: sans: ["api.example.com"], or ["*.example.com"] for the names below`))
	}
	return t
}

func meaning(v trait.Value) []space.Act {
	t := v.(TLS)
	fields := []space.Field{
		{Feature: name, Name: "min", Value: t.Min},
		{Feature: name, Name: "roots", Value: roots(t.Roots)},
		{Feature: name, Name: "sans", Value: strings.Join(t.SANs, " ")},
		{Feature: name, Name: "sni", Value: asksFor(t.SNI)},
	}
	if t.Client != nil {
		fields = append(fields, space.Field{Feature: name, Name: "client", Value: t.shows()})
	}
	return space.Labels(space.AtWorkload, fields...)
}

// asksFor is the name that is asked for, for people.
func asksFor(sni string) string {
	if sni == "" {
		return "each request's host"
	}
	return sni
}

func roots(file string) string {
	if file == "" {
		return "the machine's"
	}
	return file
}

// change: whom a caller takes for the external is all that TLS is for. Who may prove it is weaker
// where it is another one, and narrower where it is fewer; of two files of roots nobody here can
// say which holds the other. The name that is asked for proves nothing.
func change(before, after []space.Field) (plan.Class, string) {
	const what = "verified TLS: "
	switch {
	case len(before) == 0:
		return plan.Neutral, what + "none → " + plan.List(after)
	case len(after) == 0:
		return plan.Weakening, what + plan.List(before) + " → none"
	}
	class, texts := plan.Nothing, []string(nil)
	for _, x := range []struct {
		name   string
		change func(before, after string) plan.Class
	}{
		{"sans", names}, {"roots", func(_, _ string) plan.Class { return plan.Weakening }},
		{"min", version}, {"client", func(_, _ string) plan.Class { return plan.Neutral }}, {"sni", func(_, _ string) plan.Class { return plan.Neutral }},
	} {
		if b, a := plan.Value(before, x.name), plan.Value(after, x.name); b != a {
			class, texts = worse(class, x.change(b, a)), append(texts, x.name+" "+orNone(b)+" → "+orNone(a))
		}
	}
	return class, what + strings.Join(texts, ", ")
}

func orNone(v string) string {
	if v == "" {
		return "none"
	}
	return v
}

// worse is the class of both: what may be weaker is no mere narrowing.
func worse(a, b plan.Class) plan.Class {
	if a == plan.Weakening || b == plan.Weakening {
		return plan.Weakening
	}
	return plan.Worst(a, b)
}

func version(before, after string) plan.Class {
	if after > before {
		return plan.Narrowing
	}
	return plan.Weakening
}

// names compares whose certificates do: each name counts for itself, "*.suffix" for all below.
func names(before, after string) plan.Class {
	known := strings.Fields(before)
	for _, n := range strings.Fields(after) {
		if !slices.ContainsFunc(known, func(k string) bool { return k == n || model.HostCovers(k, n) }) {
			return plan.Weakening
		}
	}
	return plan.Narrowing
}
