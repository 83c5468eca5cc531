package compiler

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/internal/hop"
)

// User is what a request brings along for a provider of tokens.
type User = space.User

// Claim is one thing that a token says.
type Claim = space.Claim

// What a token is to its provider.
const (
	SignedIn      = space.SignedIn
	OtherAudience = space.OtherAudience
	BadToken      = space.BadToken
)

// ReadClaim reads "provider:claim=value", what a user's token says, into users: whoever says something is signed in.
func ReadClaim(users []User, text string) ([]User, error) {
	provider, claim, ok := strings.Cut(text, ":")
	name, value, said := strings.Cut(claim, "=")
	if !ok || !said || provider == "" || name == "" {
		return users, fmt.Errorf("%q is no claim of a token, such as corp:groups=staff", text)
	}
	i := slices.IndexFunc(users, func(u User) bool { return u.Provider == provider })
	if i < 0 {
		i, users = len(users), append(users, User{Provider: provider, Token: SignedIn})
	}
	if users[i].Token != SignedIn {
		return users, fmt.Errorf("%q says something of a token that is wrong: only a right one counts", text)
	}
	users[i].Claims = append(users[i].Claims, space.Claim{Name: name, Value: value})
	return users, nil
}

// ReadUser reads "provider" or "provider=token", as command lines have it.
func ReadUser(text string) (User, error) {
	name, token, ok := strings.Cut(text, "=")
	if !ok {
		token = SignedIn
	}
	if name == "" || !slices.Contains([]string{SignedIn, OtherAudience, BadToken}, token) {
		return User{}, fmt.Errorf("%q names no provider of tokens, such as corp, with one of =%s, =%s, =%s behind it", text, SignedIn, OtherAudience, BadToken)
	}
	return User{Provider: name, Token: token}, nil
}

// Provider says whose tokens are believed, and how they are found.
type Provider = model.Provider

// Providers are those of the mesh, sorted.
func (p *Program) Providers() []Provider { return slices.Clone(p.mesh.Providers) }

// Provider finds a provider of tokens by ID, by name in a namespace, or by a name that is unique.
func (p *Program) Provider(name, namespace string) (Provider, error) {
	var hits []model.Provider
	var names []string
	for _, x := range p.mesh.Providers {
		if x.ID == name || x.ID == namespace+"/"+name {
			return x, nil
		}
		if _, short, _ := strings.Cut(x.ID, "/"); short == name {
			hits = append(hits, x)
		}
		names = append(names, x.ID)
	}
	switch len(hits) {
	case 0:
		return model.Provider{}, fmt.Errorf("the mesh has no provider of tokens %q (it has %s)", name, some(names))
	case 1:
		return hits[0], nil
	}
	return model.Provider{}, fmt.Errorf("several providers of tokens are called %q: write namespace/name", name)
}

// signedIn is the request with what its tokens are to each provider. One that is told of is for the
// first audience, if it is right and says nothing of it, and is what stands where its provider looks first; where nothing is told,
// what stands there is no token.
func (p *Program) signedIn(q space.Request, r Request) (space.Request, error) {
	q.Users = nil
	told := make([]model.Provider, len(r.Users))
	for i, u := range r.Users {
		of, err := p.Provider(u.Provider, r.Namespace)
		if err != nil {
			return q, err
		}
		told[i] = of
	}
	for _, x := range p.mesh.Providers {
		token, known := space.NoToken, false
		var said []space.Claim
		for i, of := range told {
			found, whole := x.From.Finds(of.From)
			switch {
			case whole:
				token, known, said = worse(token, x.Judges(of, r.Users[i])), true, of.Says(r.Users[i])
			case found:
				token, known = space.BadToken, true
			}
		}
		if !known && x.From.Found(q) {
			token = space.BadToken
		}
		if token != space.SignedIn {
			said = nil // what a wrong one says nobody believes
		}
		if token != space.NoToken {
			q.Users = append(q.Users, User{Provider: x.ID, Token: token, Claims: said})
		}
	}
	return q, nil
}

// worse is what becomes of a request with two tokens: each has to be right.
func worse(a, b string) string {
	for _, t := range []string{space.BadToken, space.OtherAudience, space.SignedIn} {
		if a == t || b == t {
			return t
		}
	}
	return space.NoToken
}

// personal are the headers of which a token decides on the way of an answer.
func (p *Program) personal(a space.Answer) []string {
	var out []string
	for _, e := range a.Image.Headers {
		if e.Open {
			out = append(out, e.Name)
		}
	}
	for _, s := range a.Outcome.Shares {
		out = append(out, p.Personal(s.Target)...)
	}
	return out
}

// IsPersonal reports whether a header is one of Personal, in any of its spellings: what a request brings along in
// another one is removed.
func (a Answer) IsPersonal(header string) bool {
	return slices.ContainsFunc(a.Personal, func(p string) bool { return hop.Spells(strings.ToLower(header), p) })
}

// Personal are the headers that follow from an end user's token, where a service's own proxy looks at
// one; target is "namespace/service/port/version".
func (p *Program) Personal(target string) []string {
	parts := targetParts(target)
	s := p.mesh.Service(strings.Join(parts[:min(2, len(parts))], "/"))
	if s == nil || len(parts) < 3 {
		return nil
	}
	var out []string
	for _, e := range s.TraitsAt(parts[2]).Image().Headers {
		out = append(out, e.Name)
	}
	return out
}

// wordsOfUsers say why nobody gets through who shows no token, or another one.
func wordsOfUsers(status int) string {
	if status == http.StatusForbidden {
		return "denied (403): the user's token is for others"
	}
	return fmt.Sprintf("denied (%d): nobody is signed in, or the user's token is wrong", status)
}
