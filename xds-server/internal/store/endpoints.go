package store

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"meshc.dev/meshc/xds-server/internal/endpoints"
	"meshc.dev/meshc/xds-server/internal/view"
)

// assignmentForm is part of the digest of every live assignment. It changes when
// the message made from the same addresses does, so that proxies get it anew.
const assignmentForm = "meshc.dev/assignment/v1"

// Assignment encodes live addresses as the endpoints of that name. known false
// means that the addresses are not known: the item is then empty and soft, so
// that a new cluster does not wait for it and an old one loses nothing.
func (s *Store) Assignment(name string, a endpoints.Addresses, known bool) (*view.Item, error) {
	form := assignmentForm
	if !known {
		form += "/unknown"
	}
	sum := sha256.Sum256([]byte(form + "\n" + name + "\n" + a.Digest()))
	digest := hex.EncodeToString(sum[:])
	key := itemKey{t: view.Endpoints, name: name, digest: digest}
	if it := s.known(key); it != nil {
		return it, nil
	}
	version := view.Version(digest)
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(assignment(name, a))
	if err != nil {
		return nil, err
	}
	body, err := wire(view.Endpoints, name, version, value)
	if err != nil {
		return nil, err
	}
	s.sweep()
	return s.intern(key, &view.Item{Name: name, Version: version, Body: body, Soft: !known}), nil
}

type place struct {
	priority              uint32
	region, zone, subZone string
}

// assignment groups addresses by priority and place. Envoy wants priorities
// without gaps, so they are renumbered: 0, 5, 9 become 0, 1, 2.
func assignment(name string, a endpoints.Addresses) *endpointv3.ClusterLoadAssignment {
	groups := map[place]*endpointv3.LocalityLbEndpoints{}
	var places []place
	for ad := range a.All() {
		p := place{ad.Priority, ad.Region, ad.Zone, ad.SubZone}
		g, ok := groups[p]
		if !ok {
			g = &endpointv3.LocalityLbEndpoints{Locality: &corev3.Locality{Region: p.region, Zone: p.zone, SubZone: p.subZone}}
			groups[p] = g
			places = append(places, p)
		}
		g.LbEndpoints = append(g.LbEndpoints, lbEndpoint(ad))
	}
	slices.SortFunc(places, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.priority, b.priority), cmp.Compare(a.region, b.region), cmp.Compare(a.zone, b.zone), cmp.Compare(a.subZone, b.subZone))
	})
	cla := &endpointv3.ClusterLoadAssignment{ClusterName: name}
	rank := uint32(0)
	for i, p := range places {
		if i > 0 && p.priority != places[i-1].priority {
			rank++
		}
		g := groups[p]
		g.Priority = rank
		g.LoadBalancingWeight = localityWeight(g)
		cla.Endpoints = append(cla.Endpoints, g)
	}
	return cla
}

// localityWeight is the sum of the weights: gRPC ignores a locality without
// one, and Envoy uses it only where locality weighting is on.
func localityWeight(g *endpointv3.LocalityLbEndpoints) *wrapperspb.UInt32Value {
	sum := uint32(0)
	for _, e := range g.LbEndpoints {
		sum += e.GetLoadBalancingWeight().GetValue()
	}
	return wrapperspb.UInt32(sum)
}

func lbEndpoint(a endpoints.Address) *endpointv3.LbEndpoint {
	return &endpointv3.LbEndpoint{
		HealthStatus:        healthOf(a.Health),
		LoadBalancingWeight: wrapperspb.UInt32(max(a.Weight, 1)),
		HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: &corev3.Address{
			Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
				Address:       a.Addr.Addr().String(),
				PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(a.Addr.Port())},
			}},
		}}},
	}
}

func healthOf(h endpoints.Health) corev3.HealthStatus {
	switch h {
	case endpoints.Healthy:
		return corev3.HealthStatus_HEALTHY
	case endpoints.Unhealthy:
		return corev3.HealthStatus_UNHEALTHY
	case endpoints.Draining:
		return corev3.HealthStatus_DRAINING
	}
	return corev3.HealthStatus_UNKNOWN
}
