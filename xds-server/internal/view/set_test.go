package view_test

import (
	"fmt"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/xds-server/internal/view"
)

var web = release.Class{Role: release.Sidecar, Namespace: "shop", Account: "web"}

func sealed(t *testing.T, clusters, routes, file string) release.Release {
	t.Helper()
	snap := release.Snapshot{Class: web, TrustDomain: "shop.example", Resources: map[release.TypeURL][]release.Resource{
		release.ClusterType: {{Name: "a", Digest: canon.Digest([]byte(clusters))}},
		release.RouteType:   {{Name: "r", Digest: canon.Digest([]byte(routes))}},
	}}
	if file != "" {
		snap.Endpoints = []release.Endpoints{{Cluster: "a", File: file}}
	}
	raw, err := canon.JSON(snap)
	if err != nil {
		t.Fatal(err)
	}
	r, err := release.Seal([]release.Artifact{{Path: release.SnapshotPath(web), Bytes: raw}}, release.Inputs{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestBuildTakesWhatIsKnown: a set is the same whatever was known, and lists that did
// not change are those of the earlier set.
func TestBuildTakesWhatIsKnown(t *testing.T) {
	build := func(r release.Release, known view.Set) view.Set {
		t.Helper()
		s, err := view.Build(r, web, known)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	type content struct {
		items   [view.Types][]view.Item
		live    []release.Endpoints
		content string
	}
	plain := func(s view.Set) content {
		c := content{live: s.Live, content: s.Content}
		for i, l := range s.Lists {
			for it := range l.All() {
				c.items[i] = append(c.items[i], *it)
			}
		}
		return c
	}
	first := build(sealed(t, "1", "1", "x"), view.Set{})
	seen := map[string]bool{first.Content: true}
	for _, c := range []struct {
		clusters, routes, file string
		same                   [view.Types]bool
	}{
		{"1", "2", "x", [view.Types]bool{true, true, true, false}},
		{"2", "1", "x", [view.Types]bool{false, true, true, true}},
		{"1", "1", "y", [view.Types]bool{true, true, true, true}},
		{"1", "1", "", [view.Types]bool{true, true, true, true}},
	} {
		r := sealed(t, c.clusters, c.routes, c.file)
		anew, got := build(r, view.Set{}), build(r, first)
		if !reflect.DeepEqual(plain(got), plain(anew)) {
			t.Errorf("%+v: %+v, read anew %+v", c, plain(got), plain(anew))
		}
		for i := range got.Lists {
			if same := got.Lists[i] == first.Lists[i]; same != c.same[i] {
				t.Errorf("%+v: list of %s is the earlier one: %v", c, view.Type(i), same)
			}
		}
		if seen[got.Content] {
			t.Errorf("%+v: an earlier content", c)
		}
		seen[got.Content] = true
	}
}

// TestCheckTakesWhatIsKnown: whatever changes between two sets of which the first was
// whole, the second is found lacking exactly if it is.
func TestCheckTakesWhatIsKnown(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pool := map[string]*view.Item{}
		draw := func() view.Set {
			s := view.Set{Class: web}
			some := func(label string) []string {
				return rapid.SliceOfDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), func(n string) string { return n }).Draw(t, label)
			}
			list := func(kind string, needs func() view.Needs) *view.List {
				var items []*view.Item
				for _, n := range some(kind) {
					it := &view.Item{Name: n, Needs: needs()}
					key := fmt.Sprint(kind, *it)
					if pool[key] == nil {
						pool[key] = it
					}
					items = append(items, pool[key])
				}
				return view.NewList(items)
			}
			s.Lists[view.Clusters] = list("clusters", func() view.Needs { return view.Needs{view.Endpoints: some("addresses of")} })
			s.Lists[view.Routes] = list("routes", func() view.Needs { return view.Needs{view.Clusters: some("route to")} })
			s.Lists[view.Listeners] = list("listeners", func() view.Needs { return view.Needs{view.Clusters: some("proxy to"), view.Routes: some("route by")} })
			for _, n := range some("live") {
				s.Live = append(s.Live, release.Endpoints{Cluster: n, File: "f"})
			}
			return s
		}
		known, now := draw(), draw()
		if known.Check(view.Set{}) != nil {
			known = view.Set{}
		}
		for i := range now.Lists { // more of the same than chance gives
			if known.Lists[i] != nil && rapid.Bool().Draw(t, "stays") {
				now.Lists[i] = known.Lists[i]
			}
		}
		if known.Live != nil && rapid.Bool().Draw(t, "stays") {
			now.Live = known.Live
		}
		if got, want := now.Check(known), now.Check(view.Set{}); (got == nil) != (want == nil) {
			t.Fatalf("knowing %+v: %v, else %v", known, got, want)
		}
	})
}
