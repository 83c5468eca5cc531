package kubernetes

import (
	"fmt"
	"strings"
	"testing"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
)

type lost struct{}

func (lost) TraitName() string { return "lost" }

func mesh(traits ...trait.Value) *model.Mesh {
	web := &model.Service{
		ID: "shop/web", Namespace: "shop", Name: "web", Owner: "team",
		Ports:    []model.Port{{Name: "http", Number: 80, Protocol: model.HTTP, MTLS: model.Strict}},
		Versions: []model.Version{{Name: "v1", Account: "web", Labels: map[string]string{"version": "v1"}}},
		Grants:   []model.Grant{{Name: "self", Terms: model.Terms{Accounts: []string{"shop/web"}}}},
	}
	for _, v := range traits {
		web.Traits = web.Traits.With(v)
	}
	return (&model.Mesh{TrustDomain: strings.Repeat("very-", 20) + "long.example", Environment: "prod", Capture: model.Transparent,
		Namespaces: []model.Namespace{{Name: "shop", Package: "shop", Owner: "team"}}, Services: []*model.Service{web}}).Build()
}

// The mesh is only read, and the same mesh gives the same bytes.
func TestEmitIsAFunction(t *testing.T) {
	m := mesh()
	before, err := canon.JSON(m)
	if err != nil {
		t.Fatal(err)
	}
	p := Profile{NetworkPolicies: true, AdmissionPolicies: true, Injection: &release.Injection{Image: "i", Server: "meshc.meshc-system.svc:18000"}}
	first, places, _, ds := Emit(m, Column{}, nil, p)
	if err := ds.Err(); err != nil || len(first) != len(places) {
		t.Fatal(err)
	}
	second, _, _, _ := Emit(m, Column{}, nil, p)
	for i, a := range first {
		if a.Path != second[i].Path || string(a.Bytes) != string(second[i].Bytes) {
			t.Errorf("%s differs", a.Path)
		}
		if places[i] == (diag.Pos{}) {
			t.Errorf("%s comes from nowhere", a.Path)
		}
		if i > 0 && first[i-1].Path >= a.Path {
			t.Errorf("%s stands behind %s", a.Path, first[i-1].Path)
		}
	}
	if after, _ := canon.JSON(m); string(after) != string(before) {
		t.Error("the mesh was changed")
	}
}

// A long list becomes several, none of them longer than CEL's parser takes, and no name is lost.
func TestLongListsAreCut(t *testing.T) {
	many := map[string][]string{"few": {"a", "a"}}
	for i := range 5000 {
		many["many"] = append(many["many"], fmt.Sprintf("account-%d-%s", i, strings.Repeat("x", 40)))
		many[fmt.Sprintf("namespace-%d", i)] = []string{"one"}
	}
	found := 0
	for _, text := range tables(many) {
		if len(text) > chunk+1000 {
			t.Errorf("a list of %d bytes", len(text))
		}
		if strings.Count(text, `"many": `) > 1 {
			t.Error("one map has a key twice")
		}
		found += strings.Count(text, "account-") + strings.Count(text, `"one"`) + strings.Count(text, `["a"]`)
	}
	if found != 10001 {
		t.Errorf("%d names, want 10001", found)
	}
	if none := tables(nil); len(none) != 1 || none[0] != "{}" {
		t.Errorf("of nothing: %v", none)
	}
}

// A feature of which nobody said what it needs is refused, not left out.
func TestUnknownFeatureIsRefused(t *testing.T) {
	for _, cells := range []Column{{}, {"lost": Cell{}}} {
		if arts, _, _, ds := Emit(mesh(lost{}), cells, nil, Profile{}); len(arts) > 0 || len(ds) != 1 || ds[0].Code != diag.CodeUnsupported {
			t.Errorf("%d artifacts, %v", len(arts), ds)
		}
	}
	if _, _, _, ds := Emit(mesh(lost{}), Column{"lost": Cell{Lowering: Nothing("proxies do it")}}, nil, Profile{}); ds.HasErrors() {
		t.Error(ds)
	}
}

// What a label cannot hold is shortened, and stays apart.
func TestLabelsHaveRoom(t *testing.T) {
	a, b := strings.Repeat("a", 80)+".x", strings.Repeat("a", 80)+".y"
	if labelValue("short") != "short" || len(labelValue(a)) > 63 || labelValue(a) == labelValue(b) {
		t.Errorf("%q, %q", labelValue(a), labelValue(b))
	}
}

// Paths are keys: kinds of other groups, and names that differ in case alone, have their own.
func TestPathsAreKeys(t *testing.T) {
	for _, c := range []struct{ group, kind, namespace, name, want string }{
		{"", "Service", "shop", "web", "shop/service-web.yaml"},
		{"serving.knative.dev", "Service", "shop", "web", "shop/service.serving.knative.dev-web.yaml"},
		{"rbac.authorization.k8s.io", "ClusterRole", "", "system:Reader", "cluster/clusterrole-system=3A=52eader.yaml"},
		{"rbac.authorization.k8s.io", "ClusterRole", "", "../x=", "cluster/clusterrole-..=2Fx=3D.yaml"},
	} {
		if got := pathOf(c.group, c.kind, c.namespace, c.name); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
