package compiler

import (
	"io/fs"

	"meshc.dev/meshc/compiler/internal/eval"
	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/invariant"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/internal/diag"
)

// LoadUnproved is Load of intent of which nobody asks whether its nevers hold.
func LoadUnproved(fsys fs.FS, o Options) (*Program, diag.List) {
	s, ds := Read(fsys)
	if ds.HasErrors() {
		return nil, ds
	}
	in, ds := intent.Load(s, intent.Options{Environment: o.Environment})
	if ds.HasErrors() {
		return nil, ds
	}
	return linked(in, o.At, "", nil)
}

// Breach is how a never is broken.
type Breach struct {
	invariant.Breach
	// Asked is the request, as Decide takes it.
	Asked Request
}

// Breaches are how the nevers are broken.
func (p *Program) Breaches() []Breach {
	var out []Breach
	for _, b := range p.breaches() {
		out = append(out, Breach{b, requestOf(b)})
	}
	return out
}

// LetsIn reports whether the proxy of a service lets a request in that is put to itself.
func (p *Program) LetsIn(service, port string, q space.Request) bool {
	s := p.mesh.Service(service)
	at, _ := s.Port(port)
	r, _ := eval.First(eval.Access(p.mesh, s, at), q)
	return r.Then.Verdict == space.Forward
}

// Nevers are what must never be allowed.
func (p *Program) Nevers() []model.Never { return p.mesh.Nevers }
