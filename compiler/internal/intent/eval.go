package intent

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/build"
	"cuelang.org/go/cue/cuecontext"
	"cuelang.org/go/cue/token"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/schemas"
)

// result is what one package gave.
type result struct {
	pkg     *Package // nil after an error, and for a package without mesh
	diags   diag.List
	name    string // of its package clause
	library bool   // it holds definitions only
	pos     *index
	over    overrides
	lost    bool // it was not evaluated to the end: nothing is known of it
}

// maxRounds bounds how often a package with errors is evaluated again to find
// what the first errors hid.
const maxRounds = 4

// evaluate is evaluateOnce for any text: a panic inside CUE, which can depend on
// the user's text, becomes a problem of the package. before is a value of the field mesh
// that was found valid, or nil: what did not change since is not looked at again.
func (l *layout) evaluate(u unit, before any) (res result) {
	defer func() {
		if r := recover(); r != nil {
			at := diag.Pos{File: slices.Concat(u.base, u.overlay)[0]}
			res = result{pos: &index{}, diags: diag.List{diag.New(diag.CodeEval, at, "CUE failed on package %q: %s", u.dir, oneLine(fmt.Sprint(r))).
				WithFix("write the last change in another way, and report this text to the makers of meshc")}}
		}
	}()
	all := schemas.Files()
	if words := schemaFiles(l.texts(u)); len(words) < len(all) || before != nil {
		if res := l.evaluateOnce(u, words, before); !res.diags.HasErrors() {
			return res
		}
	}
	return l.evaluateOnce(u, all, nil)
}

// texts are those that the unit's value depends on.
func (l *layout) texts(u unit) [][]byte {
	own := slices.Concat(u.base, u.overlay)
	files := map[string]bool{}
	l.imports(own, files)
	var out [][]byte
	for _, p := range own {
		out = append(out, l.tree.Files[p])
	}
	for p := range files {
		out = append(out, l.tree.Files[p])
	}
	return out
}

// evaluateOnce reads one package with so much of the schema, in contexts that are not kept:
// a context holds everything that was ever evaluated in it.
func (l *layout) evaluateOnce(u unit, words []schemas.File, before any) result {
	files, res := l.parseUnit(u)
	if res.diags.HasErrors() {
		return res
	}
	red := newReducer(l, res.pos)
	inst, diags := l.instance(u, files, res.name, words)
	if diags.HasErrors() || res.library {
		res.diags = append(res.diags, diags...)
		return res
	}
	res.diags = append(res.diags, checkBound(u, files)...)
	if res.diags.HasErrors() {
		return res
	}
	mesh, literal := literalMesh(files)
	if literal && before != nil && len(res.over.structs) == 0 {
		dropKnown(files, liken(mesh, before))
	}
	v, diags := valid(inst, red)
	if diags.HasErrors() {
		res.diags = diags
		if len(words) == len(schemas.Files()) { // else it is evaluated again
			res.diags = append(diags, l.hidden(u, res.name, red)...)
		}
		return res
	}
	if !literal {
		if mesh, diags = computed(v, red); diags.HasErrors() {
			res.diags = diags
			return res
		}
	}
	var replaced []Replaced
	if len(res.over.structs) > 0 {
		replaced, diags = res.over.replace(v, inst.ID(), mesh, red)
		if diags = append(diags, l.judged(u, res.name, mesh, &res.over, words, red)...); diags.HasErrors() {
			res.diags = diags
			return res
		}
	}
	res.pkg = newPackage(u.dir, mesh, res.pos, replaced)
	return res
}

// hidden finds what the reported errors kept CUE from telling.
func (l *layout) hidden(u unit, name string, red *reducer) diag.List {
	var out diag.List
	for range maxRounds {
		files, res := l.parseUnit(u)
		changed := false
		for _, f := range files {
			changed = prune(f.file, func(path string) bool { return red.done[path] }) || changed
		}
		if !changed || res.diags.HasErrors() {
			return out
		}
		inst, diags := l.instance(u, files, name, schemas.Files())
		if diags.HasErrors() {
			return out
		}
		_, more := valid(inst, red)
		if out = append(out, more...); !slices.ContainsFunc(more, func(d diag.Diagnostic) bool { return d.Code != diag.CodeMissing }) {
			return out
		}
	}
	return out
}

// instance builds the unit with what it imports, in a build context of its own.
func (l *layout) instance(u unit, files []parsed, name string, words []schemas.File) (*build.Instance, diag.List) {
	r := newResolver(l, words)
	inst := r.ctx.NewInstance(u.dir, r.load)
	inst.PkgName = name
	inst.ImportPath = "mesh.invalid/" + u.dir
	for _, f := range files {
		if err := inst.AddSyntax(f.file); err != nil {
			inst.ReportError(err)
		}
	}
	// The error stays in the instance, and value reports it.
	_ = inst.Complete()
	return inst, r.diags
}

