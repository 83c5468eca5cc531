package compiler

import (
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/feature/catalog"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
)

// Beside is what a service has for all requests together, whatever their routes.
type Beside struct {
	// To is the service's ID.
	To     string        `json:"to"`
	Fields []space.Field `json:"fields"`
}

// beside is what the services have that an outcome leads to, in its order: a limit that the
// proxies keep may still refuse a request that is forwarded.
func (p *Program) beside(o Outcome) []Beside {
	var out []Beside
	for _, share := range o.Shares {
		parts := strings.Split(share.Target, "/") // namespace/service/port/version
		if len(parts) != 4 {
			continue
		}
		s := p.mesh.Service(parts[0] + "/" + parts[1])
		if s == nil || slices.ContainsFunc(out, func(b Beside) bool { return b.To == s.ID }) {
			continue
		}
		b := Beside{To: s.ID}
		for _, f := range catalog.Meaning().Fields(s.TraitsAt(parts[2])) {
			if !slices.Contains(o.Fields, f) {
				b.Fields = append(b.Fields, f)
			}
		}
		if len(b.Fields) > 0 {
			out = append(out, b)
		}
	}
	return out
}

// notCalled is a service that has the identity, if none that has it calls the port: its own
// proxy has no way there, whatever is granted.
func (p *Program) notCalled(from string, to space.Scope) string {
	caller := ""
	for _, s := range p.mesh.Services {
		if !slices.ContainsFunc(s.Versions, func(v model.Version) bool { return s.Class(v).SPIFFEID(p.mesh.TrustDomain) == from }) {
			continue
		}
		if slices.ContainsFunc(s.Calls, func(c model.Call) bool { return c.To == to.ID && c.Port == to.Port }) {
			return ""
		}
		caller = s.ID
	}
	return caller
}
