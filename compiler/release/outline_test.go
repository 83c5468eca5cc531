package release_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"meshc.dev/meshc/compiler/release"
)

// FuzzOutline: whatever a snapshot's text is, its outline is what decoding it as a whole
// gives, or has a list that is no JSON, which whoever reads it finds.
func FuzzOutline(f *testing.F) {
	web := release.Class{Role: release.Sidecar, Namespace: "shop", Account: "web"}
	paths, err := filepath.Glob("../../examples/*/release/envoy/sidecar/*/*.json")
	if err != nil || len(paths) == 0 {
		f.Fatalf("the examples have no snapshots: %v", err)
	}
	for _, p := range paths {
		raw, err := os.ReadFile(p)
		if err != nil {
			f.Fatal(err)
		}
		var whole release.Outline
		if got, err := seal(f, map[string]string{release.SnapshotPath(web): string(raw)}).Outline(web); err != nil || json.Unmarshal(raw, &whole) != nil || !reflect.DeepEqual(got, whole) {
			f.Fatalf("%s: %v, %v", p, got, err)
		}
		f.Add(string(raw))
		f.Add(string(raw[:len(raw)-20]))
	}
	const begin, list = "{\n  \"class\": {},\n  ", "[\n    {\n      \"cluster\": \"c\"\n    }\n  ]"
	for _, text := range []string{
		"", "{}", "{\n  \"resources\": {\n    \"t\": []\n  }\n}\n",
		begin + "\"endpoints\": " + list + "\n}",
		begin + "\"endpoints\": " + list + ",\n  \"endpoints\": " + list + "\n}",
		begin + "\"endpoints\": " + list + ",\n  \"endpoints\": []\n}",
		begin + "\"endpoint\": " + list + "\n}",
		begin + "\"resources\": {\n    \"t\": {\n      \"endpoints\": [\n        1\n      ]\n    }\n  }\n}",
		begin + "\"endpoints\": [\n  [\n  ]\n  ]\n}",
		begin + "\"endpoints\": [\n  {\n  ]\n}",
		begin + "\"endpoints\": [\n  ]",
		begin + "\"trust_domain\": [\n  ]\n}",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var want release.Outline
		wantErr := json.Unmarshal([]byte(text), &want)
		got, err := seal(t, map[string]string{release.SnapshotPath(web): text}).Outline(web)
		for _, l := range append(slices.Collect(maps.Values(got.Resources)), got.Endpoints) {
			if len(l) > 0 && !json.Valid(l) {
				return // whoever reads it refuses the snapshot
			}
		}
		if (err == nil) != (wantErr == nil) || err == nil && !reflect.DeepEqual(got, want) {
			t.Fatalf("%s:\n%v, %v\nas a whole: %v, %v", text, got, err, want, wantErr)
		}
	})
}