// parseUnit parses the unit's files, fills the index and settles the package's name.
func (l *layout) parseUnit(u unit) ([]parsed, result) {
	res := result{pos: &index{pos: map[string]diag.Pos{}}, library: true}
	var files []parsed
	first := ""
	for _, p := range slices.Concat(u.base, u.overlay) {
		f, ds := l.parse(p)
		res.diags = append(res.diags, ds...)
		if f.file == nil {
			res.library = false
			continue
		}
		if slices.Contains(u.overlay, p) {
			res.over.hide(f.file)
		}
		res.pos.add(f.file.Decls, "")
		if name := f.file.PackageName(); res.name == "" {
			res.name, first = name, p
		} else if name != "" && name != res.name {
			res.diags = append(res.diags, diag.New(diag.CodePackage, userPos(f.file.Decls[0].Pos()),
				"the file is of package %q, but %q is of package %q", name, first, res.name).
				WithFix("write `package %s`, or move the file to a folder of its own", res.name))
		}
		res.library = res.library && isLibrary(f.file)
		files = append(files, f)
	}
	return files, res
}

// isLibrary reports whether a file holds definitions for others and adds nothing
// to the mesh by itself.
func isLibrary(f *ast.File) bool {
	defines := false
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.Field:
			name, ok := labelName(d.Label)
			if !ok || !isPrivate(name) {
				return false
			}
			defines = true
		case *ast.Comprehension:
			return false
		}
	}
	return defines
}

// checkBound demands `mesh: intent.#Mesh` once in the package's folder and once
// in the environment's. Identifiers are resolved by then, so that a local name
// "intent" cannot stand in for the schema.
func checkBound(u unit, files []parsed) diag.List {
	var out diag.List
	for _, part := range [][]string{u.base, u.overlay} {
		if len(part) == 0 {
			continue
		}
		bound := slices.ContainsFunc(files, func(f parsed) bool { return slices.Contains(part, f.path) && binds(f.file) })
		if !bound {
			out = append(out, diag.New(diag.CodeNoMesh, diag.Pos{File: part[0], Line: 1, Col: 1}, "nothing here binds mesh to the schema").
				WithFix("write `import \"meshc.dev/intent\"` and `mesh: intent.#Mesh` in one file of the folder"))
		}
	}
	return out
}

func binds(f *ast.File) bool {
	for _, d := range f.Decls {
		field, ok := d.(*ast.Field)
		if !ok || field.Constraint != token.ILLEGAL {
			continue
		}
		if name, ok := labelName(field.Label); ok && name == "mesh" && isMeshExpr(field.Value) {
			return true
		}
	}
	return false
}

// isMeshExpr reports whether v is intent.#Mesh or a unification with it.
func isMeshExpr(v ast.Expr) bool {
	switch v := v.(type) {
	case *ast.BinaryExpr:
		return v.Op == token.AND && (isMeshExpr(v.X) || isMeshExpr(v.Y))
	case *ast.ParenExpr:
		return isMeshExpr(v.X)
	case *ast.SelectorExpr:
		name, err := labelText(v.Sel)
		id, isIdent := v.X.(*ast.Ident)
		if err != nil || name != "#Mesh" || !isIdent {
			return false
		}
		spec, ok := id.Node.(*ast.ImportSpec)
		if !ok {
			return false
		}
		p, ok := unquote(spec.Path)
		return ok && isSchema(p)
	}
	return false
}

func labelText(l ast.Label) (string, error) {
	id, ok := l.(*ast.Ident)
	if !ok {
		return "", fmt.Errorf("not an identifier")
	}
	return id.Name, nil
}

// valid evaluates an instance and reports everything that is wrong with it.
func valid(inst *build.Instance, red *reducer) (cue.Value, diag.List) {
	v := cuecontext.New().BuildInstance(inst)
	if err := v.Validate(cue.Concrete(true)); err != nil {
		return v, red.reduce(err)
	}
	return v, nil
}

// computed asks CUE for the field mesh of a valid package. It goes through JSON,
// which is cheaper than CUE's own decoding.
func computed(v cue.Value, red *reducer) (any, diag.List) {
	if l := strayFields(v, red); l.HasErrors() {
		return nil, l
	}
	raw, err := v.LookupPath(cue.MakePath(cue.Str("mesh"))).MarshalJSON()
	if err != nil {
		return nil, red.reduce(err)
	}
	mesh, err := decode(raw)
	if err != nil {
		return nil, diag.List{diag.New(diag.CodeEval, red.pos.nearest("mesh"), "mesh: %v", err)}
	}
	return mesh, nil
}

// strayFields finds top-level fields that a comprehension made; the lint has
// seen the others.
func strayFields(v cue.Value, red *reducer) diag.List {
	it, err := v.Fields()
	if err != nil {
		return red.reduce(err)
	}
	var out diag.List
	for it.Next() {
		if name := it.Selector().Unquoted(); name != "mesh" {
			out = append(out, diag.New(diag.CodeTopLevel, red.place(name, it.Value().Pos()), "the field %q at the top of a file means nothing to meshc", name).
				WithFix("%s", topLevelFix(name)))
		}
	}
	return out
}

// decode reads JSON; numbers keep their digits.
func decode(raw []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, fmt.Errorf("decoding the evaluated value: %w", err)
	}
	return v, nil
}

func newPackage(dir string, mesh any, pos *index, replaced []Replaced) *Package {
	return &Package{Dir: dir, Replaced: replaced, Mesh: Node{value: mesh, path: "mesh", pos: pos, last: pos.nearest("mesh")}}
}
