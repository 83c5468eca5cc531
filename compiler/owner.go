package compiler

import (
	"strings"

	"meshc.dev/meshc/compiler/release"
)

// OwnerOf says who answers for the Envoy resource of that name in a release: the
// owner of the service, gateway or external that its name holds; "" if unknown.
func OwnerOf(r release.Release, resource string) string {
	p, err := Open(r)
	if err != nil {
		return ""
	}
	best, owner := 0, ""
	match := func(id, o string) {
		if strings.Contains("/"+resource+"/", "/"+id+"/") && len(id) > best {
			best, owner = len(id), o
		}
	}
	for _, s := range p.mesh.Services {
		match(s.ID, s.Owner)
	}
	for _, g := range p.mesh.Gateways {
		match(g.ID, g.Owner)
	}
	for _, e := range p.mesh.Externals {
		match(e.ID, e.Owner)
	}
	return owner
}
