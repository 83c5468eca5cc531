package compiler_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
)

// labels are the fields whose text may be a resource's name and lead nowhere.
func labels() map[protoreflect.FullName]string {
	return map[protoreflect.FullName]string{
		"envoy.config.cluster.v3.Cluster.name":                                                          "its own",
		"envoy.config.listener.v3.Listener.name":                                                        "its own",
		"envoy.config.listener.v3.FilterChain.name":                                                     "for logs",
		"envoy.config.route.v3.RouteConfiguration.name":                                                 "its own",
		"envoy.config.route.v3.VirtualHost.name":                                                        "for logs",
		"envoy.config.route.v3.Route.name":                                                              "for logs",
		"envoy.config.endpoint.v3.ClusterLoadAssignment.cluster_name":                                   "that of the cluster in which it stands",
		"envoy.extensions.common.dynamic_forward_proxy.v3.DnsCacheConfig.name":                          "of a cache, which whoever comes first makes",
		"envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.stat_prefix": "of metrics",
		"envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.stat_prefix":                            "of metrics",
		"envoy.extensions.filters.network.rbac.v3.RBAC.stat_prefix":                                     "of metrics",
	}
}

// kinds are the types that a field which says what it holds may name; any other may name
// all.
func kinds(field protoreflect.Name) []release.TypeURL {
	switch {
	case strings.Contains(string(field), "route_config"):
		return []release.TypeURL{release.RouteType}
	case strings.Contains(string(field), "cluster"):
		return []release.TypeURL{release.ClusterType}
	}
	return release.Types()
}

// said is a string of a message, and where it stands.
type said struct {
	field protoreflect.FieldDescriptor
	is    string
}

// texts gives every string of a message, those in packed messages included.
func texts(m protoreflect.Message, give func(said)) error {
	if box, ok := m.Interface().(*anypb.Any); ok {
		inner, err := box.UnmarshalNew()
		if err != nil {
			return fmt.Errorf("a payload that nobody can look into: %w", err)
		}
		return texts(inner.ProtoReflect(), give)
	}
	var err error
	one := func(fd protoreflect.FieldDescriptor, v protoreflect.Value) {
		switch {
		case fd.Message() != nil && err == nil:
			err = texts(v.Message(), give)
		case fd.Kind() == protoreflect.StringKind:
			give(said{fd, v.String()})
		}
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsMap():
			v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				if fd.MapKey().Kind() == protoreflect.StringKind {
					give(said{fd, k.String()})
				}
				one(fd.MapValue(), v)
				return true
			})
		case fd.IsList():
			for i := range v.List().Len() {
				one(fd, v.List().Get(i))
			}
		default:
			one(fd, v)
		}
		return err == nil
	})
	return err
}

// undeclared are the names of the snapshot's resources that a resource has in it, and does
// not say that it needs.
func undeclared(m proto.Message, needs release.References, have map[release.TypeURL]map[string]bool) ([]string, error) {
	var out []string
	if c, ok := m.(*clusterv3.Cluster); ok && c.GetType() == clusterv3.Cluster_EDS {
		if s := c.GetEdsClusterConfig().GetServiceName(); s != "" {
			out = append(out, fmt.Sprintf("endpoints by the name %q: they have the cluster's", s))
		}
		if !slices.Contains(needs[release.EndpointType], c.GetName()) {
			out = append(out, "endpoints of an EDS cluster")
		}
	}
	err := texts(m.ProtoReflect(), func(x said) {
		if labels()[x.field.FullName()] != "" {
			return
		}
		names, says := false, false
		for _, t := range kinds(x.field.Name()) {
			names = names || have[t][x.is]
			says = says || slices.Contains(needs[t], x.is)
		}
		if names && !says {
			out = append(out, fmt.Sprintf("%s: %q", x.field.FullName(), x.is))
		}
	})
	return out, err
}

