package imports

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// This file has the objects of Gateway API that are drawn, as far as they are.

type (
	match struct {
		Path    *pathMatch `json:"path,omitempty"`
		Method  string     `json:"method,omitempty"`
		Headers []value    `json:"headers,omitempty"`
		Query   []value    `json:"queryParams,omitempty"`
	}
	pathMatch struct {
		Type  string `json:"type"`
		Value string `json:"value"`
	}
	value struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	rule struct {
		Matches  []match   `json:"matches,omitempty"`
		Filters  []filter  `json:"filters,omitempty"`
		Backends []backend `json:"backendRefs,omitempty"`
		Timeouts *timeouts `json:"timeouts,omitempty"`
	}
	filter struct {
		Type     string    `json:"type"`
		Redirect *redirect `json:"requestRedirect,omitempty"`
		Rewrite  *rewrite  `json:"urlRewrite,omitempty"`
		Request  *edits    `json:"requestHeaderModifier,omitempty"`
		Response *edits    `json:"responseHeaderModifier,omitempty"`
		Mirror   *mirror   `json:"requestMirror,omitempty"`
	}
	redirect struct {
		Scheme string   `json:"scheme,omitempty"`
		Host   string   `json:"hostname,omitempty"`
		Path   *newPath `json:"path,omitempty"`
		Port   int      `json:"port,omitempty"`
		Code   int      `json:"statusCode,omitempty"`
	}
	rewrite struct {
		Host string   `json:"hostname,omitempty"`
		Path *newPath `json:"path,omitempty"`
	}
	newPath struct {
		Type   string  `json:"type"`
		Whole  *string `json:"replaceFullPath,omitempty"`
		Prefix *string `json:"replacePrefixMatch,omitempty"`
	}
	edits struct {
		Set    []value  `json:"set,omitempty"`
		Add    []value  `json:"add,omitempty"`
		Remove []string `json:"remove,omitempty"`
	}
	mirror struct {
		Backend  reference `json:"backendRef"`
		Percent  *int      `json:"percent,omitempty"`
		Fraction *fraction `json:"fraction,omitempty"`
	}
	fraction struct {
		Numerator   int `json:"numerator"`
		Denominator int `json:"denominator,omitempty"`
	}
	reference struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace,omitempty"`
		Port      int    `json:"port"`
	}
	backend struct {
		reference `json:",inline"`
		Weight    *int     `json:"weight,omitempty"`
		Filters   []filter `json:"filters,omitempty"`
	}
	timeouts struct {
		Request string `json:"request,omitempty"`
	}
	parent struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace,omitempty"`
		Section   string `json:"sectionName,omitempty"`
		Port      int    `json:"port,omitempty"`
	}
	route struct {
		name, namespace string
		created         string
		Parents         []parent `json:"parentRefs"`
		Hosts           []string `json:"hostnames,omitempty"`
		Rules           []rule   `json:"rules"`
	}
	listener struct {
		Name     string         `json:"name"`
		Port     int            `json:"port"`
		Protocol string         `json:"protocol"`
		Hostname string         `json:"hostname,omitempty"`
		TLS      map[string]any `json:"tls,omitempty"`
		Allowed  map[string]any `json:"allowedRoutes,omitempty"`
	}
	gateway struct {
		name      string
		Class     string     `json:"gatewayClassName"`
		Listeners []listener `json:"listeners"`
		routes    []route
		together  bool // all routes are at all listeners
		leads     bool // the first listener leads to the second
	}
)

const (
	own   = "n" // the namespace of the gateways
	other = "m" // another one, whose routes are all older
)

// service is a Service, with the address that stands for it in the cluster.
type service struct {
	namespace, name, ip string
	ports               []int
}

func services() []service {
	return []service{
		{own, "s1", "10.0.0.1", []int{80}},
		{own, "s2", "10.0.0.2", []int{80}},
		{own, "s3", "10.0.0.3", []int{80, 81}},
		{other, "far", "10.0.0.4", []int{80}},
	}
}

// target is the name that the rehearsal gives to a port of a Service.
func (s service) target(port int) string {
	return fmt.Sprintf("%s/%s/p%d/default", s.namespace, s.name, port)
}

func (l listener) https() bool { return l.Protocol == "HTTPS" }

// nicknames are the names that the HTTPRoutes of a gateway have where a reader drops the time of their
// creation: their order is that of their age.
func (g gateway) nicknames() map[string]string {
	sorted := slices.Clone(g.routes)
	slices.SortFunc(sorted, func(a, b route) int {
		return cmp.Or(strings.Compare(a.created, b.created), strings.Compare(a.namespace+"/"+a.name, b.namespace+"/"+b.name))
	})
	out := map[string]string{}
	for i, r := range sorted {
		out[r.name] = fmt.Sprintf("%s-%02d", g.name, i)
	}
	return out
}

// manifest is the gateways with all that they need. ageless says that the reader knows names alone.
func manifest(t *testing.T, gateways []gateway, ageless bool) []byte {
	t.Helper()
	var out []byte
	add := func(version, kind, namespace, name, created string, rest map[string]any) {
		meta := map[string]any{"name": name}
		if namespace != "" {
			meta["namespace"] = namespace
		}
		if created != "" {
			meta["creationTimestamp"] = created
		}
		o := map[string]any{"apiVersion": version, "kind": kind, "metadata": meta}
		for k, v := range rest {
			o[k] = v
		}
		b, err := yaml.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		out = append(append(out, b...), "---\n"...)
	}
	const group = "gateway.networking.k8s.io/"
	add(group+"v1", "GatewayClass", "", "any", "", map[string]any{"spec": map[string]any{"controllerName": "gateway.envoyproxy.io/gatewayclass-controller"}})
	for _, s := range services() {
		var ports []map[string]any
		for _, p := range s.ports {
			ports = append(ports, map[string]any{"name": fmt.Sprintf("p%d", p), "port": p, "targetPort": 8000 + p})
		}
		add("v1", "Service", s.namespace, s.name, "", map[string]any{"spec": map[string]any{"clusterIP": s.ip, "selector": map[string]any{"app": s.name}, "ports": ports}})
	}
	add(group+"v1beta1", "ReferenceGrant", other, "routes", "", map[string]any{"spec": map[string]any{
		"from": []any{map[string]any{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": own}},
		"to":   []any{map[string]any{"group": "", "kind": "Service"}},
	}})
	add(group+"v1beta1", "ReferenceGrant", own, "routes", "", map[string]any{"spec": map[string]any{
		"from": []any{map[string]any{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": other}},
		"to":   []any{map[string]any{"group": "", "kind": "Service"}},
	}})
	for _, g := range gateways {
		add(group+"v1", "Gateway", own, g.name, "", map[string]any{"spec": g})
		nicknames := g.nicknames()
		for _, r := range g.routes {
			name, created := r.name, r.created
			if ageless {
				name, created = nicknames[r.name], ""
			}
			add(group+"v1", "HTTPRoute", r.namespace, name, created, map[string]any{"spec": r})
		}
	}
	return out
}
