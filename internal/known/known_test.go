package known_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/guard"
	"meshc.dev/meshc/internal/known"
)

// The example's release says of a cluster what its intent says.
func TestWhatTheExampleSays(t *testing.T) {
	r, err := release.ReadDir(os.DirFS("../../examples/bookinfo/release-kubernetes"))
	if err != nil {
		t.Fatal(err)
	}
	k, err := known.Of(r)
	if err != nil {
		t.Fatal(err)
	}
	for what, diff := range map[string]string{
		"namespaces": cmp.Diff([]string{"bookinfo", "edge", "reports"}, k.Namespaces),
		"injected":   cmp.Diff([]string{"bookinfo", "reports"}, k.Injected), // the gateway's pods are proxies
		"accounts": cmp.Diff([]string{
			"bookinfo/details", "bookinfo/productpage", "bookinfo/ratings", "bookinfo/reviews-v1", "bookinfo/reviews-v2", "bookinfo/reviews-v3", "reports/report",
		}, k.Accounts),
		"hosts":    cmp.Diff(map[string][]string{"bookinfo.example": {"edge"}}, k.Hosts),
		"gateways": cmp.Diff(map[string]map[string]guard.Gateway{"edge": {"edge": {Account: "edge"}}}, k.Gateways),
		"a service": cmp.Diff(guard.Service{
			Selector: map[string]string{"app": "reviews"}, Accounts: []string{"reviews-v1", "reviews-v2", "reviews-v3"},
			Versions: map[string]guard.Version{
				"v1": {Labels: map[string]string{"version": "v1"}, Account: "reviews-v1"}, "v2": {Labels: map[string]string{"version": "v2"}, Account: "reviews-v2"},
				"v3": {Labels: map[string]string{"version": "v3"}, Account: "reviews-v3"},
			},
		}, k.Services["bookinfo"]["reviews"]),
	} {
		if diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
	for _, o := range []string{"/Service/reviews", "/Namespace/bookinfo", "networking.k8s.io/NetworkPolicy/reviews"} {
		if !slices.Contains(k.Objects["bookinfo"], o) {
			t.Errorf("%q is not among the objects %v", o, k.Objects["bookinfo"])
		}
	}
	if in, _, err := r.Injection(); err != nil || k.Image != in.Image {
		t.Errorf("the image is %q, %v", k.Image, err)
	}
}

// Nothing of it comes from what Envoy gets, which whoever asks about a change leaves out.
func TestNothingComesFromWhatEnvoyGets(t *testing.T) {
	whole, err := release.ReadDir(os.DirFS("../../examples/bookinfo/release-kubernetes"))
	if err != nil {
		t.Fatal(err)
	}
	var rest []release.Artifact
	for _, p := range whole.Paths() {
		if b, _ := whole.Artifact(p); !strings.HasPrefix(p, "envoy/") {
			rest = append(rest, release.Artifact{Path: p, Bytes: b})
		}
	}
	part, err := release.Seal(rest, whole.Inputs(), nil)
	if err != nil {
		t.Fatal(err)
	}
	want, err := known.Of(whole)
	if err != nil {
		t.Fatal(err)
	}
	got, err := known.Of(part)
	if err != nil || len(part.Classes()) > 0 || len(whole.Classes()) == 0 {
		t.Fatal(err, part.Classes())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A service whose workloads are elsewhere has no pods, and a cluster without injection
// no namespace that wants sidecars.
func TestWorkloadsElsewhere(t *testing.T) {
	r, err := release.Seal([]release.Artifact{
		{Path: release.MeshPath, Bytes: []byte(`{"services":[
			{"namespace":"shop","name":"host","versions":[{"account":"a","ports":{"http":{"host":"10.0.0.1"}}}]},
			{"namespace":"shop","name":"dns","versions":[{"account":"a","endpoints":{"dns":"a:1"}}]},
			{"namespace":"shop","name":"pods","selector":{"x":"y"},"versions":[{"name":"v1","account":"b","labels":{"v":"1"}},{"name":"v2","account":"b","ports":{"http":{"app":8080}}}]}]}`)},
		{Path: "targets/gateway-api/shop/httproute-web.yaml", Bytes: []byte("apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: web, namespace: shop}\n")},
	}, release.Inputs{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	k, err := known.Of(r)
	if err != nil {
		t.Fatal(err)
	}
	none := guard.Service{Accounts: []string{}, Versions: map[string]guard.Version{}}
	if diff := cmp.Diff(map[string]map[string]guard.Service{"shop": {
		"host": none, "dns": none, "pods": {
			Selector: map[string]string{"x": "y"}, Accounts: []string{"b"}, Versions: map[string]guard.Version{"v1": {Labels: map[string]string{"v": "1"}, Account: "b"}, "v2": {Account: "b"}},
		},
	}}, k.Services); diff != "" {
		t.Error(diff)
	}
	if len(k.Injected) > 0 || !slices.Equal(k.Objects["shop"], []string{"gateway.networking.k8s.io/HTTPRoute/web"}) {
		t.Errorf("%+v", k)
	}
}

func TestAMeshThatIsNone(t *testing.T) {
	r, err := release.Seal([]release.Artifact{{Path: release.MeshPath, Bytes: []byte("[")}}, release.Inputs{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := known.Of(r); err == nil {
		t.Error("it is taken")
	}
}
