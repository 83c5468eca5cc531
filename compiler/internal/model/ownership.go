package model

// Namespace says whose a namespace is and what its owner lets other packages do.
// Packages are named by their folders, "." is the root package.
type Namespace struct {
	Name string `json:"name"`
	// Package is the package that owns the namespace, Owner who answers for that package.
	Package string `json:"package"`
	Owner   string `json:"owner"`
	// Guests are the other packages that are in it by the owner's word, sorted.
	Guests []string `json:"guests,omitempty"`
	// Delegations are sorted by To.
	Delegations []Delegation `json:"delegations,omitempty"`
}

// Delegation is what one package may do with what another one owns.
type Delegation struct {
	// To is the package that may.
	To string `json:"to"`
	// Services says that it may declare services and externals in the namespace.
	Services bool `json:"services,omitempty"`
	// Accounts of the namespace that its services may run as, sorted.
	Accounts []string `json:"accounts,omitempty"`
	// Hosts of the owner's gateways that it may attach routes to, sorted by name.
	Hosts []DelegatedHost `json:"hosts,omitempty"`
}

// DelegatedHost is a host and the paths of it that are delegated; nil: all.
type DelegatedHost struct {
	Name  string `json:"name"`
	Paths []Path `json:"paths,omitempty"`
}

// AttachedName is the name of a route that a package attached. No route that was
// declared at the gateway, and no feature of one, can be called so.
func AttachedName(pkg, route string) string { return pkg + ":" + route }

// Mesh paths of ownership.

// OwnerPath is the mesh path of a namespace's owner.
func OwnerPath(namespace string) string { return "namespace/" + namespace + "/owner" }

// DelegationPath is the mesh path of what a namespace's owner delegates to a package.
func DelegationPath(namespace, to string) string { return "namespace/" + namespace + "/delegate/" + to }

// GuestPath is the mesh path of a package in another package's namespace.
func GuestPath(namespace, guest string) string { return "namespace/" + namespace + "/guest/" + guest }

// Namespace returns the namespace of that name.
func (m *Mesh) Namespace(name string) (Namespace, bool) {
	for _, n := range m.Namespaces {
		if n.Name == name {
			return n, true
		}
	}
	return Namespace{}, false
}
