package envoy

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/trait"
)

func timeOf(d trait.Duration) time.Duration { return time.Duration(d) }

// wideMesh is n services on loopback, two versions each, every one calling five others.
func wideMesh(n int) *model.Mesh {
	m := &model.Mesh{TrustDomain: "mesh.local", Environment: "default", Capture: model.Explicit}
	id := func(i int) string { return fmt.Sprintf("ns%d/svc%d", i%n/20, i%n) }
	for i := range n {
		s := &model.Service{
			ID: id(i), Namespace: fmt.Sprintf("ns%d", i/20), Name: fmt.Sprintf("svc%d", i), Owner: "team",
			Ports:  []model.Port{{Name: "http", Number: 8080, Protocol: model.HTTP, MTLS: model.Strict}},
			Traits: trait.Of(eject{5}),
			Grants: []model.Grant{{Name: "callers", Terms: model.Terms{Namespaces: []string{"ns0", "ns1"}, Methods: []string{"GET", "POST"}, Paths: []model.Path{{Kind: model.PathBelow, Value: "/api/"}}}}},
		}
		for j := range 2 {
			s.Versions = append(s.Versions, model.Version{
				Name: fmt.Sprintf("v%d", j+1), Account: s.Name, Ports: map[string]model.VersionPort{
					"http": {Host: fmt.Sprintf("127.%d.%d.%d", j+1, i/250, i%250+1), Port: 15001, App: 9000},
				},
			})
		}
		s.Routes = []model.Route{
			{Name: "beta", Priority: 1, Match: model.NewMatch(model.Path{}, space.Values(space.HeaderDim("x-user"), "beta")), To: []model.Target{{Version: "v2", Weight: 100}}},
			{Name: "default", To: []model.Target{{Version: "v1", Weight: 90}, {Version: "v2", Weight: 10}}, Traits: trait.Of(wait{trait.Duration(5 * time.Second)}, budget{20})},
		}
		for j := range min(5, n-1) {
			s.Calls = append(s.Calls, model.Call{To: id(i + j + 1), Port: "http", Local: uint32(15101 + j)})
		}
		m.Services = append(m.Services, s)
	}
	return m.Build()
}

func BenchmarkEmit(b *testing.B) {
	for _, n := range []int{100, 1000} {
		m := wideMesh(n)
		b.Run(fmt.Sprintf("cold/%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, _, ps := Emit(m, testColumn(), testConditions(), nil, Profile{}); ps.HasErrors() {
					b.Fatal(ps)
				}
			}
		})
		b.Run(fmt.Sprintf("memo/%d", n), func(b *testing.B) {
			memo := NewMemo()
			Emit(m, testColumn(), testConditions(), nil, Profile{Memo: memo})
			for b.Loop() {
				Emit(m, testColumn(), testConditions(), nil, Profile{Memo: memo})
			}
		})
	}
}

func TestFilterOrder(t *testing.T) {
	var list []Slot
	for _, d := range slots() {
		list = append(list, d.slot)
	}
	for _, o := range orders() {
		a, b := slices.Index(list, o.before), slices.Index(list, o.after)
		if a < 0 || b < 0 || a > b {
			t.Errorf("%q must come before %q: %s", o.before, o.after, o.because)
		}
	}
	for _, s := range []side{outbound, inbound} {
		c := chain(s)
		if Slot(c[len(c)-1].Name) != SlotRouter {
			t.Errorf("%s chain ends in %q, not in the router", s, c[len(c)-1].Name)
		}
	}
}
