package intent

import "cuelang.org/go/cue/ast"

// flatten joins the schema's files into one in which every definition stands
// once. Each feature extends #Route or #Service in a file of its own, which reads
// well, but every such piece is one more conjunct of every route. The meaning is
// the same: pieces of one definition are closed together.
func flatten(files []*ast.File) *ast.File {
	out := &ast.File{Filename: files[0].Filename}
	structs := map[string]*ast.StructLit{}
	for i, f := range files {
		for _, d := range f.Decls {
			field, ok := d.(*ast.Field)
			if !ok {
				if _, isPackage := d.(*ast.Package); isPackage && i == 0 {
					out.Decls = append(out.Decls, d)
				}
				continue
			}
			name, _ := labelName(field.Label)
			lit, isStruct := field.Value.(*ast.StructLit)
			if first := structs[name]; isStruct && first != nil {
				first.Elts = append(first.Elts, lit.Elts...)
				continue
			}
			if isStruct {
				structs[name] = lit
			}
			out.Decls = append(out.Decls, d)
		}
	}
	return out
}
