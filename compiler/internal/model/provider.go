package model

import (
	"net/url"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/internal/certref"
)

// Provider says whose tokens (JWT, RFC 7519) are believed, and how they are found. ID is
// "namespace/name".
type Provider struct {
	ID     string `json:"id"`
	Issuer string `json:"issuer"`
	// Audiences are those of which a token has to name one, sorted; none: it may be for anybody.
	Audiences []string `json:"audiences,omitempty"`
	// Keys are the issuer's public keys: a JWK Set (RFC 7517) without anything that checks no signature; "" if
	// proxies fetch them.
	Keys    string   `json:"keys,omitempty"`
	Fetched *Fetched `json:"fetched,omitempty"`
	// Credentials are keys or passwords of users in the place of tokens; nil for tokens. Then there are no
	// issuer, no audiences and no keys.
	Credentials *Credentials `json:"credentials,omitempty"`
	From        Tokens       `json:"from"`
	// Forward lets applications have the token.
	Forward bool `json:"forward,omitempty"`
	// Claims are what applications are told of a user, sorted by header.
	Claims []Claim `json:"claims,omitempty"`
	// Skew is how far clocks may differ, in whole seconds.
	Skew uint32 `json:"skew"`
}

// Fetched is where the keys of a provider are, by HTTPS.
type Fetched struct {
	// To is the ID of an external, Port one of its ports.
	To   string `json:"to"`
	Port string `json:"port"`
	Path string `json:"path"`
	// Cache is after how many seconds they are fetched again.
	Cache uint32 `json:"cache"`
}

// Credentials are those that users sign in by, by where they lie. Nothing of what is in there is part of a mesh.
type Credentials struct {
	Certificate
	// Basic says that they are names with passwords (RFC 7617), else keys.
	Basic bool `json:"basic,omitempty"`
	// Realm is what browsers are told of passwords.
	Realm string `json:"realm,omitempty"`
}

// Ref is the name by which the proxy's agent is asked.
func (c Credentials) Ref() certref.Ref {
	ref := c.Certificate.Ref()
	if ref.Kind = certref.Keys; c.Basic {
		ref.Kind = certref.Passwords
	}
	return ref
}

// Target is that external as a destination.
func (f Fetched) Target() Target { return Target{Service: f.To, Port: f.Port} }

// KeyID is the same for providers with the same keys.
func (p Provider) KeyID() string {
	if p.Fetched != nil {
		return p.Fetched.To + ":" + p.Fetched.Port + p.Fetched.Path
	}
	if p.Credentials != nil {
		return p.Credentials.Ref().String()
	}
	return p.Keys
}

// Tokens are the places of a request in which a token is looked for, each list sorted by name.
type Tokens struct {
	Headers []TokenHeader `json:"headers,omitempty"`
	Query   []string      `json:"query,omitempty"`
	Cookies []string      `json:"cookies,omitempty"`
}

// TokenHeader is a header, in lower case, in which a token stands behind a prefix.
type TokenHeader struct {
	Name   string `json:"name"`
	Prefix string `json:"prefix,omitempty"`
}

// Claim is a claim of a token that a header has for applications.
type Claim struct {
	// Header is in lower case.
	Header string `json:"header"`
	// Name is the claim, "a.b" for b within a.
	Name string `json:"name"`
}

// Right are the tokens that count: to a provider without audiences those for others, too. Keys and passwords have none.
func (p Provider) Right() []string {
	if len(p.Audiences) > 0 || p.Credentials != nil {
		return []string{space.SignedIn}
	}
	return []string{space.SignedIn, space.OtherAudience}
}

// ClaimSteps are the names on the way to a claim.
func ClaimSteps(name string) []string { return strings.Split(name, ".") }

// Meets is a place in which both look for a token, in words; "" if there is none.
func (t Tokens) Meets(o Tokens) string {
	for _, h := range t.Headers {
		if o.InHeader(h.Name) {
			return "header " + h.Name
		}
	}
	for _, name := range t.Query {
		if slices.Contains(o.Query, name) {
			return "parameter " + name
		}
	}
	for _, name := range t.Cookies {
		if slices.Contains(o.Cookies, name) {
			return "cookie " + name
		}
	}
	if len(t.Cookies) > 0 && o.InHeader(cookie) || len(o.Cookies) > 0 && t.InHeader(cookie) {
		return "header " + cookie
	}
	return ""
}