// TestEveryReferenceIsDeclared: whatever text in a resource is the name of another
// resource of the same snapshot, the snapshot says that it is needed. A lowering that
// writes a name and does not say so would break the order of a rollout, and nothing else
// would notice. Nor is anything declared that is not there.
func TestEveryReferenceIsDeclared(t *testing.T) {
	found := map[string]int{}
	for _, repo := range repositories(t) {
		p, ds := compiler.Load(repo.files, compiler.Options{Environment: repo.env, At: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)})
		if err := ds.Err(); err != nil {
			t.Fatalf("%s: %v", repo.name, err)
		}
		r, ds := p.Release()
		if err := ds.Err(); err != nil {
			t.Fatalf("%s: %v", repo.name, err)
		}
		for _, class := range r.Classes() {
			s, err := r.Snapshot(class)
			if err != nil {
				t.Fatal(err)
			}
			checkReferences(t, fmt.Sprintf("%s: %s", repo.name, class), r, s, found)
		}
	}
	for _, want := range []string{
		"Cluster → ClusterLoadAssignment", "Listener → RouteConfiguration", "Listener → Cluster", "RouteConfiguration → Cluster",
	} {
		if found[want] == 0 {
			t.Errorf("no repository has a reference %s: %v", want, found)
		}
	}
}

func checkReferences(t *testing.T, where string, r release.Release, s release.Snapshot, found map[string]int) {
	t.Helper()
	have := map[release.TypeURL]map[string]bool{}
	for typ, rs := range s.Resources {
		have[typ] = map[string]bool{}
		for _, x := range rs {
			have[typ][x.Name] = true
		}
	}
	for typ, rs := range s.Resources {
		for _, x := range rs {
			m := message(t, r, typ, x.Digest)
			missing, err := undeclared(m, x.Needs, have)
			if err != nil || len(missing) > 0 {
				t.Errorf("%s: %s %q names what it does not say that it needs: %v, %v", where, typ, x.Name, missing, err)
			}
			for to, names := range x.Needs {
				found[last(typ)+" → "+last(to)] += len(names)
				less := maps.Clone(x.Needs)
				delete(less, to)
				missing, err := undeclared(m, less, have)
				if err != nil || len(missing) < len(names) {
					t.Errorf("%s: %s %q says that it needs %v, and names only %v, %v", where, typ, x.Name, names, missing, err)
				}
			}
		}
	}
}

func last(t release.TypeURL) string { return t[strings.LastIndex(t, ".")+1:] }

func message(t *testing.T, r release.Release, typ release.TypeURL, digest string) proto.Message {
	t.Helper()
	b, err := r.Blob(digest)
	if err != nil {
		t.Fatal(err)
	}
	mt, err := protoregistry.GlobalTypes.FindMessageByURL(typ)
	if err != nil {
		t.Fatal(err)
	}
	m := mt.New().Interface()
	if err := protojson.Unmarshal(b, m); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestAForgottenReferenceIsFound, wherever it stands: the check above looks everywhere.
func TestAForgottenReferenceIsFound(t *testing.T) {
	box := func(m proto.Message) *anypb.Any {
		a, err := anypb.New(m)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	const c = "shop/log/grpc/v1"
	have := map[release.TypeURL]map[string]bool{release.ClusterType: {c: true}, release.RouteType: {c: true, "r": true}}
	for name, m := range map[string]proto.Message{
		"in a payload": box(&tcpv3.TcpProxy{ClusterSpecifier: &tcpv3.TcpProxy_Cluster{Cluster: c}}),
		"in the payload of a payload": &hcmv3.HttpConnectionManager{RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{
			TypedPerFilterConfig: map[string]*anypb.Any{"f": box(box(&routev3.WeightedCluster{Clusters: []*routev3.WeightedCluster_ClusterWeight{{Name: c}}}))},
		}}},
		"as a key":       &routev3.VirtualHost{TypedPerFilterConfig: map[string]*anypb.Any{c: box(&routev3.Route{})}},
		"in a list":      &routev3.VirtualHost{Domains: []string{"a", c}},
		"by a type only": &hcmv3.Rds{RouteConfigName: "r"},
	} {
		if got, err := undeclared(m, release.References{release.ClusterType: {"another"}}, have); len(got) != 1 || err != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if _, err := undeclared(&anypb.Any{TypeUrl: "type.googleapis.com/unknown"}, nil, have); err == nil {
		t.Error("what cannot be looked into has passed")
	}
}
