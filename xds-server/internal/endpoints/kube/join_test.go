package kube

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/golden"
	"meshc.dev/meshc/xds-server/internal/endpoints"
)

// Each case has the services of a release and the objects of a cluster, and expects the
// addresses of each cluster, and what became of each endpoint.
func TestObjectsBecomeAddresses(t *testing.T) {
	golden.Run(t, "testdata", func(t *testing.T, c golden.Case) map[string][]byte {
		t.Helper()
		tb := newTable()
		var services []release.Discovered
		if err := yaml.UnmarshalStrict(c.In["services.yaml"], &services); err != nil {
			t.Fatal(err)
		}
		tb.want(services)
		for _, doc := range bytes.Split(c.In["objects.yaml"], []byte("---\n")) {
			put(t, tb, doc)
		}
		return map[string][]byte{"addresses": []byte(text(tb.join())), "problems": []byte(problems(tb))}
	})
}

// put takes an object as the API server would send it.
func put(t *testing.T, tb *table, doc []byte) {
	t.Helper()
	var kind metav1.TypeMeta
	if err := yaml.Unmarshal(doc, &kind); err != nil {
		t.Fatal(err)
	}
	var err error
	meta, sl := &metav1.PartialObjectMetadata{}, &discoveryv1.EndpointSlice{}
	switch kind.Kind {
	case "EndpointSlice":
		err = yaml.UnmarshalStrict(doc, sl)
		tb.setSlice(sliceOf(sl))
	case "Pod":
		err = yaml.UnmarshalStrict(doc, meta)
		tb.setPod(string(meta.UID), podOf(meta))
	case "Node":
		err = yaml.UnmarshalStrict(doc, meta)
		tb.setNode(meta.Name, placeOf(meta))
	default:
		t.Fatalf("kind %q in\n%s", kind.Kind, doc)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func text(joined map[name]found) string {
	var b strings.Builder
	for _, n := range slices.SortedFunc(maps.Keys(joined), func(a, b name) int { return strings.Compare(a.String(), b.String()) }) {
		f := joined[n]
		for _, cluster := range slices.Sorted(maps.Keys(f.addresses)) {
			fmt.Fprintln(&b, cluster)
			addrs, err := endpoints.NewAddresses(f.addresses[cluster])
			if err != nil {
				fmt.Fprintln(&b, " ", err)
			}
			for a := range addrs.All() {
				fmt.Fprintln(&b, " ", strings.TrimSpace(strings.Join([]string{a.Addr.String(), string(a.Health), a.Region, a.Zone}, " ")))
			}
		}
		for _, fate := range fates() {
			if f.fates[fate] > 0 {
				fmt.Fprintf(&b, "%s: %s %d\n", n, fate, f.fates[fate])
			}
		}
	}
	return b.String()
}

func problems(tb *table) string {
	var b strings.Builder
	for _, n := range slices.SortedFunc(maps.Keys(tb.joined), func(a, b name) int { return strings.Compare(a.String(), b.String()) }) {
		for _, d := range tb.problems(n, tb.joined[n]) {
			b.WriteString(d.String() + "\n")
		}
	}
	return b.String()
}

// world is a cluster in which anything may happen to one service's pods.
type world struct {
	service release.Discovered
	slices  map[string]*slice
	pods    map[string]*pod
}

func drawWorld(t *rapid.T) world {
	w := world{
		service: release.Discovered{Namespace: "shop", Name: "web", Ports: []string{"http", "admin"}, Versions: []release.DiscoveredVersion{
			{Name: "v1", Labels: map[string]string{"version": "v1"}, Clusters: map[string][]string{"http": {"web/http/v1"}, "admin": {"web/admin/v1"}}},
			{Name: "v2", Labels: map[string]string{"track": "new"}, Clusters: map[string][]string{"http": {"web/http/v2"}, "admin": {"web/admin/v2"}}},
		}},
		slices: map[string]*slice{}, pods: map[string]*pod{},
	}
	uid := rapid.SampledFrom([]string{"", "a", "b", "c", "d", "e"})
	for _, u := range rapid.SliceOfDistinct(uid, func(s string) string { return s }).Draw(t, "pods") {
		if u != "" {
			w.pods[u] = &pod{name: name{rapid.SampledFrom([]string{"shop", "shop", "shop", "other"}).Draw(t, "ns"), "pod-" + u}, labels: rapid.SampledFrom([]map[string]string{
				{}, {"version": "v1"}, {"version": "v2"}, {"track": "new"}, {"version": "v1", "track": "new"},
			}).Draw(t, "labels")}
		}
	}
	for i := range rapid.IntRange(0, 5).Draw(t, "slices") {
		s := &slice{name: name{"shop", fmt.Sprint(i)}, service: name{"shop", "web"}, family: rapid.SampledFrom([]discoveryv1.AddressType{"IPv4", "IPv6", "FQDN"}).Draw(t, "family")}
		for _, n := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"http", "admin", "other", ""}), 0, 3, func(s string) string { return s }).Draw(t, "ports") {
			s.ports = append(s.ports, port{n, rapid.Uint16Range(1, 3).Draw(t, "number")})
		}
		for range rapid.IntRange(0, 4).Draw(t, "endpoints") {
			e := endpoint{pod: uid.Draw(t, "pod"), state: rapid.SampledFrom([]state{ready, leaving, notReady}).Draw(t, "state")}
			if s.family != "FQDN" {
				e.addr = addrOf(s.family, e.pod, rapid.IntRange(0, 1).Draw(t, "host"))
			}
			s.endpoints = append(s.endpoints, e)
		}
		w.slices[s.name.name] = s
	}
	return w
}

