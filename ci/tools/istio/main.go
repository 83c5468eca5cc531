// Command istio says what Istio tells proxies: it reads objects and proxies from a file of JSON, has Istio's
// own control plane make their listeners and routes of those, in memory, and writes these as JSON.
//
// In: {"objects": "YAML", "proxies": [{"name", "namespace", "account", "ip", "labels", "gateway"}]}. A proxy that is
// no gateway runs the Services whose selectors fit its labels.
//
// Out: for each proxy's name its doors, {"port", "inbound", "tls", "names", "manager"}, and the routes that these name,
// {"name": route configuration}. Of filters there are those alone that Envoy itself has and that decide about
// requests: Istio's own, telemetry and logs are left out.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/encoding/protojson"
	corev1 "k8s.io/api/core/v1"

	"istio.io/istio/pilot/pkg/config/kube/crd"
	"istio.io/istio/pilot/pkg/model"
	"istio.io/istio/pilot/pkg/networking/core"
	"istio.io/istio/pilot/pkg/serviceregistry/kube"
	"istio.io/istio/pkg/cluster"
	"istio.io/istio/pkg/config/labels"
	"istio.io/istio/pkg/log"
	"istio.io/istio/pkg/test"
)

const (
	domain    = "cluster.local"
	thisOne   = cluster.ID("Kubernetes")
	inbound   = "virtualInbound"
	ofManager = "envoy.filters.network.http_connection_manager"
)

// filters are those that are told.
func filters() []string {
	return []string{"envoy.filters.http.jwt_authn", "envoy.filters.http.rbac", "envoy.filters.http.fault", "envoy.filters.http.cors", "envoy.filters.http.router"}
}

type question struct {
	Objects string  `json:"objects"`
	Proxies []proxy `json:"proxies"`
}

type proxy struct {
	Name      string            `json:"name"`
	Namespace string            `json:"namespace"`
	Account   string            `json:"account"`
	IP        string            `json:"ip"`
	Labels    map[string]string `json:"labels"`
	Gateway   bool              `json:"gateway"`
}

type answer struct {
	Doors  []door                     `json:"doors"`
	Routes map[string]json.RawMessage `json:"routes,omitempty"`
}

// door is where a proxy takes requests: a filter chain of HTTP.
type door struct {
	Port    uint32          `json:"port"`
	Inbound bool            `json:"inbound,omitempty"`
	TLS     bool            `json:"tls,omitempty"`
	Names   []string        `json:"names,omitempty"` // by which visitors greet
	Manager json.RawMessage `json:"manager"`
}

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "istio:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	if len(args) != 1 {
		return errors.New("usage: istio FILE")
	}
	text, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	var q question
	if err := json.Unmarshal(text, &q); err != nil {
		return fmt.Errorf("reading the question: %w", err)
	}
	logs := log.DefaultOptions()
	logs.OutputPaths = []string{"stderr"}
	if err := log.Configure(logs); err != nil {
		return err
	}
	answers := map[string]answer{}
	// Its fakes end by the goroutine of a test.
	if failed := test.Wrap(func(t test.Failer) { err = q.answer(t, answers) }); failed != nil {
		return failed
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(answers)
}

// answer asks the control plane for each proxy.
func (q question) answer(t test.Failer, answers map[string]answer) error {
	configs, others, err := crd.ParseInputs(q.Objects)
	if err != nil {
		return err
	}
	services, instances, err := registry(others, q.Proxies)
	if err != nil {
		return err
	}
	for i := range configs {
		configs[i].Domain = domain
	}
	fake := core.NewConfigGenTest(t, core.TestOptions{Configs: configs, Services: services, Instances: instances, ClusterID: thisOne})
	for _, p := range q.Proxies {
		if answers[p.Name], err = p.answer(fake); err != nil {
			return fmt.Errorf("proxy %s: %w", p.Name, err)
		}
	}
	return nil
}

