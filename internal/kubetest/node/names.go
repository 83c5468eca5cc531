package node

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/net/dns/dnsmessage"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// clusterDomain ends all names of Services.
const clusterDomain = "cluster.local"

// names are addresses by name, lower case, with the last dot: of Services their own
// address, of headless ones their endpoints', and of endpoints that have a hostname.
type names map[string][]netip.Addr

func namesOf(services []*corev1.Service, ends []*discoveryv1.EndpointSlice) names {
	out := names{}
	headless := map[string]string{} // namespace/name to the Service's name
	for _, s := range services {
		name := s.Name + "." + s.Namespace + ".svc." + clusterDomain + "."
		out[name] = nil // it exists, with or without addresses
		for _, ip := range s.Spec.ClusterIPs {
			if a, err := netip.ParseAddr(ip); err == nil {
				out[name] = append(out[name], a)
			} else {
				headless[s.Namespace+"/"+s.Name] = name
			}
		}
	}
	for _, s := range ends {
		if name, ok := headless[serviceOf(s)]; ok {
			out.addEndpoints(name, s.Endpoints)
		}
	}
	return out
}

// addEndpoints adds those that are ready, under the Service's name and their own.
func (n names) addEndpoints(name string, all []discoveryv1.Endpoint) {
	for _, e := range all {
		if e.Conditions.Ready != nil && !*e.Conditions.Ready {
			continue
		}
		of := []string{name}
		if e.Hostname != nil {
			of = append(of, *e.Hostname+"."+name)
		}
		for _, address := range e.Addresses {
			a, err := netip.ParseAddr(address)
			for _, name := range of {
				if err == nil && !slices.Contains(n[name], a) {
					n[name] = append(n[name], a)
				}
			}
		}
	}
}

// serveNames answers for the names of the cluster, and that there are no others.
func (k *kubelet) serveNames(ctx context.Context, known *atomic.Pointer[names]) error {
	var conf net.ListenConfig
	for _, a := range []netip.Addr{k.Network.v4(nodeHost), k.Network.v6(nodeHost)} {
		at := netip.AddrPortFrom(a, 53).String()
		packets, err := conf.ListenPacket(ctx, "udp", at)
		if err != nil {
			return fmt.Errorf("serving names: %w", err)
		}
		streams, err := conf.Listen(ctx, "tcp", at)
		if err != nil {
			return fmt.Errorf("serving names: %w", err)
		}
		go answerPackets(packets, known)
		go answerStreams(streams, known)
	}
	return nil
}

func answerPackets(conn net.PacketConn, known *atomic.Pointer[names]) {
	buf := make([]byte, 4096)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if answer, err := known.Load().answer(buf[:n]); err == nil {
			_, _ = conn.WriteTo(answer, from)
		}
	}
}

func answerStreams(l net.Listener, known *atomic.Pointer[names]) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = conn.Close() }()
			for {
				var length uint16
				if binary.Read(conn, binary.BigEndian, &length) != nil {
					return
				}
				query := make([]byte, length)
				if _, err := io.ReadFull(conn, query); err != nil {
					return
				}
				answer, err := known.Load().answer(query)
				if err != nil {
					return
				}
				_, _ = conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
			}
		}()
	}
}

// answer answers a query with one question.
func (n names) answer(query []byte) ([]byte, error) {
	var p dnsmessage.Parser
	head, err := p.Start(query)
	if err != nil {
		return nil, err
	}
	q, err := p.Question()
	if err != nil {
		return nil, err
	}
	addresses, exists := n[strings.ToLower(q.Name.String())]
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: head.ID, Response: true, Authoritative: true, RecursionDesired: head.RecursionDesired, RecursionAvailable: true},
		Questions: []dnsmessage.Question{q},
	}
	if !exists {
		m.RCode = dnsmessage.RCodeNameError
	}
	for _, a := range addresses {
		h := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: dnsmessage.ClassINET, TTL: 1}
		switch {
		case q.Type == dnsmessage.TypeA && a.Is4():
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: a.As4()}})
		case q.Type == dnsmessage.TypeAAAA && a.Is6():
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	return m.Pack()
}