// What is served is what may be: pods of the namespace that have exactly one version's
// labels, each once; nobody who ends while another is ready.
func TestOnlyWhatMayBeIsServed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		all := slices.Collect(maps.Values(w.slices))
		f := join(w.service, rapid.Permutation(all).Draw(t, "order"), w.pods, nil)
		if again := join(w.service, all, w.pods, nil); text(map[name]found{{}: f}) != text(map[name]found{{}: again}) {
			t.Fatalf("the order of slices matters:\n%s\n%s", text(map[name]found{{}: f}), text(map[name]found{{}: again}))
		}
		for _, v := range w.service.Versions {
			for portName, clusters := range v.Clusters {
				cluster := clusters[0]
				got, ok := f.addresses[cluster]
				if !ok {
					t.Fatalf("%s is not known", cluster)
				}
				want := w.expect(v, portName)
				if len(got) != want {
					t.Fatalf("%s has %d addresses, want %d: %v", cluster, len(got), want, got)
				}
				if _, err := endpoints.NewAddresses(got); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

// expect counts what a version's port has, by a plain reading of the rules.
func (w world) expect(v release.DiscoveredVersion, portName string) int {
	best := map[string]state{} // of each pod
	for _, s := range w.slices {
		if s.family == "FQDN" || !slices.ContainsFunc(s.ports, func(p port) bool { return p.name == portName }) {
			continue
		}
		for _, e := range s.endpoints {
			p := w.pods[e.pod]
			if p == nil || p.name.namespace != "shop" {
				continue
			}
			fits := 0
			for _, each := range w.service.Versions {
				if has(p.labels, each.Labels) {
					fits++
				}
			}
			if fits != 1 || !has(p.labels, v.Labels) {
				continue
			}
			if old, ok := best[e.pod]; !ok || e.state < old {
				best[e.pod] = e.state
			}
		}
	}
	n := map[state]int{}
	for _, st := range best {
		n[st]++
	}
	if n[ready] > 0 {
		return n[ready]
	}
	return n[leaving]
}

// A table that was changed step by step gives what one gives that was made anew.
func TestTableFollowsEveryChange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kept := newTable()
		var last world
		for range rapid.IntRange(1, 4).Draw(t, "steps") {
			w := drawWorld(t)
			kept.want([]release.Discovered{w.service})
			kept.join()
			for n, s := range w.slices {
				_ = n
				kept.setSlice(s)
			}
			for key, s := range kept.slices {
				if w.slices[s.name.name] == nil {
					kept.removeSlice(key)
				}
			}
			for uid, p := range w.pods {
				kept.setPod(uid, p)
			}
			for uid := range kept.pods {
				if w.pods[uid] == nil {
					kept.removePod(uid)
				}
			}
			kept.join()
			last = w
		}
		fresh := newTable()
		fresh.want([]release.Discovered{last.service})
		for uid, p := range last.pods {
			fresh.setPod(uid, p)
		}
		for _, s := range last.slices {
			fresh.setSlice(s)
		}
		fresh.join()
		if text(kept.joined) != text(fresh.joined) {
			t.Fatalf("kept:\n%s\nfresh:\n%s", text(kept.joined), text(fresh.joined))
		}
		for uid, in := range kept.in {
			for n, count := range in {
				if fresh.in[uid][n] != count {
					t.Fatalf("%q is in %d slices of %s, want %d", uid, count, n, fresh.in[uid][n])
				}
			}
		}
	})
}

// addrOf gives each pod an address of its own in each family, or another one.
func addrOf(family discoveryv1.AddressType, pod string, other int) netip.Addr {
	n := byte(1 + other*100)
	if pod != "" {
		n += pod[0] - 'a' + 1
	}
	if family == discoveryv1.AddressTypeIPv6 {
		return netip.AddrFrom16([16]byte{0xfd, 15: n})
	}
	return netip.AddrFrom4([4]byte{10, 0, 0, n})
}
