package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
)

// target is where a Service's address and port lead.
type target struct {
	address  netip.Addr
	port     int32
	protocol string // tcp, udp
	to       []netip.AddrPort
}

// serveServices keeps the rules of Services' addresses, and answers for their names. It
// returns when both hold for what the cluster has now.
func (k *kubelet) serveServices(ctx context.Context) error {
	f := informers.NewSharedInformerFactory(k.client, 0)
	services, slices := f.Core().V1().Services(), f.Discovery().V1().EndpointSlices()
	changed := make(chan struct{}, 1)
	touch := func(any) {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	handler := cache.ResourceEventHandlerFuncs{AddFunc: touch, UpdateFunc: func(_, o any) { touch(o) }, DeleteFunc: touch}
	for _, i := range []cache.SharedIndexInformer{services.Informer(), slices.Informer()} {
		if _, err := i.AddEventHandler(handler); err != nil {
			return fmt.Errorf("watching services: %w", err)
		}
		go i.RunWithContext(ctx)
		if !cache.WaitForCacheSync(ctx.Done(), i.HasSynced) {
			return errors.New("the watch of services did not begin")
		}
	}
	var known atomic.Pointer[names]
	look := func() error {
		all, err := services.Lister().List(labels.Everything())
		if err != nil {
			return err
		}
		ends, err := slices.Lister().List(labels.Everything())
		if err != nil {
			return err
		}
		n := namesOf(all, ends)
		known.Store(&n)
		return load(ctx, rules(targets(all, ends)))
	}
	if err := look(); err != nil {
		return fmt.Errorf("setting the rules of services: %w", err)
	}
	go follow(ctx, changed, look, k.log)
	return k.serveNames(ctx, &known)
}

// follow looks again after each change; a change that fails is looked at again soon.
func follow(ctx context.Context, changed chan struct{}, look func() error, log *slog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
		sleep(ctx, 10*time.Millisecond) // several slices often change at one time
		if err := look(); err != nil && ctx.Err() == nil {
			log.Error("the rules of services are not set", "error", err)
			time.AfterFunc(time.Second, func() {
				select {
				case changed <- struct{}{}:
				default:
				}
			})
		}
	}
}

// serviceOf is namespace/name of the Service that a slice belongs to.
func serviceOf(s *discoveryv1.EndpointSlice) string {
	return s.Namespace + "/" + s.Labels[discoveryv1.LabelServiceName]
}

// targets are those of all Services that have addresses, in an order that does not
// change.
func targets(services []*corev1.Service, ends []*discoveryv1.EndpointSlice) []target {
	byService := map[string][]*discoveryv1.EndpointSlice{}
	for _, s := range ends {
		byService[serviceOf(s)] = append(byService[serviceOf(s)], s)
	}
	var out []target
	for _, s := range services {
		for _, ip := range s.Spec.ClusterIPs {
			address, err := netip.ParseAddr(ip)
			if err != nil { // None
				continue
			}
			for _, p := range s.Spec.Ports {
				t := target{address: address, port: p.Port, protocol: strings.ToLower(string(p.Protocol))}
				if t.protocol == "sctp" {
					continue
				}
				t.to = endpoints(byService[s.Namespace+"/"+s.Name], address.Is6(), p.Name)
				out = append(out, t)
			}
		}
	}
	slices.SortFunc(out, func(a, b target) int {
		return strings.Compare(fmt.Sprint(a.address, a.protocol, a.port), fmt.Sprint(b.address, b.protocol, b.port))
	})
	return out
}

// endpoints are the ready ones of one port; if there are none, those that still serve
// while they end.
func endpoints(ends []*discoveryv1.EndpointSlice, v6 bool, port string) []netip.AddrPort {
	var ready, serving []netip.AddrPort
	for _, s := range ends {
		if v6 != (s.AddressType == discoveryv1.AddressTypeIPv6) {
			continue
		}
		for _, p := range s.Ports {
			if p.Name == nil || *p.Name != port || p.Port == nil {
				continue
			}
			for _, e := range s.Endpoints {
				address, err := netip.ParseAddr(e.Addresses[0])
				if err != nil {
					continue
				}
				at := netip.AddrPortFrom(address, uint16(*p.Port))
				switch c := e.Conditions; {
				case c.Ready == nil || *c.Ready:
					ready = append(ready, at)
				case c.Serving != nil && *c.Serving && c.Terminating != nil && *c.Terminating:
					serving = append(serving, at)
				}
			}
		}
	}
	if len(ready) == 0 {
		ready = serving
	}
	slices.SortFunc(ready, netip.AddrPort.Compare)
	return slices.Compact(ready)
}

// rules is the whole table, as nft(8) reads it. It takes the place of the one before in
// one step.
func rules(all []target) string {
	var dispatch, chains strings.Builder
	own := map[netip.Addr]bool{}
	for i, t := range all {
		if len(t.to) == 0 {
			continue // the route of all Services refuses
		}
		family := "ip"
		if t.address.Is6() {
			family = "ip6"
		}
		var choices []string
		for j, to := range t.to {
			own[to.Addr()] = true
			choices = append(choices, fmt.Sprintf("%d : goto s%d_%d", j, i, j))
			_, _ = fmt.Fprintf(&chains, "\tchain s%d_%d { meta l4proto %s dnat %s to %s; }\n", i, j, t.protocol, family, to)
		}
		_, _ = fmt.Fprintf(&dispatch, "\t\t%s daddr %s %s dport %d numgen random mod %d vmap { %s }\n",
			family, t.address, t.protocol, t.port, len(t.to), strings.Join(choices, ", "))
	}
	// Whoever calls itself by a Service's address would get packets from itself.
	var hairpin strings.Builder
	for _, a := range slices.SortedFunc(keys(own), netip.Addr.Compare) {
		family := "ip"
		if a.Is6() {
			family = "ip6"
		}
		_, _ = fmt.Fprintf(&hairpin, "\t\t%s saddr %s %[1]s daddr %[2]s masquerade\n", family, a)
	}
	return "table inet kubetest {}\ndelete table inet kubetest\ntable inet kubetest {\n" + chains.String() +
		"\tchain services {\n" + dispatch.String() + "\t}\n" +
		"\tchain in { type nat hook prerouting priority dstnat; goto services; }\n" +
		"\tchain own { type nat hook output priority -100; goto services; }\n" +
		"\tchain out {\n\t\ttype nat hook postrouting priority srcnat;\n" + hairpin.String() + "\t}\n}\n"
}

func keys(m map[netip.Addr]bool) func(func(netip.Addr) bool) {
	return func(yield func(netip.Addr) bool) {
		for a := range m {
			if !yield(a) {
				return
			}
		}
	}
}

func load(ctx context.Context, table string) error {
	cmd := exec.CommandContext(ctx, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(table)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
