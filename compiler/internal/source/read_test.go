package source

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"meshc.dev/meshc/internal/diag"
)

func file(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }

func codes(l diag.List) string {
	var out []string
	for _, d := range l.Sorted() {
		out = append(out, string(d.Severity)+" "+string(d.Code)+" "+d.Pos.File)
	}
	return strings.Join(out, "\n")
}

func TestRead(t *testing.T) {
	const ok = "package a\n"
	cases := []struct {
		name  string
		files fstest.MapFS
		paths string // space-separated
		want  string
	}{
		{"what matters", fstest.MapFS{
			"a.cue": file(ok), "shop/b.cue": file(ok), "README.md": file("x"), ".github/x.cue": file(ok), "_old/x.cue": file(ok), "_x.cue": file(ok),
			"policies/own/p.rego": file("package p"), "shop/p.rego": file(""), "cue.mod/module.cue": file(`module: "x.example"`),
			"cue.mod/pkg/meshc.dev/intent/mesh.cue": file("package intent"),
		}, "a.cue cue.mod/module.cue policies/own/p.rego shop/b.cue", ""},
		{"nothing", fstest.MapFS{"README.md": file("")}, "", "error MESH0001 "},
		{"hidden link", fstest.MapFS{"a.cue": file(ok), ".x/l": {Mode: fs.ModeSymlink}}, "a.cue", ""},
		{"link", fstest.MapFS{"a.cue": file(ok), "b.cue": {Mode: fs.ModeSymlink}}, "a.cue", "error MESH0003 b.cue"},
		{"linked folder", fstest.MapFS{"a.cue": file(ok), "shop": {Mode: fs.ModeSymlink}}, "a.cue", "error MESH0003 shop"},
		{"pipe", fstest.MapFS{"a.cue": {Mode: fs.ModeNamedPipe}}, "", "error MESH0003 a.cue"},
		{"case clash", fstest.MapFS{"a.cue": file(ok), "A.cue": file(ok)}, "A.cue", "error MESH0004 a.cue"},
		{"case clash of folders", fstest.MapFS{"s/a.cue": file(ok), "S/b.cue": file(ok)}, "S/b.cue", "error MESH0004 s/a.cue"},
		{"Unicode", fstest.MapFS{"caf\u00e9.cue": file(ok)}, "", "error MESH0004 caf\u00e9.cue"},
		{"backslash", fstest.MapFS{`a\b.cue`: file(ok)}, "", `error MESH0004 a\b.cue`},
		{"newline", fstest.MapFS{"a\nb.cue": file(ok)}, "", "error MESH0004 a\nb.cue"},
		{"trailing dot", fstest.MapFS{"a./b.cue": file(ok)}, "", "error MESH0004 a./b.cue"},
		{"large", fstest.MapFS{"a.cue": file(strings.Repeat(" ", MaxFile+1)), "b.cue": file(strings.Repeat(" ", MaxFile))}, "b.cue", "error MESH0005 a.cue"},
		{"deep", fstest.MapFS{strings.Repeat("d/", MaxDepth+1) + "a.cue": file(ok), "a.cue": file(ok)}, "a.cue",
			"error MESH0005 " + strings.TrimSuffix(strings.Repeat("d/", MaxDepth+1), "/")},
		{"not read", fstest.MapFS{"a.cue": file(ok), "x_tool.cue": file(ok), "x_test.cue": file(ok), "cue.mod/local-module.cue": file(""),
			"cue.mod/usr/meshc.dev/intent/x.cue": file(""), "nested/cue.mod/module.cue": file(""), "nested/a.cue": file(ok)}, "a.cue",
			"warning MESH0006 cue.mod/local-module.cue\nwarning MESH0006 cue.mod/usr/meshc.dev/intent/x.cue\nwarning MESH0006 nested\nwarning MESH0006 x_test.cue\nwarning MESH0006 x_tool.cue"},
		{"named", fstest.MapFS{
			"a.cue":          file("package a\nx: {file: \"k.json\", \"file\": \"s/deep/l.lua\"} // \" one quote, \"c.txt\" file\n"),
			"s/b.cue":        file("package s\nfile: \"k.json\"; y: \"deep/l.lua\"\n"),
			"k.json":         file("{}"),
			"s/k.json":       file("{}"),
			"s/deep/l.lua":   file("x"),
			"s/xk.json":      file("{}"),
			"c.txt":          file("a comment may name it"),
			"_h/k.json":      file("hidden"),
			".k/k.json":      file("hidden"),
			"n\u00e9/k.json": file("no name that intent may write"),
			"other.json":     file("nobody names it"),
		}, "a.cue c.txt k.json s/b.cue s/deep/l.lua s/k.json", ""},
		{"large, named", fstest.MapFS{"a.cue": file("file: \"k.json\""), "k.json": file(strings.Repeat(" ", MaxFile+1))}, "a.cue", ""},
		{"link, named", fstest.MapFS{"a.cue": file("file: \"k.json\""), "k.json": {Mode: fs.ModeSymlink}}, "a.cue", "error MESH0003 k.json"},
		{"no word file", fstest.MapFS{"a.cue": file("x: \"k.json\""), "k.json": file("")}, "a.cue", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			tree, l := Read(c.files)
			if got := codes(l); got != c.want {
				t.Errorf("problems:\n%s\nwant:\n%s", got, c.want)
			}
			if got := strings.Join(tree.Paths(), " "); got != c.paths {
				t.Errorf("files %q, want %q", got, c.paths)
			}
		})
	}
}

