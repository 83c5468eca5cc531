package release_test

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/canon"
)

func artifacts(files map[string]string) []release.Artifact {
	var out []release.Artifact
	for p, text := range files {
		out = append(out, release.Artifact{Path: p, Bytes: []byte(text)})
	}
	return out
}

func seal(t testing.TB, files map[string]string) release.Release {
	t.Helper()
	r, err := release.Seal(artifacts(files), release.Inputs{Environment: "prod"}, release.Provenance{"a": {File: "a.cue", Line: 3, Col: 2}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The name follows from paths and bytes alone: any other set has another name.
func TestDigestNamesTheContent(t *testing.T) {
	file := rapid.Custom(func(t *rapid.T) release.Artifact {
		return release.Artifact{
			Path:  rapid.StringMatching(`[ab]{1,2}(/[ab])?`).Draw(t, "path"),
			Bytes: []byte(rapid.StringMatching(`[xy]{0,2}`).Draw(t, "bytes")),
		}
	})
	set := rapid.SliceOfNDistinct(file, 0, 4, func(a release.Artifact) string { return a.Path })
	key := func(as []release.Artifact) string {
		as = slices.Clone(as)
		slices.SortFunc(as, func(a, b release.Artifact) int { return strings.Compare(a.Path, b.Path) })
		var b strings.Builder
		for _, a := range as {
			b.WriteString(a.Path + "=" + string(a.Bytes) + ";")
		}
		return b.String()
	}
	rapid.Check(t, func(t *rapid.T) {
		one, two := set.Draw(t, "one"), set.Draw(t, "two")
		r, err := release.Seal(one, release.Inputs{Environment: "x"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		s, err := release.Seal(append(two, two...), release.Inputs{}, release.Provenance{"a": {File: "a.cue"}})
		if err != nil {
			t.Fatal(err)
		}
		if (key(one) == key(two)) != (r.Digest() == s.Digest()) {
			t.Fatalf("%s has %s, %s has %s", key(one), r.Digest(), key(two), s.Digest())
		}
	})
}

func TestSealRefuses(t *testing.T) {
	for _, p := range []string{"", ".", "..", "../a", "/a", "a/", "a//b", "./a", "a/../b", "a\\b", "a b", "a\nb", "a\x00", "ä", "c:d",
		"manifest.json", "provenance.json"} {
		if _, err := release.Seal([]release.Artifact{{Path: p}}, release.Inputs{}, nil); err == nil {
			t.Errorf("path %q is taken", p)
		}
	}
	two := []release.Artifact{{Path: "a", Bytes: []byte("1")}, {Path: "a", Bytes: []byte("2")}}
	if _, err := release.Seal(two, release.Inputs{}, nil); err == nil {
		t.Error("two artifacts at one path are taken")
	}
}

func TestWrittenAndReadAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "release")
	want := seal(t, map[string]string{"mesh.json": "{}", "envoy/blobs/1": "x"})
	for range 2 { // the second time over the first
		if err := release.WriteDir(want, dir); err != nil {
			t.Fatal(err)
		}
		got, err := release.ReadDir(os.DirFS(dir))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want.Manifest(), got.Manifest()); d != "" {
			t.Error(d)
		}
		if d := cmp.Diff(want.Provenance(), got.Provenance()); d != "" {
			t.Error(d)
		}
	}
	if left := names(t, filepath.Dir(dir)); !slices.Equal(left, []string{"release"}) {
		t.Errorf("left beside the release: %v", left)
	}
	if err := release.WriteDir(seal(t, map[string]string{"other": "y"}), dir); err != nil {
		t.Fatal(err)
	}
	if got := names(t, dir); !slices.Equal(got, []string{"manifest.json", "other", "provenance.json"}) {
		t.Errorf("an old file stays: %v", got)
	}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	es, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range es {
		out = append(out, e.Name())
	}
	return out
}

// What is not a release is not overwritten, and what cannot be written changes nothing.
func TestWriteDirSparesWhatIsThere(t *testing.T) {
	base := t.TempDir()
	r := seal(t, map[string]string{"a": "1"})
	home := filepath.Join(base, "home")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, "thesis.tex"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := release.WriteDir(r, home); err == nil || !strings.Contains(err.Error(), "name another folder") {
		t.Errorf("got %v", err)
	}
	file := filepath.Join(base, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "below")} {
		if err := release.WriteDir(r, dir); err == nil {
			t.Errorf("%s: written", dir)
		}
	}
	if got := names(t, base); !slices.Equal(got, []string{"file", "home"}) || !slices.Equal(names(t, home), []string{"thesis.tex"}) {
		t.Errorf("left: %v", got)
	}
}

// written is a release on disk as a file system that a test may spoil.
func written(t *testing.T) fstest.MapFS {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "r")
	if err := release.WriteDir(seal(t, map[string]string{"mesh.json": "{}", "envoy/blobs/1": "xyz"}), dir); err != nil {
		t.Fatal(err)
	}
	out := fstest.MapFS{}
	if err := fs.WalkDir(os.DirFS(dir), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(filepath.Join(dir, p))
		out[p] = &fstest.MapFile{Data: b, Mode: 0o644}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// Every single flipped bit of an artifact is noticed, and named.
func TestFlippedBits(t *testing.T) {
	whole := written(t)
	for p, f := range whole {
		if p == "manifest.json" || p == "provenance.json" {
			continue
		}
		for i := range len(f.Data) * 8 {
			spoilt := maps.Clone(whole)
			data := bytes.Clone(f.Data)
			data[i/8] ^= 1 << (i % 8)
			spoilt[p] = &fstest.MapFile{Data: data, Mode: 0o644}
			if _, err := release.ReadDir(spoilt); !errors.Is(err, release.ErrTampered) || !strings.Contains(err.Error(), p) {
				t.Fatalf("bit %d of %s: %v", i, p, err)
			}
		}
	}
}

// No byte of the manifest can be changed so that the same name has other content.
func TestSpoiltManifest(t *testing.T) {
	whole := written(t)
	digest := mustRead(t, whole).Digest()
	raw := whole["manifest.json"].Data
	for i := range raw {
		for _, x := range []byte{1, 0x20, 0x80} {
			spoilt := maps.Clone(whole)
			data := bytes.Clone(raw)
			data[i] ^= x
			spoilt["manifest.json"] = &fstest.MapFile{Data: data, Mode: 0o644}
			got, err := release.ReadDir(spoilt)
			if err == nil && got.Digest() != digest {
				t.Fatalf("byte %d: the same files are read as %s", i, got.Digest())
			}
		}
	}
}

func mustRead(t *testing.T, fsys fs.FS) release.Release {
	t.Helper()
	r, err := release.ReadDir(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestReadDirRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(fstest.MapFS)
		want  string
	}{
		"missing file":      {func(f fstest.MapFS) { delete(f, "mesh.json") }, `"mesh.json" is missing`},
		"extra file":        {func(f fstest.MapFS) { f["more"] = &fstest.MapFile{} }, `"more" is not in the manifest`},
		"link":              {func(f fstest.MapFS) { f["mesh.json"] = &fstest.MapFile{Mode: fs.ModeSymlink} }, "not a regular file"},
		"no manifest":       {func(f fstest.MapFS) { delete(f, "manifest.json") }, "manifest.json"},
		"empty manifest":    {func(f fstest.MapFS) { f["manifest.json"] = &fstest.MapFile{} }, "manifest.json"},
		"other format":      {func(f fstest.MapFS) { edit(f, "manifest.json", "release/v2", "release/v9") }, `format "meshc.dev/release/v9"`},
		"other name":        {func(f fstest.MapFS) { edit(f, "manifest.json", `"digest": "`, `"digest": "0`) }, "manifest says 0"},
		"broken provenance": {func(f fstest.MapFS) { f["provenance.json"] = &fstest.MapFile{Data: []byte("[")} }, "provenance.json"},
		"path to elsewhere": {func(f fstest.MapFS) { edit(f, "manifest.json", `"mesh.json"`, `"../mesh.json"`) }, "not clean and relative"},
	} {
		t.Run(name, func(t *testing.T) {
			f := written(t)
			c.spoil(f)
			if _, err := release.ReadDir(f); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("want %q, got %v", c.want, err)
			}
		})
	}
	f := written(t)
	delete(f, "provenance.json") // beside the release, no part of it
	mustRead(t, f)
}

func edit(f fstest.MapFS, name, from, to string) {
	f[name] = &fstest.MapFile{Data: bytes.Replace(f[name].Data, []byte(from), []byte(to), 1), Mode: 0o644}
}

// classRelease has snapshots: class → type → resource → content.
func classRelease(t *testing.T, snaps map[string]map[release.TypeURL]map[string]string) release.Release {
	t.Helper()
	files := map[string]string{}
	for name, types := range snaps {
		c, err := release.ParseClass(name)
		if err != nil {
			t.Fatal(err)
		}
		s := release.Snapshot{Class: c, TrustDomain: "mesh.local", Resources: map[release.TypeURL][]release.Resource{}}
		for typ, rs := range types {
			for _, n := range slices.Sorted(maps.Keys(rs)) {
				d := canon.Digest([]byte(rs[n]))
				files[release.BlobPath(d)] = rs[n]
				s.Resources[typ] = append(s.Resources[typ], release.Resource{Name: n, Digest: d})
			}
		}
		b, err := canon.JSON(s)
		if err != nil {
			t.Fatal(err)
		}
		files[release.SnapshotPath(c)] = string(b)
	}
	return seal(t, files)
}

func TestDiffResources(t *testing.T) {
	type types = map[release.TypeURL]map[string]string
	before := classRelease(t, map[string]types{
		"sidecar/a/one": {release.RouteType: {"r": "old"}, release.ClusterType: {"same": "s"}},
		"sidecar/a/two": {release.RouteType: {"r": "old"}, release.ClusterType: {"same": "s", "gone": "g"}},
		"sidecar/a/off": {release.ListenerType: {"l": "l"}},
	})
	after := classRelease(t, map[string]types{
		"sidecar/a/one": {release.RouteType: {"r": "new"}, release.ClusterType: {"same": "s"}},
		"sidecar/a/two": {release.RouteType: {"r": "new"}, release.ClusterType: {"same": "s", "fresh": "f"}},
	})
	got, err := release.DiffResources(before, after)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, c := range got {
		line := c.Kind() + " " + c.Name
		for _, class := range c.Classes {
			line += " " + class.String()
		}
		lines = append(lines, line)
	}
	want := []string{"added fresh sidecar/a/two", "removed gone sidecar/a/two", "removed l sidecar/a/off", "changed r sidecar/a/one sidecar/a/two"}
	if d := cmp.Diff(want, lines); d != "" {
		t.Error(d)
	}
	if same, err := release.DiffResources(before, before); err != nil || len(same) > 0 {
		t.Errorf("%v, %v", same, err)
	}
	var none release.Release
	if all, err := release.DiffResources(none, after); err != nil || len(all) != 3 {
		t.Errorf("from nothing: %v, %v", all, err)
	}
}

func TestClassesReadBack(t *testing.T) {
	for _, s := range []string{"", "sidecar", "sidecar/a", "sidecar/a/b/c", "sidecar//b", "sidecar/a/", "node/a/b", "/a/b"} {
		if c, err := release.ParseClass(s); err == nil {
			t.Errorf("%q is %v", s, c)
		}
	}
	c := release.Class{Role: release.Gateway, Namespace: "edge", Account: "web"}
	if back, err := release.ParseClass(c.String()); err != nil || back != c {
		t.Errorf("%v, %v", back, err)
	}
	if id := c.SPIFFEID("mesh.local"); id != "spiffe://mesh.local/ns/edge/sa/web" {
		t.Error(id)
	}
	r := classRelease(t, map[string]map[release.TypeURL]map[string]string{"gateway/edge/web": {}})
	if got := r.Classes(); !slices.Equal(got, []release.Class{c}) {
		t.Errorf("%v", got)
	}
	if _, err := r.Snapshot(release.Class{Role: release.Sidecar}); err == nil {
		t.Error("a snapshot of a class that is not there")
	}
	if _, err := r.Blob("00"); err == nil {
		t.Error("a resource that is not there")
	}
}
