// Package intent reads what users wrote in CUE.
//
// In: a source.Tree and the name of an environment. Out: an Intent, the evaluated
// field mesh of every package with the user's positions, or problems, one line
// each. It is the only door to CUE. Nothing but the tree and the embedded schema
// is read: imports are resolved here, so that no file of a repository can put
// something else in the schema's place, and nothing is fetched. Every package is
// evaluated in a context of its own, which is thrown away.
//
// Evaluation of hostile CUE may need any amount of time and memory, and cannot
// be stopped from inside the process: Options.Evaluate has each package evaluated
// in another one, by a Job that holds all that the package's value depends on.
package intent

import (
	"bytes"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"meshc.dev/meshc/compiler/internal/source"
	"meshc.dev/meshc/internal/diag"
)

// Options are the inputs of Load beside the tree. The zero Options loads the only
// environment that the root package declares.
type Options struct {
	Environment string // "" is the only one that the root declares, or "default"
	Cache       Cache  // nil: evaluate everything
	Workers     int    // packages evaluated at once; 0 or less: as many as there are CPUs
	// Evaluate, if set, has a package evaluated elsewhere: it returns what the function
	// Evaluate gives for the encoded job, or why there is no answer. It is called from
	// several goroutines.
	Evaluate func(Job) ([]byte, diag.List)
}

// defaultEnvironment is the environment of a repository that declares none.
const defaultEnvironment = "default"

// Load evaluates all packages of a tree. With an error in the list the Intent
// lacks the packages that failed; it is never nil.
func Load(t source.Tree, o Options) (*Intent, diag.List) {
	l, diags := newLayout(t)
	s := &session{layout: l, options: o}
	in := &Intent{Tree: t.Digest(), Files: l.files(), tree: t}
	if d, ok := l.notTop(); ok {
		return in, diag.List{d}
	}
	diags = append(diags, vendored(t)...)
	root := s.root()
	if root.lost {
		return in, append(diags, root.diags...).Sorted() // which environments there are is not known
	}
	env, ds := s.environment(root)
	diags = append(diags, ds...)
	if ds.HasErrors() {
		return in, append(diags, root.diags...).Sorted()
	}
	in.Environment = env
	units, ds := astray(l, l.units(env))
	diags = append(diags, ds...)
	for i, res := range s.all(units, root) {
		diags = append(diags, capped(units[i], res.diags)...)
		if res.pkg != nil {
			in.Packages = append(in.Packages, res.pkg)
		}
	}
	diags = append(diags, clashes(l, units)...)
	return in, diags.Sorted()
}

// Environments are the names of the environments that the root package declares, sorted.
func Environments(t source.Tree, o Options) []string {
	l, _ := newLayout(t) // what else is wrong is for Load to tell
	s := &session{layout: l, options: o}
	names, _ := declared(s.root())
	slices.Sort(names)
	return names
}

// session is one call of Load.
type session struct {
	layout  *layout
	options Options
}

// root evaluates the root package without any environment's files, to learn
// which environments there are.
func (s *session) root() result {
	files := s.layout.base["."]
	if len(files) == 0 {
		return result{pos: &index{}}
	}
	return s.cached(unit{dir: ".", base: files})
}

// environment settles which environment is meant.
func (s *session) environment(root result) (string, diag.List) {
	known, at := declared(root)
	var out diag.List
	for _, folder := range sortedKeys(s.layout.overlays) {
		if !slices.Contains(known, folder) {
			out = append(out, unknownEnvironment(diag.Pos{File: s.layout.overlays[folder][0]}, folder, known))
		}
	}
	name := s.options.Environment
	switch {
	case name == "" && len(known) == 1:
		name = known[0]
	case name == "":
		out = append(out, diag.New(diag.CodeEnvironment, at, "there are several environments and none was chosen").
			WithFix("choose one with --env: %s", diag.OneOf(known)))
	case !slices.Contains(known, name):
		out = append(out, unknownEnvironment(at, name, known))
	}
	return name, out
}