func TestTooManyFiles(t *testing.T) {
	m := fstest.MapFS{}
	for i := range MaxFiles + 1 {
		m[fmt.Sprintf("d%d/f%d.cue", i%100, i)] = file("")
	}
	if _, l := Read(m); codes(l) != "error MESH0005 " {
		t.Errorf("got %q", codes(l))
	}
}

// A link on a real disk must be refused and never followed.
func TestSymlinkOnDisk(t *testing.T) {
	dir, secret := t.TempDir(), filepath.Join(t.TempDir(), "secret.cue")
	for _, err := range []error{
		os.WriteFile(secret, []byte("package secret"), 0o600),
		os.WriteFile(filepath.Join(dir, "a.cue"), []byte("package a"), 0o600),
		os.Symlink(secret, filepath.Join(dir, "b.cue")),
		os.Symlink(filepath.Dir(secret), filepath.Join(dir, "sub")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	tree, l := Read(os.DirFS(dir))
	if got, want := codes(l), "error MESH0003 b.cue\nerror MESH0003 sub"; got != want {
		t.Errorf("problems:\n%s\nwant:\n%s", got, want)
	}
	if !slices.Equal(tree.Paths(), []string{"a.cue"}) {
		t.Errorf("files: %q", tree.Paths())
	}
}

type broken struct{ fs.FS }

func (b broken) Open(name string) (fs.File, error) {
	if name == "b.cue" {
		return nil, errors.New("disk on fire")
	}
	return b.FS.Open(name)
}

func TestUnreadable(t *testing.T) {
	_, l := Read(broken{fstest.MapFS{"a.cue": file(""), "b.cue": file("")}})
	if codes(l) != "error MESH0002 b.cue" || !strings.Contains(l[0].Text, "disk on fire") {
		t.Errorf("got %v", l)
	}
}

func TestDigest(t *testing.T) {
	base := map[string][]byte{"a.cue": []byte("x"), "b.cue": []byte("y")}
	d := Tree{Files: base}.Digest()
	for name, change := range map[string]func(map[string][]byte){
		"content": func(m map[string][]byte) { m["a.cue"] = []byte("z") },
		"moved":   func(m map[string][]byte) { m["a.cue"], m["b.cue"] = m["b.cue"], m["a.cue"] },
		"joined":  func(m map[string][]byte) { m["a.cue"] = []byte("xb.cue"); delete(m, "b.cue") },
		"added":   func(m map[string][]byte) { m["c.cue"] = nil },
	} {
		m := maps.Clone(base)
		change(m)
		if (Tree{Files: m}).Digest() == d {
			t.Errorf("%s: same digest", name)
		}
	}
	if (Tree{Files: maps.Clone(base), Vendored: map[string][]byte{"x.cue": nil}}).Digest() != d {
		t.Error("the vendored copy changed the digest")
	}
}
