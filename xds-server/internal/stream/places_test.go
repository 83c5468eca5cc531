package stream_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/xds-server/internal/endpoints"
	"meshc.dev/meshc/xds-server/internal/stream"
)

// inZones sets the addresses of a file, one in each zone.
func (s *server) inZones(t *testing.T, file string, zones ...string) {
	t.Helper()
	var list []endpoints.Address
	for i, zone := range zones {
		list = append(list, endpoints.Address{Addr: netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), uint16(1000+i)), Zone: zone})
	}
	a, err := endpoints.NewAddresses(list)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.hub.SetEndpoints(endpoints.Change{Key: endpoints.Key{File: file}, Addresses: a}); err != nil {
		t.Fatal(err)
	}
}

// from asks for clusters and endpoints as a proxy in a zone, with what it has from an earlier stream.
func (s *server) from(t *testing.T, zone string, has map[string]map[string]string) *deltaClient {
	t.Helper()
	c := s.delta(t, shop, "in "+zone)
	c.sent = true
	c.send(&discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: c.node, Locality: &corev3.Locality{Zone: zone}}, TypeUrl: cds, InitialResourceVersions: has[cds]})
	c.resume(eds, has[eds], "near", "plain")
	return c
}

// ranked takes a response with endpoints, and says in which order zones are.
func ranked(t *testing.T, r *discoveryv3.DeltaDiscoveryResponse) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, res := range r.GetResources() {
		var cla endpointv3.ClusterLoadAssignment
		if err := res.GetResource().UnmarshalTo(&cla); err != nil {
			t.Fatal(err)
		}
		for _, g := range cla.GetEndpoints() {
			out[cla.GetClusterName()] += fmt.Sprintf("%s%d", g.GetLocality().GetZone(), g.GetPriority())
		}
	}
	return out
}

// Proxies of one class get the addresses in an order of their own where the release says so, and all get the
// others alike; one that comes back has what it had.
func TestEndpointsFromThePlaceOfTheClient(t *testing.T) {
	s := start(t, stream.Limits{})
	s.inZones(t, "f", "a", "b")
	spec := classSpec{class: shop}
	spec.res = append(spec.res, edsCluster("near", time.Second), edsCluster("plain", time.Second))
	spec.live = []release.Endpoints{{Cluster: "near", File: "f", Locality: &release.Locality{Prefer: release.PreferZone}}, {Cluster: "plain", File: "f"}}
	s.publish(t, "commit-1", seal(t, spec))
	clients := map[string]*deltaClient{}
	for zone, want := range map[string]string{"a": "a0b1", "b": "b0a1", "x": "a0b0", "": "a0b0"} {
		c := s.from(t, zone, nil)
		c.ack(c.want(cds, []string{"near", "plain"}))
		r := c.want(eds, []string{"near", "plain"})
		c.ack(r)
		if got := ranked(t, r); got["near"] != want || got["plain"] != "a0b0" {
			t.Errorf("from %q: %v, want %s", zone, got, want)
		}
		clients[zone] = c
	}
	clients["a"].cancel()
	again := s.from(t, "a", clients["a"].has)
	again.quiet(200 * time.Millisecond)

	s.inZones(t, "f", "b", "a", "x")
	for zone, want := range map[string]string{"b": "b0a1x1", "x": "x0a1b1", "": "a0b0x0"} {
		c := clients[zone]
		r := c.want(eds, []string{"near", "plain"})
		c.ack(r)
		if got := ranked(t, r); got["near"] != want {
			t.Errorf("from %q: %v, want %s", zone, got, want)
		}
	}

	// Another rule is another content of the class, of which nothing but the endpoints is different.
	spec.live[0].Locality = &release.Locality{Failover: map[string]map[string]int{"b": {"x": 1}}}
	s.publish(t, "commit-2", seal(t, spec))
	for zone, want := range map[string]string{"b": "b0x1a2", "x": "a0b0x0"} {
		r := clients[zone].want(eds, []string{"near"})
		clients[zone].ack(r)
		if got := ranked(t, r); got["near"] != want {
			t.Errorf("from %q: %v, want %s", zone, got, want)
		}
	}
}
