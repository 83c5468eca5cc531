package resolve

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/internal/diag"
)

// mostRoots is how many certificates a bundle may have: each stands in what proxies ask their agents for.
const mostRoots = 8

// pemBegins is what each block of PEM begins with (RFC 7468).
const pemBegins = "-----BEGIN "

// domainNames are the names of trust domains.
func domainNames(ds []model.TrustDomain) []string {
	var out []string
	for _, d := range ds {
		out = append(out, d.Name)
	}
	return out
}

// readTrust reads which other trust domains there are, and whose authorities sign their identities. No authority signs for
// two: whoever has one of both could be anybody in the other one.
func (l *linker) readTrust(n intent.Node) {
	whose := map[string]string{}
	for _, e := range n.Field("aliases").Fields() {
		l.place(model.AliasPath(e.Name), e.Node.Pos())
		if l.movedThere(n, e) {
			continue
		}
		l.otherDomain(e)
		l.declared.aliases = append(l.declared.aliases, model.TrustDomain{Name: e.Name, Roots: l.rootsOf(e, whose)})
	}
	for _, e := range n.Field("federation").Fields() {
		l.place(model.FederationPath(e.Name), e.Node.Pos())
		if a := n.Field("aliases").Field(e.Name); a.Exists() {
			l.add(diag.New(diag.CodeTrustDomains, e.Node.Pos(), "trust domain %q is another's here, and the mesh's own in `aliases`", e.Name).
				WithRelated(a.Pos(), "taken for the mesh's own").WithFix("keep one of them"))
		}
		l.otherDomain(e)
		l.declared.federation = append(l.declared.federation, model.TrustDomain{Name: e.Name, Roots: l.rootsOf(e, whose)})
	}
}

// movedThere reports whether an alias of the base is the own trust domain of the environment, which has moved before others.
// There the entry of the others says nothing, and cannot be taken away.
func (l *linker) movedThere(n intent.Node, e intent.Entry) bool {
	env, says := intent.EnvironmentOf(n.Field("trustDomain").Pos().File)
	if _, own := intent.EnvironmentOf(e.Node.Pos().File); e.Name != l.trustDomain || !says || own {
		return false
	}
	l.add(diag.Warn(diag.CodeTrustDomains, e.Node.Pos(), "%q is the mesh's own trust domain in environment %q, so that it is left out there", e.Name, env).
		WithRelated(n.Field("trustDomain").Pos(), "its own").WithFix("delete it when all environments have moved"))
	return true
}

// otherDomain refuses the mesh's own trust domain among others.
func (l *linker) otherDomain(e intent.Entry) {
	if e.Name == l.trustDomain {
		l.add(diag.New(diag.CodeTrustDomains, e.Node.Pos(), "%q is the mesh's own trust domain", e.Name).
			WithFix("delete it; while the mesh moves to another one, write the one that it leaves here"))
	}
}

// rootsOf are the roots of an entry's bundle, nil if it has none. whose says whose the public keys
// of other roots are: a certificate that is issued again has the same.
func (l *linker) rootsOf(e intent.Entry, whose map[string]string) []string {
	file := e.Node.Field("bundle").Field("file")
	if !file.Exists() {
		return nil
	}
	text, ok := l.fileText(l.declared.root, file)
	if !ok {
		return nil
	}
	roots, keys, err := readBundle(e.Name, []byte(text))
	if err != nil {
		l.add(diag.New(diag.CodeBundle, file.Pos(), "%q is no bundle of trust domain %q: %v", file.Str(), e.Name, err).
			WithFix("put the certificates of its authority there, in PEM and nothing else: `spire-server bundle show` prints them"))
	}
	for _, key := range keys {
		if other, known := whose[key]; known && other != e.Name {
			l.add(diag.New(diag.CodeBundle, file.Pos(), "trust domains %q and %q have a root in common: who has its key could be anybody in either", other, e.Name).
				WithFix("give each the bundle of its own authority"))
			break
		}
		whose[key] = e.Name
	}
	return roots
}

// readBundle are the roots of a trust domain, sorted, each once, and their public keys.
func readBundle(domain string, text []byte) (roots, keys []string, err error) {
	for rest := bytes.TrimSpace(text); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		block, after := pem.Decode(rest)
		// It skips what it cannot read, blocks as well as text.
		read := rest[:len(rest)-len(after)]
		if block == nil || len(block.Headers) > 0 || !bytes.HasPrefix(read, []byte(pemBegins)) || bytes.Count(read, []byte(pemBegins)) > 1 {
			return nil, nil, errors.New("there is text in it that is no PEM")
		}
		rest = after
		if block.Type != "CERTIFICATE" {
			return nil, nil, fmt.Errorf("it has %q, which no bundle has", block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		switch {
		case err != nil:
			return nil, nil, fmt.Errorf("certificate %d: %w", len(roots)+1, err)
		case !c.IsCA:
			return nil, nil, fmt.Errorf("certificate %d is of no authority (CA:FALSE)", len(roots)+1)
		case len(c.URIs) > 0 && c.URIs[0].Host != domain:
			return nil, nil, fmt.Errorf("certificate %d says that it is for %s", len(roots)+1, c.URIs[0])
		}
		roots = append(roots, base64.RawURLEncoding.EncodeToString(c.Raw))
		keys = append(keys, string(c.RawSubjectPublicKeyInfo))
	}
	switch slices.Sort(roots); {
	case len(roots) == 0:
		return nil, nil, errors.New("it is empty")
	case len(roots) > mostRoots:
		return nil, nil, fmt.Errorf("it has %d certificates, more than %d", len(roots), mostRoots)
	}
	return slices.Compact(roots), keys, nil
}

// settleAliases tells the mesh which trust domains are taken for its own now.
func (l *linker) settleAliases() {
	if l.declared.root == nil {
		return
	}
	lasting := map[string]bool{}
	for _, e := range l.lasting(l.declared.root.node.Field("aliases").Fields()) {
		lasting[e.Name] = true
	}
	for _, a := range l.declared.aliases {
		if lasting[a.Name] {
			l.mesh.Aliases = append(l.mesh.Aliases, a)
		}
	}
}