func unknownEnvironment(at diag.Pos, name string, known []string) diag.Diagnostic {
	d := diag.New(diag.CodeEnvironment, at, "the environment %q is not declared", name)
	if near, ok := diag.Nearest(name, known); ok {
		return d.WithFix("did you mean %q?", near)
	}
	return d.WithFix("declared are %s; declare it in the root package: `mesh: environment: %s: {}`", diag.OneOf(known), strconv.Quote(name))
}

// declared returns the names of the environments. A root package with problems
// still tells the names that it writes out.
func declared(root result) ([]string, diag.Pos) {
	var names []string
	var at diag.Pos
	if root.pkg != nil {
		n := root.pkg.Mesh.Field("environment")
		at = n.Pos()
		for _, e := range n.Fields() {
			names = append(names, e.Name)
		}
	} else {
		names = root.pos.children("mesh.environment")
		at = root.pos.nearest("mesh.environment")
	}
	if len(names) == 0 {
		names = []string{defaultEnvironment}
	}
	return names, at
}

// all evaluates the units, several at once; the root's result is used again if
// the environment adds no file to it.
func (s *session) all(units []unit, root result) []result {
	out := make([]result, len(units))
	workers := s.options.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(workers, max(1, len(units))) {
		wg.Go(func() {
			for i := range next {
				if units[i].dir == "." && len(units[i].overlay) == 0 {
					out[i] = root
				} else {
					out[i] = s.cached(units[i])
				}
			}
		})
	}
	for i := range units {
		next <- i
	}
	close(next)
	wg.Wait()
	return out
}

// capped keeps a package from flooding the list.
func capped(u unit, l diag.List) diag.List {
	l = l.Sorted()
	if len(l) <= maxProblems {
		return l
	}
	more := diag.New(diag.CodeMore, l[maxProblems].Pos, "package %q has %d more problems", u.dir, len(l)-maxProblems)
	return append(slices.Clip(l[:maxProblems]), more.WithFix("solve the first ones and run again"))
}

// astray takes out and refuses an environment's files that join no package, where their
// folder is called almost as one: they would be a package of their own. One that is
// meant to be says its namespace.
func astray(l *layout, units []unit) ([]unit, diag.List) {
	var kept []unit
	var out diag.List
	for _, u := range units {
		near, ok := diag.Nearest(u.dir, slices.Collect(maps.Keys(l.base)))
		named := slices.ContainsFunc(u.overlay, func(p string) bool { return bytes.Contains(l.tree.Files[p], []byte("namespace")) })
		if len(u.base) > 0 || !ok || named {
			kept = append(kept, u)
			continue
		}
		env, _, _ := splitOverlay(u.overlay[0])
		out = append(out, diag.New(diag.CodePackage, diag.Pos{File: u.overlay[0]}, "there is no package %q that the files of environment %q could join", u.dir, env).
			WithFix("did you mean %q? A package of this environment alone says its namespace", OverlayFolder(env, near)))
	}
	return kept, out
}

// clashes refuses a package that has the name of one in a folder above it: CUE
// joins the two, so that everything above would be declared a second time below.
func clashes(l *layout, units []unit) diag.List {
	names := map[string]string{}
	for _, u := range units {
		if files := slices.Concat(u.base, u.overlay); len(files) > 0 {
			names[u.dir] = packageName(l.tree.Files[files[0]])
		}
	}
	var out diag.List
	for _, u := range units {
		for dir := u.dir; dir != "."; {
			dir = parentDir(dir)
			if name, ok := names[dir]; ok && name != "" && name == names[u.dir] {
				file := slices.Concat(u.base, u.overlay)[0]
				out = append(out, diag.New(diag.CodePackage, diag.Pos{File: file}, "package %q has the name of the package in %q: CUE would join the two", name, dir).
					WithFix("give the package in %q another name", u.dir))
			}
		}
	}
	return out
}

func parentDir(dir string) string {
	if i := strings.LastIndexByte(dir, '/'); i >= 0 {
		return dir[:i]
	}
	return "."
}
