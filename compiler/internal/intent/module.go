package intent

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/parser"
	"cuelang.org/go/cue/token"

	"meshc.dev/meshc/compiler/internal/source"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/schemas"
)

// readModule reads the path of the repository's CUE module, "" if it names none, without
// evaluating anything. What the cue command would not take for a module's file, or would
// read by other rules than meshc does, is told.
func readModule(t source.Tree) (name string, diags diag.List) {
	text, ok := t.Files[source.ModuleFile]
	if !ok {
		return "", nil
	}
	f, err := parser.ParseFile(source.ModuleFile, text, parser.Version(schemas.LanguageVersion))
	if err != nil {
		return "", syntaxErrors(source.ModuleFile, text, err)
	}
	name, at, ok := literalAt(f.Decls, "module")
	if !ok || name == "" {
		if !at.IsValid() {
			at = f.Pos()
		}
		diags = append(diags, diag.New(diag.CodeModule, moduleLine(at), "the file does not name its module").
			WithFix("write: module: \"example.com/mesh@v0\""))
	}
	name, _, _ = strings.Cut(name, "@")
	version, at, ok := literalAt(f.Decls, "language", "version")
	switch {
	case !at.IsValid(): // as meshc reads it
	case !ok || cueVersion(version) == nil:
		diags = append(diags, diag.New(diag.CodeModule, moduleLine(at), "the version of the CUE language is none").
			WithFix("write: language: version: %q", schemas.LanguageVersion))
	case slices.Compare(cueVersion(version), cueVersion(schemas.LanguageVersion)) > 0:
		diags = append(diags, diag.New(diag.CodeModule, moduleLine(at), "the files are said to be in CUE %s, and this meshc knows %s", version, schemas.LanguageVersion).
			WithFix("write language: version: %q, or take a newer meshc everywhere: servers compile the files again", schemas.LanguageVersion))
	case slices.Compare(cueVersion(version), cueVersion(schemas.LanguageVersion)) < 0:
		diags = append(diags, diag.Warn(diag.CodeModule, moduleLine(at), "the files are said to be in CUE %s, and are read as %s", version, schemas.LanguageVersion).
			WithFix("write language: version: %q, so that `cue vet` agrees", schemas.LanguageVersion))
	}
	return name, diags
}

// moduleLine is where the module's file says something.
func moduleLine(p token.Pos) diag.Pos {
	if at := userPos(p); at.File != "" {
		return at
	}
	return diag.Pos{File: source.ModuleFile, Line: 1, Col: 1}
}

// literalAt is the string at a path of fields. ok is false if there is none; at is invalid
// if the field is not there at all.
func literalAt(decls []ast.Decl, path ...string) (value string, at token.Pos, ok bool) {
	for _, d := range decls {
		field, isField := d.(*ast.Field)
		if !isField {
			continue
		}
		if name, _ := labelName(field.Label); name != path[0] {
			continue
		}
		switch v := field.Value.(type) {
		case *ast.StructLit:
			if len(path) > 1 {
				if value, at, ok = literalAt(v.Elts, path[1:]...); at.IsValid() {
					return value, at, ok
				}
				continue
			}
		case *ast.BasicLit:
			if len(path) == 1 && v.Kind == token.STRING {
				value, ok = unquote(v)
			}
		}
		return value, field.Value.Pos(), ok
	}
	return "", token.NoPos, false
}

var versionForm = regexp.MustCompile(`^v(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6})(?:-[0-9A-Za-z.-]+)?)?$`)

// cueVersion reads v0.17.0, v0.17 or v0.17.0-rc.1, which is taken for v0.17.0; nil if it is
// none of them.
func cueVersion(s string) []int {
	m := versionForm.FindStringSubmatch(s)
	if m == nil {
		return nil
	}
	out := make([]int, len(m)-1)
	for i, digits := range m[1:] {
		out[i], _ = strconv.Atoi(digits) // a few digits, or none
	}
	return out
}
