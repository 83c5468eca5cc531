// Package health is the feature `health` of externals, and of services, their ports and versions whose addresses intent
// says: callers' proxies ask addresses whether they are well, and send nothing to those that are not. Of a service they ask
// as who they are, through mTLS, so that its own proxy lets them in by a grant.
package health

import (
	"slices"
	"strconv"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

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

const name = "health"

// The defaults: an address that is gone is left alone after half a minute.
const (
	interval  = 10 * time.Second
	timeout   = 2 * time.Second
	often     = time.Second // the shortest interval: callers of other packages pay for it
	healthy   = 1
	unhealthy = 3
)

// How addresses are asked.
const (
	byHTTP = "http"
	byGRPC = "grpc"
	byTCP  = "tcp"
)

// Check is how one caller's proxy asks each address.
type Check struct {
	By string `json:"by"` // "http", "grpc" or "tcp"
	// Path and Statuses are of HTTP, the statuses sorted; Service is of gRPC, "" for the server.
	Path      string         `json:"path,omitempty"`
	Statuses  []int          `json:"statuses,omitempty"`
	Service   string         `json:"service,omitempty"`
	Interval  trait.Duration `json:"interval"`
	Timeout   trait.Duration `json:"timeout"`
	Healthy   int            `json:"healthy"`
	Unhealthy int            `json:"unhealthy"`
}

// TraitName is "health".
func (Check) TraitName() string { return name }

// MeantAt is model.Selective: each port is asked as it speaks.
func (v Check) MeantAt(p model.Port) bool {
	return v.By == byTCP || p.Protocol.IsHTTP() && (v.By == byHTTP || p.Protocol.Plain() != model.HTTP)
}

// Feature is the row.
var Feature = feature.Feature{
	Rule: resolve.Rule{
		Name: name, Field: "health", On: []resolve.On{resolve.OnExternal, resolve.OnService, resolve.OnVersion, resolve.OnPort}, Answers: false, Bytes: true, Places: true,
		Defaults: []resolve.Default{
			{Field: "external.health.interval", Value: interval.String(), Why: "an address that is gone is left alone after half a minute"},
			{Field: "external.health.timeout", Value: timeout.String(), Why: "what takes longer is no help to a request either"},
			{Field: "external.health.healthy", Value: strconv.Itoa(healthy), Why: "one that answers can be used"},
			{Field: "external.health.unhealthy", Value: strconv.Itoa(unhealthy), Why: "one answer can be lost on the way"},
			{Field: "external.health.http.statuses", Value: "200", Why: "Envoy's default"},
		},
		Read: read, Fits: fits, Asks: asks, Uses: nil,
	},
	Codec:      trait.JSON[Check],
	Meaning:    meaning,
	Change:     change,
	Envoy:      envoy.OnCluster(lower),
	Kubernetes: kubernetes.Nothing("the callers' proxies ask"),
	GatewayAPI: gatewayapi.Refuse("a backend is a Service, and Gateway API has no health checks"),
}

// lower sets Cluster.health_checks. no_traffic_interval, Envoy's minute for clusters that nobody
// has used, is the interval too: whoever asks first is to find out no later than others.
func lower(c *clusterv3.Cluster, v Check, x *envoy.Ctx) {
	h := &corev3.HealthCheck{
		Timeout: envoy.Duration(time.Duration(v.Timeout)), Interval: envoy.Duration(time.Duration(v.Interval)), NoTrafficInterval: envoy.Duration(time.Duration(v.Interval)),
		HealthyThreshold: envoy.UInt32(uint32(v.Healthy)), UnhealthyThreshold: envoy.UInt32(uint32(v.Unhealthy)),
	}
	host := ""
	if x.External != nil {
		host = x.External.Host()
	} else if host = x.Service.Name + "." + x.Service.Namespace; x.Port.MTLS != model.Disable {
		// Without its own words a check has none, and listeners in pods tell proxies from applications by them.
		h.TlsOptions = &corev3.HealthCheck_TlsOptions{AlpnProtocols: envoy.OfMesh(x.Port.Protocol.IsHTTP())}
	}
	switch v.By {
	case byHTTP:
		codec := typev3.CodecClientType_HTTP1
		if x.Protocol.GetExplicitHttpConfig().GetHttp2ProtocolOptions() != nil {
			codec = typev3.CodecClientType_HTTP2
		}
		h.HealthChecker = &corev3.HealthCheck_HttpHealthCheck_{HttpHealthCheck: &corev3.HealthCheck_HttpHealthCheck{
			Host: host, Path: v.Path, ExpectedStatuses: ranges(v.Statuses), CodecClientType: codec,
		}}
	case byGRPC:
		h.HealthChecker = &corev3.HealthCheck_GrpcHealthCheck_{GrpcHealthCheck: &corev3.HealthCheck_GrpcHealthCheck{ServiceName: v.Service, Authority: host}}
	default:
		h.HealthChecker = &corev3.HealthCheck_TcpHealthCheck_{TcpHealthCheck: &corev3.HealthCheck_TcpHealthCheck{}}
	}
	c.HealthChecks = []*corev3.HealthCheck{h}
}

// ranges are sorted statuses, those that follow each other as one range, whose end is not in it.
func ranges(statuses []int) []*typev3.Int64Range {
	var out []*typev3.Int64Range
	for _, s := range statuses {
		if n := len(out); n > 0 && out[n-1].End == int64(s) {
			out[n-1].End++
			continue
		}
		out = append(out, &typev3.Int64Range{Start: int64(s), End: int64(s) + 1})
	}
	return out
}

func read(n intent.Node, x *resolve.Place) trait.Value {
	if !n.Exists() {
		return nil
	}
	c := Check{
		By: x.OneOf(n, byHTTP, byGRPC, byTCP), Interval: x.Duration(n.Field("interval"), interval), Timeout: x.Counted(n.Field("timeout"), timeout),
		Healthy: times(n.Field("healthy"), healthy), Unhealthy: times(n.Field("unhealthy"), unhealthy),
	}
	at := n.Field(c.By)
	switch c.By {
	case "":
		return nil
	case byHTTP:
		c.Path, _ = x.Path(at.Field("path"))
		c.Statuses = statuses(at.Field("statuses"), x)
	case byGRPC:
		c.Service = at.Field("service").Str()
	}
	c.check(n, x)
	if x.To.Name != "" && !c.MeantAt(x.To) { // another port of the service
		return nil
	}
	return c
}

// check refuses a way to ask that none of the ports knows, and asking those of whom the platform knows it.
func (v Check) check(n intent.Node, x *resolve.Place) {
	if x.OnPort() && !v.MeantAt(x.To) || !slices.ContainsFunc(x.Ports(), v.MeantAt) {
		x.Problem(diag.New(diag.CodeProtocol, n.Field(v.By).Pos(), "no port here can be asked by %s", v.By).
			WithFix("ask by tcp, or by what the ports speak: http takes http, http2, grpc and the same by TLS; grpc all of these but http and https"))
	}
	if time.Duration(v.Interval) < often {
		at := n.Field("interval")
		x.Problem(diag.New(diag.CodeRange, at.Pos(), "%s is shorter than a second: the proxy of each caller asks each address so often, be it of another team", at.Path()).WithFix("write 1s or more"))
	}
	if found := x.Discovered(); len(found) > 0 {
		x.Problem(diag.New(diag.CodeNotAsked, n.Pos(), "workloads of version %q are found by the platform, which knows which of them are ready", found[0]).
			WithFix("delete `health`: callers get requests to ready pods alone; or say where they are: workload: …, or endpoints: …"))
	}
}

// fits refuses questions that the service's own proxy may not let through. Of its denies the linker knows.
func fits(v trait.Value, others trait.Set, n intent.Node, x *resolve.Place) {
	terms, ok := asks(v)
	if !ok || x.External() != nil {
		return
	}
	for _, name := range others.Names() {
		o, _ := others.Lookup(name)
		answers(o, terms, n, x)
		d, demanding := o.(trait.Demanding)
		if !demanding {
			continue
		}
		if words := d.Demands(terms.Methods[0], terms.Paths[0].Value); words != "" {
			x.Problem(diag.New(diag.CodeNotAsked, n.Pos(), "`%s` may refuse %s %s, by which callers' proxies ask who is well: to those whom it refuses no workload is", words, terms.Methods[0], terms.Paths[0].Value).
				WithFix("leave the path out there: %s: not: paths: [%q]", words, terms.Paths[0].Value))
		}
	}
}

// answers refuses what always answers a question in place of the service, and tells of what may.
func answers(o trait.Value, asked model.Terms, n intent.Node, x *resolve.Place) {
	a, answering := o.(trait.Interposed)
	if !answering {
		return
	}
	method, path := asked.Methods[0], asked.Paths[0].Value
	switch words, always := a.MayAnswer(method); {
	case always:
		x.Problem(diag.New(diag.CodeNotAsked, n.Pos(), "`%s` refuses %s %s, by which callers' proxies ask who is well: no workload is", words, method, path).
			WithFix("ask by `http`, or by `tcp`, or delete `%s`", words))
	case words != "":
		x.Problem(diag.Warn(diag.CodeNotAsked, n.Pos(), "`%s` may answer %s %s, by which callers' proxies ask who is well: to those whom it refuses no workload is", words, method, path).
			WithFix("see that it lets that pass, or ask by `tcp`, which it does not see"))
	}
}

// health checking of gRPC (grpc.health.v1) is a call of this method.
const grpcCheck = "/grpc.health.v1.Health/Check"

func asks(v trait.Value) (model.Terms, bool) {
	c := v.(Check)
	method, path := "GET", c.Path
	switch c.By {
	case byTCP:
		return model.Terms{}, false
	case byGRPC:
		method, path = "POST", grpcCheck
	}
	return model.Terms{Methods: []string{method}, Paths: []model.Path{{Kind: model.PathExact, Value: path}}}, true
}

func statuses(n intent.Node, x *resolve.Place) []int {
	if n.Exists() && len(n.List()) == 0 {
		x.Problem(diag.New(diag.CodeNever, n.Pos(), "no answer is good by an empty list of statuses").WithFix("leave `statuses` out for 200, or list them"))
	}
	var out []int
	for _, s := range n.List() {
		out = append(out, int(s.Int()))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func times(n intent.Node, usual int) int {
	if n.Exists() {
		return int(n.Int())
	}
	return usual
}

func meaning(v trait.Value) []space.Act {
	c := v.(Check)
	how := "by a connection"
	switch c.By {
	case byHTTP:
		good := []string{"200"}
		if len(c.Statuses) > 0 {
			good = nil
		}
		for _, s := range c.Statuses {
			good = append(good, strconv.Itoa(s))
		}
		how = "GET " + c.Path + ", answered " + strings.Join(good, ", ")
	case byGRPC:
		how = strings.TrimSpace("by gRPC " + c.Service)
	}
	say := func(what, value string) space.Field { return space.Field{Feature: name, Name: what, Value: value} }
	return space.Labels(space.AtWorkload, say("asked", how), say("every", c.Interval.String()), say("healthy after", strconv.Itoa(c.Healthy)),
		say("timeout", c.Timeout.String()), say("unhealthy after", strconv.Itoa(c.Unhealthy)))
}

// change: what appears, or moves, may refuse what was answered; what goes protects no more.
func change(before, after []space.Field) (plan.Class, string) {
	class := plan.Narrowing
	if len(after) == 0 {
		class = plan.Weakening
	}
	return class, plan.Arrow("health checks", before, after)
}
