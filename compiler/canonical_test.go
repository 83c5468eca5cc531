package compiler_test

import (
	"bytes"
	"testing"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/canon"
)

// Routes are put together from parts, and so is the mesh: the bytes are those of
// encoding the whole.
func TestWhatIsPutTogetherIsCanonical(t *testing.T) {
	routes := 0
	for _, repo := range repositories(t) {
		p, ds := compiler.Load(repo.files, compiler.Options{Environment: repo.env, At: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)})
		if err := ds.Err(); err != nil {
			t.Fatalf("%s: %v", repo.name, err)
		}
		r, ds := p.Release()
		if err := ds.Err(); err != nil {
			t.Fatalf("%s: %v", repo.name, err)
		}
		if b, err := canon.Reformat(p.MeshJSON()); err != nil || !bytes.Equal(b, p.MeshJSON()) {
			t.Errorf("%s: mesh.json is not canonical: %v", repo.name, err)
		}
		for _, class := range r.Classes() {
			s, err := r.Snapshot(class)
			if err != nil {
				t.Fatal(err)
			}
			for _, res := range s.Resources[release.RouteType] {
				routes++
				checkRoute(t, r, res)
			}
		}
	}
	if routes < 100 {
		t.Errorf("only %d route configurations were looked at", routes)
	}
}

func checkRoute(t *testing.T, r release.Release, res release.Resource) {
	t.Helper()
	b, err := r.Blob(res.Digest)
	if err != nil {
		t.Fatal(err)
	}
	var m routev3.RouteConfiguration
	if err := protojson.Unmarshal(b, &m); err != nil {
		t.Fatalf("%s: %v", res.Name, err)
	}
	if whole, err := canon.Proto(&m); err != nil || !bytes.Equal(whole, b) {
		t.Errorf("%s: %v; put together\n%s, as a whole\n%s", res.Name, err, b, whole)
	}
}
