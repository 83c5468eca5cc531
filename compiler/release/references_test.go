package release_test

import (
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/canon"
)

func TestReferencesAreASortedSet(t *testing.T) {
	refs := release.References{}
	refs.Add(release.ClusterType, "b", "a", "", "b")
	refs.Add(release.ClusterType, "c", "a")
	if want := (release.References{release.ClusterType: {"a", "b", "c"}}); !reflect.DeepEqual(refs, want) {
		t.Errorf("%v, want %v", refs, want)
	}
}

// A release whose snapshot has a reference to what it lacks is refused when it is read,
// whoever wrote it.
func TestADanglingReferenceIsRefused(t *testing.T) {
	class := release.Class{Role: release.Sidecar, Namespace: "shop", Account: "web"}
	whole := func() release.Snapshot {
		return release.Snapshot{
			Class: class, TrustDomain: "d", Endpoints: []release.Endpoints{{Cluster: "c", File: "f"}},
			Resources: map[release.TypeURL][]release.Resource{
				release.ClusterType:  {{Name: "c", Digest: "1", Needs: release.References{release.EndpointType: {"c"}}}},
				release.ListenerType: {{Name: "l", Digest: "2", Needs: release.References{release.ClusterType: {"c"}, release.RouteType: {"r"}}}},
				release.RouteType:    {{Name: "r", Digest: "3", Needs: release.References{release.ClusterType: {"c"}}}},
			},
		}
	}
	read := func(s release.Snapshot) error {
		b, err := canon.JSON(s)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		if err := release.WriteDir(seal(t, map[string]string{release.SnapshotPath(class): string(b)}), dir); err != nil {
			t.Fatal(err)
		}
		_, err = release.ReadDir(os.DirFS(dir))
		return err
	}
	if err := read(whole()); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		spoil func(s *release.Snapshot)
		says  string
	}{
		"a cluster":      {func(s *release.Snapshot) { s.Resources[release.ClusterType][0].Name = "d" }, `names the Cluster "c"`},
		"the routes":     {func(s *release.Snapshot) { delete(s.Resources, release.RouteType) }, `the Listener "l" of sidecar/shop/web names the RouteConfiguration "r"`},
		"the endpoints":  {func(s *release.Snapshot) { s.Endpoints = nil }, `the Cluster "c" of sidecar/shop/web names the ClusterLoadAssignment "c"`},
		"a live cluster": {func(s *release.Snapshot) { s.Endpoints = append(s.Endpoints, release.Endpoints{Cluster: "d"}) }, `the list of live clusters of sidecar/shop/web names the Cluster "d"`},
		"a type that there is none of": {func(s *release.Snapshot) {
			s.Resources[release.RouteType][0].Needs = release.References{"type.googleapis.com/a.Secret": {"s"}}
		}, `names the Secret "s"`},
	} {
		s := whole()
		for _, rs := range s.Resources {
			for i := range rs {
				rs[i].Needs = maps.Clone(rs[i].Needs)
			}
		}
		c.spoil(&s)
		if err := read(s); err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "MESH0390") {
			t.Errorf("without %s: %v", name, err)
		}
		if len(s.Dangling()) == 0 || !slices.ContainsFunc(s.Dangling(), func(d release.Dangling) bool { return strings.Contains(d.String(), strings.Trim(c.says, `"`)) }) {
			t.Errorf("without %s: %v", name, s.Dangling())
		}
	}
}
