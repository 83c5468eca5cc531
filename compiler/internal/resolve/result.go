package resolve

import (
	"strings"
	"time"

	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
)

// Result is a linked mesh and what was noted on the way.
type Result struct {
	Mesh *model.Mesh
	// Positions are the user's lines of mesh paths.
	Positions release.Positions
	// Expiries are the instants after the compile date at which something of the
	// intent ends, sorted, each once.
	Expiries []time.Time
	// Exceptions are the temporary weakenings in force.
	Exceptions []Exception
	// Owners maps mesh paths to the owners written there; those that follow from
	// the package are left out.
	Owners map[string]string
	Tests  []Test
	// Packages are all packages, sorted by folder.
	Packages []Package
	// Enforcement is what is let through in a cluster although rules over objects refuse it.
	Enforcement release.Enforcement
	// Defaults are what the root package and the owners of namespaces say for all that says
	// nothing nearer, the mesh's first, then by namespace and field.
	Defaults []Said
	// Targets are the output forms that the root package asks for, beside envoy.
	Targets []Target
}

// Said is a word of a `default`.
type Said struct {
	// Namespace is whose it is, "" for the whole mesh.
	Namespace string
	Field     string
	// Value is what stands there, as JSON.
	Value string
	Pos   diag.Pos
}

// said are the words of all defaults in force.
func (l *linker) said() []Said {
	var out []Said
	add := func(namespace string, n intent.Node) {
		for _, e := range n.Field("default").Fields() {
			if v, err := e.Node.JSON(); err == nil { // which was decoded from JSON
				out = append(out, Said{namespace, e.Name, string(v), e.Node.Pos()})
			}
		}
	}
	if l.root != nil {
		add("", l.root.node)
	}
	for _, name := range sortedKeys(l.domains) {
		if owner := l.domains[name].owner; !owner.root {
			add(name, owner.node)
		}
	}
	return out
}

// Target is what the root package says of an output form; ok is false if it does not
// ask for it.
func (r *Result) Target(name string) (t Target, ok bool) {
	for _, t := range r.Targets {
		if t.Name == name {
			return t, true
		}
	}
	return Target{}, false
}

// Target is an output form that the root package asks for.
type Target struct {
	Name string
	// Version is the target's version to compile for, "" for the default.
	Version string
	// Injection is what pods get, nil for nothing.
	Injection *release.Injection
	// NetworkPolicies asks for them.
	NetworkPolicies bool
	// AdmissionPolicies asks for the rules that an API server keeps by itself.
	AdmissionPolicies bool
	// Without is what it may go without, sorted by name. Nobody looked yet whether it must.
	Without []Accepted
}

// Accepted is a loss that the root package accepts.
type Accepted struct {
	// Name is a word of the table of what each target can say, if it is one.
	Name          string
	Owner, Reason string
	Pos           diag.Pos
}

// Package is a package of the intent and who answers for it.
type Package struct {
	// Dir is its folder, "." for the root package.
	Dir   string
	Owner string
	// Files are its own and those of all environments that join it, sorted.
	Files []string
	Pos   diag.Pos
}

// Exception is a deviation with somebody who answers for it, temporary if it ends.
type Exception struct {
	// Path is the mesh path of what it weakens ("mesh", "namespace/shop", a service's path, or that and "/port/http" or "/grant/all", "rule/pod-proxy-user", "exemption/old-agent").
	Path string `json:"path"`
	// Kind is "mtls", "grant" (to anyone), "external" (that leads inside), "rule" (Mode is its severity meanwhile), "exemption", or a feature's name.
	Kind   string `json:"kind"`
	Mode   string `json:"mode,omitempty"`
	Owner  string `json:"owner,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Until is RFC 3339, "" if it never ends.
	Until string `json:"until,omitempty"`
}

// Test is a `test:` block: a request and what is expected of it.
type Test struct {
	Name string
	Pos  diag.Pos
	// From is the caller's SPIFFE ID, "" for none. FromClass is its proxy class's text.
	From string
	// Gateway is set if the request enters at a gateway; To is the ID of the service or gateway.
	Gateway bool
	To      string
	Port    string
	Host    string
	Method  string
	Path    string
	Headers map[string]string
	// Users are the tokens of end users that it brings along.
	Users []space.User
	// HTTP is the version that the caller speaks, ServerName what its connection asks for (SNI); "" for the defaults.
	HTTP       string
	ServerName string
	// Certificate is what its visitor shows, "" for none.
	Certificate string
	// Source and Client are addresses: of its connection, and of the visitor as a gateway sees him; "" for one that nothing names.
	Source, Client string
	// Pause is how long the sender is silent before the request's end, After how long its destination
	// works on it from there.
	Pause, After time.Duration
	Expect       Expect
}

// Expect is what a test demands; nil or "" demands nothing.
type Expect struct {
	Allowed *bool
	Status  int
	// Closed is whether there is no answer.
	Closed *bool
	// To is a service's ID, Port its port's name, Version a version's name.
	To, Port, Version string
	// Path and Host are those that arrive, the path without its query.
	Path, Host string
	// By is who answers: "application", "callee", "caller" or "gateway".
	By string
	// RequestHeaders are tests on the headers that arrive, ResponseHeaders on those that the caller gets; all have to hold.
	RequestHeaders, ResponseHeaders []space.Test
	// Copies must arrive there, and NoCopies must not.
	Copies, NoCopies []Copied
}

// Copied is where copies arrive: a service's ID, and its port and version, "" for any.
type Copied struct{ To, Port, Version string }

// Takes reports whether a copy that arrives at "namespace/service/port/version" is such a one.
func (c Copied) Takes(target string) bool {
	is := strings.Split(target, "/")
	return len(is) == 4 && c.To == is[0]+"/"+is[1] && (c.Port == "" || c.Port == is[2]) && (c.Version == "" || c.Version == is[3])
}

// nothing reports whether a test demands nothing at all.
func (e Expect) nothing() bool {
	return e.Allowed == nil && e.Closed == nil && e.Status == 0 && e.To+e.Port+e.Version+e.Path+e.Host+e.By == "" &&
		len(e.RequestHeaders)+len(e.ResponseHeaders)+len(e.Copies)+len(e.NoCopies) == 0
}
