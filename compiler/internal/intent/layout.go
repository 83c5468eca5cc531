package intent

import (
	"path"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/source"
	"meshc.dev/meshc/internal/diag"
)

// environmentsDir holds one folder per environment; below it, files join the
// package of the same path.
const environmentsDir = "environments"

// layout is the tree cut into packages.
type layout struct {
	tree     source.Tree
	module   string              // the repository's CUE module, "" if it names none
	base     map[string][]string // folder → paths of its CUE files, sorted
	overlays map[string][]string // environment → paths below its folder, sorted
}

func newLayout(t source.Tree) (*layout, diag.List) {
	module, diags := readModule(t)
	l := &layout{tree: t, module: module, base: map[string][]string{}, overlays: map[string][]string{}}
	for _, p := range t.Paths() {
		if path.Ext(p) != ".cue" || strings.HasPrefix(p, "cue.mod/") {
			continue
		}
		env, _, isOverlay := splitOverlay(p)
		switch {
		case isOverlay && env == "":
			diags = append(diags, diag.New(diag.CodePackage, diag.Pos{File: p}, "%q lies in no environment's folder", p).
				WithFix("move it to %s/<environment>/<path of the package>/", environmentsDir))
		case isOverlay:
			l.overlays[env] = append(l.overlays[env], p)
		default:
			l.base[path.Dir(p)] = append(l.base[path.Dir(p)], p)
		}
	}
	return l, diags
}

// notTop says that a folder below is what the user means, if it looks like the top
// of a mesh and the top folder has no package. Read from the wrong folder, every
// file of an environment would be a package with a problem.
func (l *layout) notTop() (diag.Diagnostic, bool) {
	if len(l.base["."]) > 0 {
		return diag.Diagnostic{}, false
	}
	for _, dir := range sortedKeys(l.base) {
		top, _, found := strings.Cut(dir, "/"+environmentsDir+"/")
		if !found {
			top = dir
			_, found = l.tree.Files[top+"/"+source.ModuleFile]
		}
		if files := l.base[top]; found && len(files) > 0 {
			return diag.New(diag.CodeNotTop, diag.Pos{File: files[0]}, "the mesh begins in folder %q, not here", top).
				WithFix("name that folder, as in `meshc vet %s`, or change into it", top), true
		}
	}
	return diag.Diagnostic{}, false
}

// splitOverlay cuts environments/<env>/<dir>/x.cue into env and dir.
func splitOverlay(p string) (env, dir string, ok bool) {
	rest, ok := strings.CutPrefix(p, environmentsDir+"/")
	if !ok {
		return "", "", false
	}
	env, file, inFolder := strings.Cut(rest, "/")
	if !inFolder {
		return "", "", true
	}
	return env, path.Dir(file), true
}

// EnvironmentOf is the environment whose file it is, if it is one's.
func EnvironmentOf(file string) (env string, ok bool) {
	env, _, ok = splitOverlay(file)
	return env, ok
}

// OverlayFolder is where an environment's files for a package lie.
func OverlayFolder(env, dir string) string { return path.Join(environmentsDir, env, dir) }

// files are those of every package in all environments.
func (l *layout) files() map[string][]string {
	out := map[string][]string{}
	for dir, files := range l.base {
		out[dir] = append(out[dir], files...)
	}
	for _, files := range l.overlays {
		for _, f := range files {
			_, dir, _ := splitOverlay(f)
			out[dir] = append(out[dir], f)
		}
	}
	for _, files := range out {
		slices.Sort(files)
	}
	return out
}

// unit is one package to evaluate: the files of its folder, then those of the
// environment.
type unit struct {
	dir     string
	base    []string
	overlay []string
}

// units returns the packages for an environment, sorted by folder.
func (l *layout) units(env string) []unit {
	byDir := map[string]*unit{}
	at := func(dir string) *unit {
		if byDir[dir] == nil {
			byDir[dir] = &unit{dir: dir}
		}
		return byDir[dir]
	}
	for dir, files := range l.base {
		at(dir).base = files
	}
	for _, p := range l.overlays[env] {
		_, dir, _ := splitOverlay(p)
		u := at(dir)
		u.overlay = append(u.overlay, p)
	}
	out := make([]unit, 0, len(byDir))
	for _, u := range byDir {
		out = append(out, *u)
	}
	slices.SortFunc(out, func(a, b unit) int { return strings.Compare(a.dir, b.dir) })
	return out
}
