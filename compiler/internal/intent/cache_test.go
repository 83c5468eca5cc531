package intent

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"

	"meshc.dev/meshc/compiler/internal/source"
	"meshc.dev/meshc/internal/diag"
)

// counted loads a tree and returns the folders that were evaluated.
func counted(t *testing.T, tree source.Tree, c Cache) (*Intent, map[string]bool) {
	t.Helper()
	var mu sync.Mutex
	dirs := map[string]bool{}
	in, l := Load(tree, Options{Cache: c, Evaluate: func(j Job) ([]byte, diag.List) {
		mu.Lock()
		dirs[j.Dir] = true
		mu.Unlock()
		return elsewhere(t, j), nil
	}})
	if l.HasErrors() {
		t.Fatal(l)
	}
	return in, dirs
}

// elsewhere does a job as another process would.
func elsewhere(t *testing.T, j Job) []byte {
	t.Helper()
	parts, err := j.Encode()
	if err != nil {
		t.Fatal(err)
	}
	b, err := Evaluate(bytes.Join(parts, nil))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func dirsOf(names ...string) map[string]bool {
	m := map[string]bool{}
	for _, n := range names {
		m[n] = true
	}
	return m
}

func libTree() source.Tree {
	return source.Tree{Files: map[string][]byte{
		"cue.mod/module.cue": []byte(`module: "x.example/m@v0"`),
		"lib/lib.cue":        []byte("package lib\n\nimport \"x.example/m/lib2\"\n\n#owner: lib2.#owner\n"),
		"lib2/lib.cue":       []byte("package lib2\n\n#owner: \"one\"\n"),
		"a/a.cue":            []byte("package a\n\nimport (\n\t\"meshc.dev/intent\"\n\t\"x.example/m/lib\"\n)\n\nmesh: intent.#Mesh\nmesh: owner: lib.#owner\n"),
		"b/b.cue":            []byte("package b\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\nmesh: owner: \"b\"\n"),
	}}
}

func TestCachesEvaluateOnlyWhatChanged(t *testing.T) {
	for name, c := range map[string]Cache{
		"memory": NewMemory(100, nil), "folder": NewDir(t.TempDir()), "both": NewMemory(100, NewDir(t.TempDir())),
	} {
		t.Run(name, func(t *testing.T) {
			tree := libTree()
			cold, dirs := counted(t, tree, c)
			if !maps.Equal(dirs, dirsOf("a", "b", "lib", "lib2")) {
				t.Errorf("cold: evaluated %v", dirs)
			}
			warm, dirs := counted(t, tree, c)
			// Libraries hold no value to keep.
			if !maps.Equal(dirs, dirsOf("lib", "lib2")) {
				t.Errorf("warm: evaluated %v", dirs)
			}
			if !reflect.DeepEqual(cold, warm) {
				t.Errorf("warm differs:\n%v\n%v", cold, warm)
			}
			tree.Files["lib2/lib.cue"] = []byte("package lib2\n\n#owner: \"two\"\n")
			in, dirs := counted(t, tree, c)
			if !maps.Equal(dirs, dirsOf("a", "lib", "lib2")) || in.Packages[0].Mesh.Field("owner").Str() != "two" {
				t.Errorf("after an edit of an import's import: evaluated %v, %v", dirs, in.Packages[0])
			}
			tree.Files["b/b.cue"] = append([]byte("// moved\n"), tree.Files["b/b.cue"]...)
			in, dirs = counted(t, tree, c)
			if !dirs["b"] || in.Packages[1].Mesh.Field("owner").Pos().Line != 7 {
				t.Errorf("after a moved line: evaluated %v, %v", dirs, in.Packages[1].Mesh.Field("owner").Pos())
			}
		})
	}
}

func TestCorruptEntriesAreMisses(t *testing.T) {
	dir := t.TempDir()
	tree := libTree()
	want, _ := counted(t, tree, NewDir(dir))
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 2 {
		t.Fatalf("%v %v", files, err)
	}
	for name, spoil := range map[string]func([]byte) []byte{
		"torn":    func(b []byte) []byte { return b[:len(b)/2] },
		"empty":   func([]byte) []byte { return nil },
		"flipped": func(b []byte) []byte { return bytes.Replace(b, []byte("owner"), []byte("ownet"), 1) },
		"noise":   func([]byte) []byte { return []byte("\x00\xff") },
	} {
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(f, spoil(b), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		got, dirs := counted(t, tree, NewDir(dir))
		if !dirs["a"] || !dirs["b"] || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: evaluated %v, got %v", name, dirs, got)
		}
	}
}

func TestUnwritableCache(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	in, _ := counted(t, libTree(), NewDir(filepath.Join(file, "cache")))
	if len(in.Packages) != 2 {
		t.Errorf("%d packages", len(in.Packages))
	}
}

func TestDirIsBounded(t *testing.T) {
	d := NewDir(t.TempDir())
	for i, key := range []string{"old", "middle", "new"} {
		if err := d.write(key, make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		at := time.Unix(int64(1000+i), 0)
		if err := os.Chtimes(filepath.Join(d.path, key+entrySuffix), at, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(d.path, "foreign"), make([]byte, 3*block), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.trim(2 * block); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]bool{"old": false, "middle": true, "new": true} {
		if _, ok := d.Get(key); ok != want {
			t.Errorf("%s: kept %v", key, ok)
		}
	}
	if _, err := os.Stat(filepath.Join(d.path, "foreign")); err != nil {
		t.Errorf("a file of someone else was removed: %v", err)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	m := NewMemory(2, nil)
	for _, k := range []string{"a", "b", "c"} {
		m.keep(k, &Package{Dir: k})
	}
	if _, ok := m.pkg("a"); ok || len(m.pkgs) != 2 {
		t.Errorf("kept %v", m.order)
	}
}
