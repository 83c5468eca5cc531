package compiler_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"pgregory.net/rapid"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/golden"
)

// digestOf compiles and names the release. It fails on a problem that is an error.
func digestOf(t fataler, files fs.FS, env string, o compiler.Options) string {
	t.Helper()
	o.Environment, o.At = env, time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	p, ds := compiler.Load(files, o)
	if err := ds.Err(); err != nil {
		t.Fatalf("%v", err)
	}
	r, ds := p.Release()
	if err := ds.Err(); err != nil {
		t.Fatalf("%v", err)
	}
	return r.Digest()
}

// repository is intent that somebody wrote, and the environment to compile it for.
type repository struct {
	name, env string
	files     fstest.MapFS
}

// coldDigests has what coldDigest said, by the repositories' names: hundreds of compiles, which several tests want.
var coldDigests sync.Map

// coldDigest names the release that is made without any memory.
func (r repository) coldDigest(t fataler) string {
	t.Helper()
	if d, ok := coldDigests.Load(r.name); ok {
		return d.(string)
	}
	d := digestOf(t, r.files, r.env, compiler.Options{})
	coldDigests.Store(r.name, d)
	return d
}

// repositories are the examples and the cases of TestWholePipeline.
func repositories(t *testing.T) []repository {
	t.Helper()
	var out []repository
	for _, dir := range glob(t, "../examples/*/intent") {
		r := repository{name: "examples/" + filepath.Base(filepath.Dir(dir)), files: fstest.MapFS{}}
		if _, err := os.Stat(filepath.Join(dir, "environments")); err == nil {
			r.env = "local" // of several
		}
		if err := fs.WalkDir(os.DirFS(dir), ".", func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(filepath.Join(dir, p))
			r.files[p] = &fstest.MapFile{Data: b}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	for _, file := range glob(t, "testdata/*.txtar") {
		a, err := golden.Archive(file)
		if err != nil {
			t.Fatal(err)
		}
		r := repository{name: strings.TrimSuffix(filepath.Base(file), ".txtar"), files: fstest.MapFS{"mesh.cue": {Data: []byte(plainRoot)}}}
		for _, f := range a.Files {
			switch first, _, _ := strings.Cut(f.Name, "/"); {
			case f.Name == "options":
				if _, env, ok := strings.Cut(string(f.Data), "env "); ok {
					r.env = strings.TrimSpace(env)
				}
			case (path.Ext(f.Name) == ".cue" || first != f.Name && first != "want") && first != "before" && targetFolders()[first] == "":
				r.files[f.Name] = &fstest.MapFile{Data: f.Data}
			}
		}
		out = append(out, r)
	}
	return out
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) < 2 {
		t.Fatalf("%s: %v, %v", pattern, files, err)
	}
	return files
}

// shuffled is a file system that lists its folders in an order of its own.
type shuffled struct {
	fstest.MapFS
	seed int
}

func (s shuffled) ReadDir(name string) ([]fs.DirEntry, error) {
	es, err := s.MapFS.ReadDir(name)
	if len(es) > 1 {
		n := s.seed % len(es)
		es = slices.Concat(es[n:], es[:n])
		if s.seed%2 == 1 {
			slices.Reverse(es)
		}
	}
	return es, err
}

// renamed gives every file another name in its folder, so that they are read in
// another order; which one an environment's is stays.
func renamed(files fstest.MapFS, seed int) fstest.MapFS {
	out := fstest.MapFS{}
	for i, name := range slices.Sorted(maps.Keys(files)) {
		n := fmt.Sprintf("f%03d.cue", (i*7919+seed)%997)
		if path.Ext(name) != ".cue" { // a word names it
			n = path.Base(name)
		}
		out[path.Join(path.Dir(name), n)] = files[name]
	}
	return out
}

// reformatted changes what CUE does not look at.
func reformatted(files fstest.MapFS, t *rapid.T) fstest.MapFS {
	out := fstest.MapFS{}
	for name, f := range files {
		if path.Ext(name) != ".cue" {
			out[name] = f
			continue
		}
		var b bytes.Buffer
		text := false // of several lines, which is as it stands
		for line := range strings.Lines(string(f.Data)) {
			if edge := strings.Count(line, `"""`)%2 == 1; edge || text {
				text = text != edge
				b.WriteString(line)
				continue
			}
			line = strings.TrimRight(line, "\n")
			if rapid.Bool().Draw(t, "comment") {
				b.WriteString("// a remark\n")
			}
			if rapid.Bool().Draw(t, "indent") {
				line = "    " + strings.ReplaceAll(line, "\t", "  ")
			}
			b.WriteString(line)
			if rapid.Bool().Draw(t, "trail") {
				b.WriteString("  // so it is\n\n")
			} else {
				b.WriteString("\n")
			}
		}
		out[name] = &fstest.MapFile{Data: b.Bytes()}
	}
	return out
}

// split moves declarations of a file to files of their own: those at the top that
// stand on one line each, or begin a block that ends with a brace in the first column.
func split(files fstest.MapFS, t *rapid.T) fstest.MapFS {
	out := fstest.MapFS{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if path.Ext(name) != ".cue" {
			out[name] = files[name]
			continue
		}
		pkg, imports, decls := declarations(string(files[name].Data))
		groups := map[int][]string{}
		for _, d := range decls {
			g := rapid.IntRange(0, 3).Draw(t, "file")
			if strings.Contains(d, "intent.") {
				g = 0
			}
			groups[g] = append(groups[g], d)
		}
		for g, ds := range groups {
			text := pkg + "\n"
			if g == 0 {
				text += imports
			}
			out[fmt.Sprintf("%s-%d.cue", strings.TrimSuffix(name, ".cue"), g)] = &fstest.MapFile{Data: []byte(text + strings.Join(ds, ""))}
		}
	}
	return out
}

// declarations cuts a formatted file into its package clause, imports and the
// declarations at the top.
func declarations(text string) (pkg, imports string, decls []string) {
	for line := range strings.Lines(text) {
		continued := len(decls) > 0 && (strings.HasPrefix(line, "\t") || strings.HasPrefix(line, "}") || strings.HasPrefix(line, ")"))
		switch {
		case strings.HasPrefix(line, "package "):
			pkg = line
		case strings.HasPrefix(line, "import "):
			imports = line
		case strings.TrimSpace(line) == "" || strings.HasPrefix(line, "//"):
		case continued:
			decls[len(decls)-1] += line
		default:
			decls = append(decls, line)
		}
	}
	return pkg, imports, decls
}

// A release is named by what its intent means: not by the order, names, number or
// layout of the files, nor by how many cores compiled it, nor by how often.
func TestDigestIsOfTheMeaning(t *testing.T) {
	repos, memos := repositories(t), map[string]*compiler.Memo{}
	for _, r := range repos {
		memos[r.name] = compiler.NewMemo()
	}
	cache := compiler.MemoryCache(1000, nil)
	rapid.Check(t, func(t *rapid.T) {
		r := repos[rapid.IntRange(0, len(repos)-1).Draw(t, "repository")]
		files := r.files
		if rapid.Bool().Draw(t, "split") {
			files = split(files, t)
		}
		if rapid.Bool().Draw(t, "reformat") {
			files = reformatted(files, t)
		}
		seed := rapid.IntRange(0, 996).Draw(t, "order")
		if rapid.Bool().Draw(t, "rename") {
			files = renamed(files, seed)
		}
		o := compiler.Options{Workers: rapid.IntRange(0, 4).Draw(t, "workers")}
		if rapid.Bool().Draw(t, "again") {
			o.Cache, o.Memo = cache, memos[r.name]
		}
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(rapid.IntRange(1, 4).Draw(t, "cores")))
		if got, want := digestOf(t, shuffled{files, seed}, r.env, o), r.coldDigest(t); got != want {
			t.Fatalf("%s: release %s, not %s, of\n%s", r.name, got, want, listing(files))
		}
	})
}

// A memory gives nobody another release, be it empty or full: what is made of one service or gateway sees a mesh without
// lists then, and must not miss them.
func TestDigestIsTheSameFromMemory(t *testing.T) {
	for _, r := range repositories(t) {
		want := r.coldDigest(t)
		o := compiler.Options{Cache: compiler.MemoryCache(1000, nil), Memo: compiler.NewMemo()}
		for _, memory := range []string{"empty", "full"} {
			if got := digestOf(t, r.files, r.env, o); got != want {
				t.Errorf("%s: from %s memory release %s, not %s", r.name, memory, got, want)
			}
		}
	}
}

// A release is named by what its intent means: another meaning has another name.
func TestDigestIsOfEveryMeaning(t *testing.T) {
	seen := map[string]string{}
	for _, r := range repositories(t) {
		d := r.coldDigest(t)
		if other, ok := seen[d]; ok {
			t.Errorf("%s and %s are the same release", r.name, other)
		}
		seen[d] = r.name
	}
}

func listing(files fstest.MapFS) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(&b, "-- %s --\n%s", name, files[name].Data)
	}
	return b.String()
}
