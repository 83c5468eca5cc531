package envoy

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/trait"
)

func address(host string, port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: socketAddress(host, port)}}
}

func socketAddress(host string, port uint32) *corev3.SocketAddress {
	return &corev3.SocketAddress{Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port}}
}

func portText(port uint32) string { return strconv.FormatUint(uint64(port), 10) }

// splitID takes "namespace/name" apart.
func splitID(id string) (namespace, name string) {
	namespace, name, _ = strings.Cut(id, "/")
	return namespace, name
}

// target is what a cluster or an outbound listener is for: a service's port (and,
// for a cluster, version) or an external's port.
type target struct {
	service  *model.Service
	external *model.External
	port     model.Port
	version  model.Version
	// via says that the class reaches the external through a gateway.
	via bool
	// says is what the caller says itself of requests there.
	says trait.Set
	// from is the caller's account, where a route there asks who calls.
	from string
	// behind are the versions that stand behind the one, for a cluster of several.
	behind []string
}

// mark tells what the caller says from what others say, for keys of what is made for several.
func (t target) mark() string {
	from := ""
	if t.from != "" {
		from = " from " + t.from
	}
	if t.says.Len() == 0 {
		return from
	}
	raw, err := json.Marshal(t.says)
	if err != nil {
		return fmt.Sprintf("%s %#v", from, t.says)
	}
	return from + " " + string(raw)
}

// routes are those that requests from there may take.
func (t target) routes() []model.Route { return model.RoutesFor(t.from, t.written()) }

// written are the routes of what is called, at its port, for all callers.
func (t target) written() []model.Route {
	if t.external != nil {
		return t.external.RoutesAt(t.port.Name)
	}
	return t.service.ToPort(t.port.Name)
}

// askedBy is a target as an account calls it.
func (e *emitter) askedBy(t target, account string) target {
	asks := func(r model.Route) bool { return r.Match.AsksCaller() }
	if t.external != nil && slices.ContainsFunc(t.external.Routes, asks) || t.service != nil && e.m.AsksCaller(t.service) {
		t.from = account
	}
	return t
}

func (t target) id() string {
	if t.external != nil {
		return t.external.ID
	}
	return t.service.ID
}

// path is the mesh path of the destination.
func (t target) path() string {
	if t.external != nil {
		return model.ExternalPath(t.external.ID)
	}
	return model.ServicePath(t.service.ID)
}

// cluster is the name of the cluster for the target.
func (t target) cluster() string {
	if t.via {
		return t.external.ViaName(t.port.Name)
	}
	if t.external != nil {
		return t.external.Upstream(t.port.Name)
	}
	name := model.ClusterName(t.service.ID, t.port.Name, t.version.Name)
	if len(t.behind) > 0 {
		return spreadCluster(name, t.behind)
	}
	return name
}

// destination finds the target of a call, without a version.
func (e *emitter) destination(id, port string) (target, bool) {
	if s := e.m.Service(id); s != nil {
		p, ok := s.Port(port)
		return target{service: s, port: p}, ok
	}
	if x := e.m.External(id); x != nil {
		p, ok := x.Port(port)
		return target{external: x, port: p, via: e.goesVia(x)}, ok
	}
	return target{}, false
}