// Finds reports whether something is found where t looks if a token stands in the first of o's places, and
// whether that is the token as a whole.
func (t Tokens) Finds(o Tokens) (found, whole bool) {
	switch {
	case len(o.Headers) > 0:
		h := o.Headers[0]
		for _, own := range t.Headers {
			if own.Name == h.Name && (own.Prefix == h.Prefix || strings.Contains(h.Prefix, own.Prefix)) {
				return true, own.Prefix == h.Prefix
			}
		}
		return false, false
	case len(o.Cookies) > 0:
		return t.InHeader(cookie) || slices.Contains(t.Cookies, o.Cookies[0]), slices.Contains(t.Cookies, o.Cookies[0])
	default:
		is := len(o.Query) > 0 && slices.Contains(t.Query, o.Query[0])
		return is, is
	}
}

const cookie = "cookie"

// InHeader reports whether a token is looked for in a header, as a whole.
func (t Tokens) InHeader(name string) bool {
	return slices.ContainsFunc(t.Headers, func(h TokenHeader) bool { return h.Name == name })
}

// Session is the header in which the token of a login's session stands, behind its prefix; "" if that cannot be: tokens are
// looked for in several places, behind words that no session has, or among cookies, which browsers send by themselves.
func (p Provider) Session() string {
	t := p.From
	if len(t.Headers) != 1 || len(t.Query)+len(t.Cookies) > 0 {
		return ""
	}
	if h := t.Headers[0]; h.Name == "authorization" && h.Prefix == "Bearer " || h.Name != "authorization" && h.Name != cookie && h.Prefix == "" {
		return h.Name
	}
	return ""
}

// Found reports whether something stands where a token is looked for, as Envoy reads it: a header's
// lines together, behind the first prefix in them.
func (t Tokens) Found(q space.Request) bool {
	for _, h := range t.Headers {
		var lines []string
		for _, l := range q.Headers {
			if l.Name == h.Name {
				lines = append(lines, l.Value)
			}
		}
		if len(lines) > 0 && strings.Contains(strings.Join(lines, ","), h.Prefix) {
			return true
		}
	}
	if slices.ContainsFunc(t.Cookies, func(name string) bool { return hasCookie(q, name) }) {
		return true
	}
	for pair := range strings.SplitSeq(q.Query, "&") {
		name, _, _ := strings.Cut(pair, "=")
		if plain, err := url.PathUnescape(name); err == nil {
			name = plain
		}
		if slices.Contains(t.Query, name) {
			return true
		}
	}
	return false
}

// hasCookie reports whether Envoy finds a cookie, for which blanks before its name are none of it, and those behind it are: there
// is no such cookie in "sid =x".
func hasCookie(q space.Request, name string) bool {
	for _, l := range q.Headers {
		if l.Name != cookie {
			continue
		}
		for pair := range strings.SplitSeq(l.Value, ";") {
			if before, _, ok := strings.Cut(strings.TrimLeft(pair, " "), "="); ok && before == name {
				return true
			}
		}
	}
	return false
}

// Judges is what a token is to p that another provider, or p, has signed as is said.
func (p Provider) Judges(of Provider, said space.User) string {
	var audiences []string
	for _, c := range of.Says(said) {
		if c.Name == "aud" {
			audiences = append(audiences, c.Value)
		}
	}
	switch {
	case said.Token == space.BadToken || p.Issuer != of.Issuer || p.Credentials != nil && said.Token != space.SignedIn:
		return space.BadToken
	case len(p.Audiences) > 0 && !slices.ContainsFunc(audiences, func(a string) bool { return slices.Contains(p.Audiences, a) }):
		return space.OtherAudience // which Envoy asks before it looks for a key
	case p.KeyID() != of.KeyID():
		return space.BadToken
	}
	return space.SignedIn
}

// Says are the claims of a token of p of which something is said: what is not, is the issuer and the
// first audience. One for somebody else names nobody here.
func (p Provider) Says(said space.User) []space.Claim {
	out := slices.Clone(said.Claims)
	add := func(name, value string) {
		if !slices.ContainsFunc(out, func(c space.Claim) bool { return c.Name == name }) {
			out = append(out, space.Claim{Name: name, Value: value})
		}
	}
	add("iss", p.Issuer)
	if said.Token == space.SignedIn && len(p.Audiences) > 0 {
		add("aud", p.Audiences[0])
	}
	return out
}

// CredentialsAt are those by which some of those hosts of a gateway sign users in, sorted by ID.
func (m *Mesh) CredentialsAt(g *Gateway, hosts ...Host) []Credentials {
	var out []Credentials
	for _, p := range m.Providers {
		signs := func(r EffectiveRoute) bool { _, ok := r.Traits.SignedIn(p.ID); return ok }
		if p.Credentials != nil && slices.ContainsFunc(hosts, func(h Host) bool { return slices.ContainsFunc(m.GatewayRoutes(g, h), signs) }) {
			out = append(out, *p.Credentials)
		}
	}
	return out
}
