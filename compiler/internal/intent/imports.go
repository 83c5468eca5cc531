package intent

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/build"
	"cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/parser"
	"cuelang.org/go/cue/token"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/schemas"
)

// importPath is an import cut into its parts.
type importPath struct {
	path string // without version and qualifier
	pkg  string // the package's name
}

func splitImport(s string) importPath {
	p, pkg, explicit := strings.Cut(s, ":")
	p, _, _ = strings.Cut(p, "@")
	if !explicit {
		pkg = path.Base(p)
	}
	return importPath{path: p, pkg: pkg}
}

// isSchema reports whether an import names the intent schema.
func isSchema(s string) bool {
	switch s {
	case schemas.Module, schemas.Module + "@v0", schemas.Module + ":intent", schemas.Module + "@v0:intent":
		return true
	}
	return false
}

// localDir returns the folder of an import inside the repository.
func (l *layout) localDir(p importPath) (string, bool) { return localDir(l.module, p.path) }

func localDir(module, p string) (string, bool) {
	if module == "" || strings.HasPrefix(module, schemas.Module) {
		return "", false
	}
	if p == module {
		return ".", true
	}
	return strings.CutPrefix(p, module+"/")
}

// importSpec allows the schema, packages of this repository and the parts of
// CUE's library that only compute.
func (t *lint) importSpec(spec *ast.ImportSpec) {
	s, ok := unquote(spec.Path)
	if !ok || strings.ContainsAny(spec.Path.Value, `\#`) {
		// Escapes would hide an import from the cache key, and nobody needs them.
		t.fail(diag.CodeImport, spec.Path.Pos(), "the import %s is not a plain path", spec.Path.Value).Fix = "write the path without escapes"
		return
	}
	if isSchema(s) || slices.Contains(builtins(), s) {
		return
	}
	if _, ok := localDir(t.module, splitImport(s).path); ok {
		return
	}
	if isBuiltinName(s) && !misspelt(s) {
		t.fail(diag.CodeImport, spec.Path.Pos(), "the import %q is not allowed in intent", s).
			Fix = "available are " + diag.OneOf(append(builtins(), schemas.Module))
		return
	}
	d := t.fail(diag.CodeImport, spec.Path.Pos(), "the import %q is not found: nothing is fetched", s)
	known := []string{schemas.Module}
	if t.module != "" {
		known = append(known, t.module+"/…")
	}
	d.Fix = "available are " + diag.OneOf(append(known, builtins()...))
	if near, ok := diag.Nearest(s, append(known, builtins()...)); ok {
		d.Fix = "did you mean " + strconv.Quote(near) + "?"
	}
}

// misspelt reports whether a name is nearly that of an allowed package.
func misspelt(s string) bool {
	_, ok := diag.Nearest(s, builtins())
	return ok
}

func isBuiltinName(s string) bool {
	first, _, _ := strings.Cut(s, "/")
	return !strings.Contains(first, ".")
}

// resolver makes the instances that a package imports, inside one build context.
// It knows the schema's embedded bytes and the tree, nothing else: there is no
// module resolution that a file of the repository could redirect.
type resolver struct {
	layout *layout
	words  []schemas.File // the schema, as far as the package can mean it
	ctx    *build.Context
	open   map[string]bool // imports being loaded, to find cycles
	diags  diag.List
}

func newResolver(l *layout, words []schemas.File) *resolver {
	r := &resolver{layout: l, words: words, open: map[string]bool{}}
	r.ctx = build.NewContext(build.Loader(r.load))
	return r
}

// load is called by CUE for every import. nil means a part of CUE's own library.
func (r *resolver) load(pos token.Pos, p string) *build.Instance {
	if isSchema(p) {
		return r.schema()
	}
	ip := splitImport(p)
	dir, ok := r.layout.localDir(ip)
	if !ok {
		return nil // the lint has let only CUE's library through
	}
	inst := r.ctx.NewInstance(dir, r.load)
	inst.PkgName = ip.pkg
	if r.open[p] {
		return r.refuse(inst, pos, "packages import each other in a circle through %q", p)
	}
	r.open[p] = true
	defer delete(r.open, p)
	return r.local(inst, pos, dir, ip)
}

func (r *resolver) local(inst *build.Instance, pos token.Pos, dir string, ip importPath) *build.Instance {
	for _, file := range r.layout.base[dir] {
		f, l := r.layout.parse(file)
		r.diags = append(r.diags, l...)
		if l.HasErrors() || f.file.PackageName() != ip.pkg {
			continue
		}
		if err := inst.AddSyntax(f.file); err != nil {
			inst.ReportError(err)
		}
	}
	if len(inst.Files) == 0 && !r.diags.HasErrors() {
		return r.refuse(inst, pos, "the folder %q has no package %q", dir, ip.pkg)
	}
	if err := inst.Complete(); err != nil && inst.Err == nil {
		inst.ReportError(errors.Promote(err, "import"))
	}
	return inst
}

func (r *resolver) refuse(inst *build.Instance, pos token.Pos, format string, args ...any) *build.Instance {
	r.diags = append(r.diags, diag.New(diag.CodeImport, userPos(pos), format, args...))
	inst.ReportError(errors.Newf(pos, format, args...))
	return inst
}

// schemaDir prefixes the file names of the schema in positions, so that the
// reducer can tell them from the user's: no path of a tree holds a colon.
const schemaDir = "schema:" + schemas.Module + "/"

// schema parses the embedded module. Every context gets syntax trees of its own,
// because resolving writes into them.
func (r *resolver) schema() *build.Instance {
	inst := r.ctx.NewInstance(schemaDir, r.load)
	inst.PkgName = "intent"
	var files []*ast.File
	for _, f := range r.words {
		file, err := parser.ParseFile(schemaDir+f.Name, f.Text, parser.Version(schemas.LanguageVersion))
		if err != nil {
			inst.ReportError(errors.Promote(err, "schema"))
			return inst
		}
		files = append(files, file)
	}
	if err := inst.AddSyntax(flatten(files)); err != nil {
		inst.ReportError(err)
		return inst
	}
	if err := inst.Complete(); err != nil && inst.Err == nil {
		inst.ReportError(errors.Promote(err, "schema"))
	}
	return inst
}
