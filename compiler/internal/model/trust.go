package model

import (
	"slices"
	"strings"

	"meshc.dev/meshc/internal/certref"
)

// TrustDomain is a trust domain beside the mesh's own.
type TrustDomain struct {
	Name string `json:"name"`
	// Roots are the certificates of the authority that signs its identities, DER in base64 of the alphabet for URLs, without
	// padding; nil are the mesh's own. No other trust domain has one of them.
	Roots []string `json:"roots,omitempty"`
}

// AliasPath is the mesh path of a trust domain that is taken for the mesh's own.
func AliasPath(domain string) string { return "alias/" + domain }

// FederationPath is the mesh path of a trust domain of others.
func FederationPath(domain string) string { return "federation/" + domain }

const scheme = "spiffe://"

// identityPrefix is what the identities of a trust domain begin with.
func identityPrefix(trustDomain string) string { return scheme + trustDomain + "/" }

// Own is an identity as the mesh names it: of a trust domain that is taken for its own, that of the same path there.
func (m *Mesh) Own(identity string) string {
	for _, a := range m.Aliases {
		if path, ok := strings.CutPrefix(identity, identityPrefix(a.Name)); ok {
			return identityPrefix(m.TrustDomain) + path
		}
	}
	return identity
}

// Domains are the trust domains whose identities are the mesh's own, the mesh's first.
func (m *Mesh) Domains() []string {
	out := []string{m.TrustDomain}
	for _, a := range m.Aliases {
		out = append(out, a.Name)
	}
	return out
}

// Trust is the name of a secret with the roots of the mesh's own authority and of others, each for its own trust domain
// alone: those that are taken for the mesh's own, and some of others. "" says that the mesh's own roots do.
func (m *Mesh) Trust(foreign []string) string {
	trust, others := certref.Trust{}, len(foreign) > 0
	for _, a := range m.Aliases {
		trust[a.Name] = a.Roots
		others = others || a.Roots != nil
	}
	if !others {
		return ""
	}
	for _, f := range m.Federation {
		if slices.Contains(foreign, f.Name) {
			trust[f.Name] = f.Roots
		}
	}
	return trust.String()
}

// ForeignDomain is the trust domain of others in which one of Terms.Identities is; ok is false for the mesh's own.
func ForeignDomain(identity string) (domain string, ok bool) {
	rest, ok := strings.CutPrefix(identity, scheme)
	domain, _, _ = strings.Cut(rest, "/")
	return domain, ok
}

// Foreign are the trust domains of others whose certificates are taken at a port: those that its grants name, sorted.
func (s *Service) Foreign(p Port) []string {
	if p.MTLS == Disable {
		return nil
	}
	var out []string
	for _, g := range s.Grants {
		if g.Ports != nil && !slices.Contains(g.Ports, p.Name) || !p.Protocol.IsHTTP() && g.AsksRequests() {
			continue
		}
		for _, id := range g.Identities {
			if domain, ok := ForeignDomain(id); ok {
				out = append(out, domain)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
