package proof

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/examples"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/envoybin"
)

func realEnvoy(t *testing.T) envoybin.Binary {
	t.Helper()
	b, err := envoybin.Find(t.Context(), envoybin.Options{Download: true})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func bookinfo(t *testing.T) release.Release {
	t.Helper()
	intent, err := fs.Sub(examples.FS, "bookinfo/intent")
	if err != nil {
		t.Fatal(err)
	}
	p, ds := compiler.Load(intent, compiler.Options{Environment: "local", At: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)})
	if err := ds.Err(); err != nil {
		t.Fatal(err)
	}
	r, ds := p.Release()
	if err := ds.Err(); err != nil {
		t.Fatal(err)
	}
	return r
}

// object is a JSON object.
type object = map[string]any

// tampered is r with one resource of class changed, sealed as if the compiler
// had made it: the new bytes come from the same line of the intent.
func tampered(t *testing.T, r release.Release, class release.Class, typ release.TypeURL, name string, edit func(object)) release.Release {
	t.Helper()
	snap, err := r.Snapshot(class)
	if err != nil {
		t.Fatal(err)
	}
	prov := maps.Clone(r.Provenance())
	var arts []release.Artifact
	found := false
	for i, x := range snap.Resources[typ] {
		if x.Name != name {
			continue
		}
		found = true
		old, err := r.Blob(x.Digest)
		if err != nil {
			t.Fatal(err)
		}
		var v object
		if err := json.Unmarshal(old, &v); err != nil {
			t.Fatal(err)
		}
		edit(v)
		b, err := canon.JSON(v)
		if err != nil {
			t.Fatal(err)
		}
		digest := canon.Digest(b)
		snap.Resources[typ][i].Digest = digest
		arts = append(arts, release.Artifact{Path: release.BlobPath(digest), Bytes: b})
		prov[release.BlobPath(digest)] = prov[release.BlobPath(x.Digest)]
	}
	if !found {
		t.Fatalf("%s has no %s %q: %v", class, typ, name, snap.Resources[typ])
	}
	b, err := canon.JSON(snap)
	if err != nil {
		t.Fatal(err)
	}
	arts = append(arts, release.Artifact{Path: release.SnapshotPath(class), Bytes: b})
	for _, p := range r.Paths() {
		if b, _ := r.Artifact(p); p != release.SnapshotPath(class) {
			arts = append(arts, release.Artifact{Path: p, Bytes: b})
		}
	}
	out, err := release.Seal(arts, r.Inputs(), prov)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func caller() release.Class {
	return release.Class{Role: release.Sidecar, Namespace: "bookinfo", Account: "productpage"}
}

func TestAGoodReleaseHasNoFindings(t *testing.T) {
	res, err := Release(t.Context(), realEnvoy(t), bookinfo(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range res.Findings {
		t.Error(d)
	}
	if res.Resources < 30 {
		t.Errorf("only %d resources were judged", res.Resources)
	}
}

func TestEveryResourceHasAnIntentLine(t *testing.T) {
	r := bookinfo(t)
	rs, err := compiler.Resources(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range rs {
		if pos := r.Provenance()[release.BlobPath(x.Digest)]; pos.File == "" || pos.Line == 0 {
			t.Errorf("%s %s comes from nowhere: %v", x.Type, x.Name, pos)
		}
	}
}

func TestWhatEnvoyHasAgainstAResourceStandsAtItsLine(t *testing.T) {
	bin := realEnvoy(t)
	const cluster, listener = "bookinfo/reviews/http/v2", "outbound/bookinfo/reviews/http"
	for _, c := range []struct {
		name, resource string
		typ            release.TypeURL
		edit           func(object)
		code           diag.Code
		text           string
	}{
		{"refused at construction", cluster, release.ClusterType, func(v object) {
			v["lb_policy"] = "RING_HASH"
			v["ring_hash_lb_config"] = object{"minimum_ring_size": 10, "maximum_ring_size": 5}
		}, diag.CodeEnvoyRejected, "minimum_ring_size (10) > maximum_ring_size (5)"},
		{"no such field", cluster, release.ClusterType, func(v object) { v["lb_polic"] = "RING_HASH" }, diag.CodeEnvoyRejected, "lb_polic"},
		{"deprecated", cluster, release.ClusterType, func(v object) {
			delete(v, "typed_extension_protocol_options")
			v["http2_protocol_options"] = object{}
		}, diag.CodeEnvoyDeprecated, "http2_protocol_options"},
		// This Envoy ends with a backtrace instead of an error.
		{"crash", listener, release.ListenerType, func(v object) {
			hcm := v["filter_chains"].([]any)[0].(object)["filters"].([]any)[0].(object)["typed_config"].(object)
			hcm["http_filters"] = append([]any{object{"name": "envoy.filters.http.tap", "typed_config": object{
				"@type":         "type.googleapis.com/envoy.extensions.filters.http.tap.v3.Tap",
				"common_config": object{"admin_config": object{"config_id": "x"}}}}}, hcm["http_filters"].([]any)...)
		}, diag.CodeEnvoyCrashed, "signal"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := tampered(t, bookinfo(t), caller(), c.typ, c.resource, c.edit)
			res, err := Release(t.Context(), bin, r, nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(res.Findings) != 1 {
				t.Fatalf("got %v", res.Findings)
			}
			d := res.Findings[0]
			if d.Code != c.code || !d.IsError() || !strings.Contains(d.Text, c.resource) || !strings.Contains(d.Text, c.text) || d.Fix == "" {
				t.Errorf("got %v", d)
			}
			if d.Pos.File != "bookinfo/reviews.cue" || d.Pos.Line == 0 {
				t.Errorf("it stands at %v", d.Pos)
			}
		})
	}
}

// counting is an Envoy that notes each of its runs.
func counting(t *testing.T, bin envoybin.Binary) (envoybin.Binary, func() int) {
	t.Helper()
	dir := t.TempDir()
	script, runs := filepath.Join(dir, "envoy"), filepath.Join(dir, "runs")
	if err := os.WriteFile(script, fmt.Appendf(nil, "#!/bin/sh\necho >>'%s'\nexec '%s' \"$@\"\n", runs, bin.Path), 0o700); err != nil {
		t.Fatal(err)
	}
	bin.Path = script
	return bin, func() int {
		b, err := os.ReadFile(runs)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return strings.Count(string(b), "\n")
	}
}

func TestWhatIsProvedNeedsNoEnvoyAgain(t *testing.T) {
	bin, runs := counting(t, realEnvoy(t))
	cache := compiler.DirCache(t.TempDir())
	good := bookinfo(t)
	prove := func(r release.Release) int {
		t.Helper()
		before := runs()
		if _, err := Release(t.Context(), bin, r, cache); err != nil {
			t.Fatal(err)
		}
		return runs() - before
	}
	if n := prove(good); n == 0 {
		t.Error("the first proof needs an Envoy")
	}
	if n := prove(good); n != 0 {
		t.Errorf("the second proof ran Envoy %d times", n)
	}
	edited := tampered(t, good, caller(), release.ClusterType, "bookinfo/reviews/http/v2", func(v object) { v["connect_timeout"] = "7s" })
	if n := prove(edited); n == 0 {
		t.Error("a changed resource was taken as proved")
	}
	bad := tampered(t, good, caller(), release.ClusterType, "bookinfo/reviews/http/v2", func(v object) { v["no_such_field"] = 1 })
	for range 2 {
		if n := prove(bad); n == 0 {
			t.Error("a refused resource was taken as proved")
		}
	}
}

func TestAnEnvoyThatRefusesEverythingIsNotTheIntentsFault(t *testing.T) {
	script := filepath.Join(t.TempDir(), "envoy")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho '[critical] no such extension' >&2\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := Release(t.Context(), envoybin.Binary{Path: script, Build: "other"}, bookinfo(t), nil)
	if err == nil || !strings.Contains(err.Error(), string(diag.CodeProofFrame)) {
		t.Errorf("got %v", err)
	}
}
