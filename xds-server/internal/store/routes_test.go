package store_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
	"pgregory.net/rapid"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/xds-server/internal/store"
	"meshc.dev/meshc/xds-server/internal/view"
)

// TestTablesAreEncodedAsAWhole: what a store knows of a route table's virtual hosts
// never shows, whichever of them came before.
func TestTablesAreEncodedAsAWhole(t *testing.T) {
	s := store.New()
	for _, raw := range goldenTables(t) {
		sameAsWhole(t, s, raw)
		sameAsWhole(t, s, bytes.Replace(raw, []byte(`"name": "`), []byte(`"name": "x`), 1)) // the same virtual hosts, but perhaps for one
	}
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom([]string{"a", "b", "é\n    }"})
		clusters := rapid.SampledFrom([]string{"c", "d", ""})
		mirrors := func() (out []*routev3.RouteAction_RequestMirrorPolicy) {
			for range rapid.IntRange(0, 1).Draw(t, "mirrors") {
				out = append(out, &routev3.RouteAction_RequestMirrorPolicy{Cluster: clusters.Draw(t, "mirror")})
			}
			return out
		}
		rc := &routev3.RouteConfiguration{Name: name.Draw(t, "table"), RequestMirrorPolicies: mirrors(), InternalOnlyHeaders: rapid.SliceOfN(name, 0, 2).Draw(t, "headers")}
		if rapid.Bool().Draw(t, "vhds") {
			rc.Vhds = &routev3.Vhds{ConfigSource: &corev3.ConfigSource{}}
			rc.ValidateClusters = wrapperspb.Bool(false)
		}
		for range rapid.IntRange(0, 3).Draw(t, "hosts") {
			vh := &routev3.VirtualHost{Name: rapid.SampledFrom([]string{"", "x", "virtual_hosts"}).Draw(t, "host"), RequestMirrorPolicies: mirrors()}
			for range rapid.IntRange(0, 2).Draw(t, "routes") {
				a := &routev3.RouteAction{RequestMirrorPolicies: mirrors(), ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: clusters.Draw(t, "cluster")}}
				if rapid.Bool().Draw(t, "weighted") {
					a.ClusterSpecifier = &routev3.RouteAction_WeightedClusters{WeightedClusters: &routev3.WeightedCluster{Clusters: []*routev3.WeightedCluster_ClusterWeight{
						{Name: clusters.Draw(t, "first")}, {Name: clusters.Draw(t, "second"), Weight: wrapperspb.UInt32(1)},
					}}}
				}
				vh.Routes = append(vh.Routes, &routev3.Route{Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: name.Draw(t, "prefix")}}, Action: &routev3.Route_Route{Route: a}})
			}
			rc.VirtualHosts = append(rc.VirtualHosts, vh)
		}
		raw, err := canon.Proto(rc)
		if err != nil {
			t.Fatal(err)
		}
		sameAsWhole(t, s, raw)
	})
}