// registry is what there is of Services, and who is behind them.
func registry(objects []crd.IstioKind, proxies []proxy) (services []*model.Service, instances []*model.ServiceInstance, err error) {
	for _, o := range objects {
		if o.Kind != "Service" {
			continue
		}
		var s corev1.Service
		text, err := json.Marshal(o)
		if err == nil {
			err = json.Unmarshal(text, &s)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("reading Service %s: %w", o.Name, err)
		}
		is := kube.ConvertService(s, nil, domain, thisOne, domain)
		services = append(services, is)
		for _, p := range proxies {
			if p.Gateway || p.Namespace != s.Namespace || !labels.Instance(s.Spec.Selector).SubsetOf(p.Labels) {
				continue
			}
			for i, port := range s.Spec.Ports {
				at := uint32(port.Port)
				if port.TargetPort.IntVal != 0 {
					at = uint32(port.TargetPort.IntVal)
				}
				instances = append(instances, &model.ServiceInstance{Service: is, ServicePort: is.Ports[i], Endpoint: &model.IstioEndpoint{
					Labels: p.Labels, Addresses: []string{p.IP}, ServicePortName: port.Name, ServiceAccount: "spiffe://" + domain + "/ns/" + p.Namespace + "/sa/" + p.Account,
					EndpointPort: at, TLSMode: model.IstioMutualTLSModeLabel, Namespace: p.Namespace,
				}})
			}
		}
	}
	return services, instances, nil
}

// answer is what the control plane tells a proxy.
func (p proxy) answer(fake *core.ConfigGenTest) (answer, error) {
	asks := &model.Proxy{
		Type: model.SidecarProxy, ID: p.Name + "." + p.Namespace, ConfigNamespace: p.Namespace, DNSDomain: p.Namespace + ".svc." + domain,
		IPAddresses: []string{p.IP}, Labels: p.Labels,
		Metadata: &model.NodeMetadata{Namespace: p.Namespace, ServiceAccount: p.Account, Labels: p.Labels, ClusterID: thisOne, IstioVersion: "1.30.0", WorkloadName: p.Name},
	}
	if p.Gateway {
		asks.Type = model.Router
	}
	asks = fake.SetupProxy(asks)
	all := fake.Listeners(asks)
	var out answer
	for _, l := range all {
		for _, c := range l.FilterChains {
			d, ok, err := doorOf(l, c)
			if err != nil {
				return out, fmt.Errorf("listener %s: %w", l.Name, err)
			}
			if ok {
				out.Doors = append(out.Doors, d)
			}
		}
	}
	for _, r := range fake.RoutesFromListeners(asks, all) {
		text, err := protojson.Marshal(r)
		if err != nil {
			return out, err
		}
		if out.Routes == nil {
			out.Routes = map[string]json.RawMessage{}
		}
		out.Routes[r.Name] = text
	}
	return out, nil
}

// doorOf is a filter chain, if it is one of HTTP.
func doorOf(l *listener.Listener, c *listener.FilterChain) (door, bool, error) {
	d := door{Port: l.GetAddress().GetSocketAddress().GetPortValue(), Inbound: l.Name == inbound,
		TLS: c.TransportSocket != nil, Names: c.GetFilterChainMatch().GetServerNames()}
	if d.Inbound {
		d.Port = c.GetFilterChainMatch().GetDestinationPort().GetValue()
	}
	for _, f := range c.Filters {
		if f.Name != ofManager || d.Port == 0 {
			continue
		}
		m := &hcm.HttpConnectionManager{}
		if err := f.GetTypedConfig().UnmarshalTo(m); err != nil {
			return d, false, err
		}
		bare(m)
		text, err := protojson.Marshal(m)
		d.Manager = text
		return d, err == nil, err
	}
	return d, false, nil
}

// bare leaves out what decides about no request.
func bare(m *hcm.HttpConnectionManager) {
	m.AccessLog, m.AccessLogOptions, m.Tracing = nil, nil, nil
	m.HttpFilters = slices.DeleteFunc(m.HttpFilters, func(f *hcm.HttpFilter) bool {
		return !slices.Contains(filters(), f.Name)
	})
}
