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
	out := map[string]bool{}
	for grown := true; grown; {
		grown = false
		for _, s := range sets {
			for _, m := range s.files {
				if pkg := packageOf(m); !under(pkg, root) && !out[pkg] {
					continue
				}
				for lib := range named(m, sets) {
					grown = grown || !out[lib]
					out[lib] = true
				}
			}
		}
	}
	return out
}

// named are the libraries whose names stand in a module, in an import or a reference.
func named(m *ast.Module, sets []source) map[string]bool {
	out := map[string]bool{}
	ast.WalkRefs(m, func(r ast.Ref) bool {
		ref := strings.TrimPrefix(r.String(), "data.")
		for _, s := range sets {
			for _, other := range s.files {
				if pkg := packageOf(other); under(pkg, libRoot) && related(ref, pkg) {
					out[pkg] = true
				}
			}
		}
		return false
	})
	return out
}
