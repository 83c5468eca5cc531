package model

import (
	"path"
	"slices"
)

// Never is requests of which none may be allowed, whatever grants and routes say. It is read as a
// deny is, and refuses nothing: a mesh that allows such a request is not compiled.
type Never struct {
	Deny
	// Package is the folder of the package that says it, "." for the root package, which may speak of
	// all destinations; another one's words are about its own.
	Package string `json:"package"`
	// To are the services and externals, "namespace/name", in which "*" stands for any name; sorted.
	To []string `json:"to"`
}

// Root reports whether it is the root package's.
func (n Never) Root() bool { return n.Package == "." }

// About reports whether a never speaks of the service or external with that ID, which home declares.
func (n Never) About(id, home string) bool {
	return (n.Root() || n.Package == home) && slices.ContainsFunc(n.To, func(pattern string) bool { return Fits(pattern, id) })
}

// Fits reports whether an ID fits a pattern of IDs, in which "*" stands for any namespace or name.
func Fits(pattern, id string) bool {
	ok, err := path.Match(pattern, id)
	return ok && err == nil
}

// Home is the folder of the package that declares something in a namespace: guest, or, where that
// is "", the namespace's owner.
func (m *Mesh) Home(namespace, guest string) string {
	if guest != "" {
		return guest
	}
	n, _ := m.Namespace(namespace)
	return n.Package
}
