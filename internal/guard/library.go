package guard

import (
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// librariesOf names the packages that rules below root share. What nobody uses counts
// to the rules over a mesh, so that each file is compiled at least once.
func librariesOf(sets []source, root string) map[string]bool {
	used := reached(sets, root)
	if root != meshRoot {
		return used
	}
	elsewhere := reached(sets, objectRoot)
	for _, s := range sets {
		for _, m := range s.files {
			if pkg := packageOf(m); under(pkg, libRoot) && !elsewhere[pkg] {
				used[pkg] = true
			}
		}
	}
	return used
}

// reached names the libraries that packages below root refer to, directly or not.
func reached(sets []source, root string) map[string]bool {
	libs := map[string]bool{}
	users := map[string][]*ast.Module{} // by package
	for _, s := range sets {
		for _, m := range s.files {
			pkg := packageOf(m)
			users[pkg] = append(users[pkg], m)
			if under(pkg, libRoot) {
				libs[pkg] = true
			}
		}
	}
	out := map[string]bool{}
	var follow func(pkg string)
	follow = func(pkg string) {
		for _, m := range users[pkg] {
			for lib := range named(m, libs) {
				if !out[lib] {
					out[lib] = true
					follow(lib)
				}
			}
		}
	}
	for pkg := range users {
		if under(pkg, root) {
			follow(pkg)
		}
	}
	return out
}

// named are those of the libraries whose names stand in a module, in an import or a reference.
func named(m *ast.Module, libs map[string]bool) map[string]bool {
	out := map[string]bool{}
	ast.WalkRefs(m, func(r ast.Ref) bool {
		if !r.HasPrefix(ast.DefaultRootRef) {
			return false
		}
		ref := strings.TrimPrefix(r.String(), "data.")
		for lib := range libs {
			if related(ref, lib) {
				out[lib] = true
			}
		}
		return false
	})
	return out
}