// FuzzTable: whatever text a table is, it is what decoding it as a whole makes of it, or
// refused as that refuses it.
func FuzzTable(f *testing.F) {
	for _, raw := range goldenTables(f) {
		f.Add(raw)
	}
	const host = "    {\n      \"name\": \"h\"\n    }"
	for _, raw := range []string{
		"", "{}", "{\n  \"virtual_hosts\": [\n  ]\n}", "{\n  \"virtual_hosts\": [\n" + host + "\n  ]\n}",
		"{\n  \"name\": \"t\",\n  \"virtual_hosts\": [\n" + host + ",\n" + host + "\n  ]\n}",
		"{\n  \"name\": \"t\",\n  \"virtual_hosts\": [\n" + host + ",\n    {}\n  ]\n}",
		"{\n  \"name\": \"t\",\n  \"virtual_hosts\": [\n" + host + ",\n  ]\n}",
		"{\n  \"name\": \"t\",\n  \"virtual_hosts\": [\n    {\n      \"nom\": \"h\"\n    }\n  ]\n}",
		"{\n  \"name\": \"t\",\n  \"virtual_hosts\": [\n" + host + "\n  ],\n  \"virtualHosts\": []\n}",
		"{\n  \"name\": \"t\",\n  \"virtual_hosts\": [\n" + host + "\n  ],\n  \"virtual_hosts\": [\n" + host + "\n  ]\n}",
		// Virtual hosts where there are none, in a form that is not canonical.
		"{ \"name\": \"t\", \"typed_per_filter_config\": {\"x\": {\"@type\": \"type.googleapis.com/envoy.config.route.v3.RouteConfiguration\",\n  \"virtual_hosts\": [\n" + host + "\n  ]\n}}}",
		"{\n  \"name\": \"t\",\n  \"virtual_hosts\": [\n    {\n      \"routes\": [\n    {\n    }\n      ]\n    }\n  ]\n}",
	} {
		f.Add([]byte(raw))
	}
	s := store.New()
	f.Fuzz(func(t *testing.T, raw []byte) { sameAsWhole(t, s, raw) })
}

// goldenTables are the route tables of the examples' releases.
func goldenTables(t testing.TB) (tables [][]byte) {
	t.Helper()
	paths, err := filepath.Glob("../../../examples/*/release*/envoy/blobs/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range paths {
		raw, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(raw, []byte(`"virtual_hosts"`)) {
			tables = append(tables, raw)
		}
	}
	if len(tables) == 0 {
		t.Fatal("the examples have no route tables")
	}
	return tables
}

// checker is a test, or a round of one.
type checker interface {
	Helper()
	Context() context.Context
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// sameAsWhole compares how the store encodes a table, of which it may know parts, with
// how the generated code does, and with what it makes of another text of the same
// table, which no store takes apart.
func sameAsWhole(t checker, s *store.Store, raw []byte) {
	t.Helper()
	var want routev3.RouteConfiguration
	wantErr := protojson.Unmarshal(raw, &want)
	got, err := encoded(t, s, want.GetName(), raw)
	if (err == nil) != (wantErr == nil && want.GetName() != "") {
		t.Fatalf("%s: %v, as a whole: %v", raw, err, wantErr)
	}
	if err != nil {
		return
	}
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(&want)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, value) {
		t.Fatalf("%s:\n got %x\nwant %x", raw, got, value)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, raw); err != nil {
		t.Fatal(err)
	}
	if whole, err := encoded(t, store.New(), want.GetName(), compact.Bytes()); err != nil || !bytes.Equal(got, whole) {
		t.Fatalf("%s: %x, as a whole: %x, %v", raw, got, whole, err)
	}
}

// encoded is what the store makes of a table that is called name, or of one that it is
// not if name is "".
func encoded(t checker, s *store.Store, name string, raw []byte) ([]byte, error) {
	t.Helper()
	if name == "" {
		name = "another"
	}
	class := release.Class{Role: release.Sidecar, Namespace: "shop", Account: "web"}
	d := canon.Digest(raw)
	snap, err := canon.JSON(release.Snapshot{Class: class, TrustDomain: "d", Resources: map[release.TypeURL][]release.Resource{release.RouteType: {{Name: name, Digest: d}}}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := release.Seal([]release.Artifact{{Path: release.BlobPath(d), Bytes: raw}, {Path: release.SnapshotPath(class), Bytes: snap}}, release.Inputs{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	set, err := view.Build(r, class, view.Set{})
	if err != nil {
		t.Fatal(err)
	}
	if set, err = s.Encode(t.Context(), r, set); err != nil {
		return nil, err
	}
	it, ok := set.Lists[view.Routes].Find(name)
	if !ok {
		t.Fatal(fmt.Sprintf("table %q is not in the list", name))
	}
	var boxed discoveryv3.Resource
	if err := proto.Unmarshal(it.Body, &boxed); err != nil {
		t.Fatal(err)
	}
	return boxed.GetResource().GetValue(), nil
}
