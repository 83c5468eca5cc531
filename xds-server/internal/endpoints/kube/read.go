package kube

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// controllers of Kubernetes that write slices: from a Service's selector, and from an
// Endpoints object.
func isController(managedBy string) bool {
	return managedBy == "endpointslice-controller.k8s.io" || managedBy == "endpointslicemirroring-controller.k8s.io"
}

// sliceOf keeps what is used of an EndpointSlice.
func sliceOf(s *discoveryv1.EndpointSlice) *slice {
	out := &slice{
		name:    name{s.Namespace, s.Name},
		service: name{s.Namespace, s.Labels[discoveryv1.LabelServiceName]},
		family:  s.AddressType,
		byHand:  !isController(s.Labels[discoveryv1.LabelManagedBy]),
	}
	for _, p := range s.Ports {
		if p.Port == nil || *p.Port < 1 || *p.Port > 65535 || p.Protocol != nil && *p.Protocol != corev1.ProtocolTCP {
			continue
		}
		q := port{number: uint16(*p.Port)}
		if p.Name != nil {
			q.name = *p.Name
		}
		out.ports = append(out.ports, q)
	}
	for _, e := range s.Endpoints {
		out.endpoints = append(out.endpoints, endpointOf(s, e))
	}
	return out
}

// endpointOf keeps what is used of an endpoint. All its addresses mean the same, and the
// API says to use the first.
func endpointOf(s *discoveryv1.EndpointSlice, e discoveryv1.Endpoint) endpoint {
	out := endpoint{state: stateOf(e.Conditions), node: value(e.NodeName), zone: value(e.Zone)}
	if len(e.Addresses) > 0 && s.AddressType != discoveryv1.AddressTypeFQDN {
		if addr, err := netip.ParseAddr(e.Addresses[0]); err == nil && addr.Zone() == "" {
			out.addr = addr.Unmap()
		}
	}
	if ref := e.TargetRef; ref != nil && ref.Kind == "Pod" && (ref.Namespace == "" || ref.Namespace == s.Namespace) && out.addr.IsValid() {
		out.pod = string(ref.UID)
	}
	return out
}

// stateOf reads the conditions: unknown means ready, and serving unless it is said not
// to be; whoever publishes addresses that are not ready says ready of those that end too.
func stateOf(c discoveryv1.EndpointConditions) state {
	isReady := c.Ready == nil || *c.Ready
	serving := isReady
	if c.Serving != nil {
		serving = *c.Serving
	}
	switch {
	case c.Terminating != nil && *c.Terminating && serving:
		return leaving
	case c.Terminating != nil && *c.Terminating:
		return notReady
	case isReady:
		return ready
	}
	return notReady
}

func value[T ~string](s *T) string {
	if s == nil {
		return ""
	}
	return string(*s)
}

// podOf keeps what is used of a pod.
func podOf(m *metav1.PartialObjectMetadata) *pod {
	return &pod{name: name{m.Namespace, m.Name}, labels: m.Labels}
}

// placeOf reads where a node is from its labels.
func placeOf(m *metav1.PartialObjectMetadata) place {
	return place{region: m.Labels[corev1.LabelTopologyRegion], zone: m.Labels[corev1.LabelTopologyZone]}
}
