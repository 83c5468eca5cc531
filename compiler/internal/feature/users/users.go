// Package users is the feature `users` of services, gateways' hosts and gateways' routes: who the
// end user is, by the token (JWT) of a provider. A token that is wrong is refused, and so is a
// request without one where somebody has to be signed in, before denies and grants are asked.
package users

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"meshc.dev/meshc/compiler/internal/feature"
	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/plan"
	"meshc.dev/meshc/compiler/internal/resolve"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/compiler/internal/target/envoy"
	"meshc.dev/meshc/compiler/internal/target/gatewayapi"
	"meshc.dev/meshc/compiler/internal/target/kubernetes"
	"meshc.dev/meshc/compiler/internal/trait"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
)

const (
	name  = space.ByUsers
	field = "users"
)

// Statuses that Envoy does not let choose.
const (
	found        = 302
	unauthorized = 401
	forbidden    = 403
)

// Users are the providers whose tokens are looked at, in this order: by name, those of keys and passwords last.
type Users struct {
	Of []User `json:"of,omitempty"`
	// Removed are headers that nobody but providers may write, sorted: their own, and at a gateway
	// those of all providers of the mesh.
	Removed []string `json:"removed,omitempty"`
}

// User is what is asked of the users of one provider.
type User struct {
	Provider model.Provider `json:"provider"`
	// Require lets nobody through who is not signed in.
	Require bool `json:"require,omitempty"`
	// Asked are the requests whose tokens are looked at.
	model.Asked
	// Login is how browsers get a token, nil if they do not.
	Login *model.Login `json:"login,omitempty"`
	// Host is the gateway's host at which they do, "" without a login.
	Host string `json:"host,omitempty"`
}

// before is negative if u's provider is asked before another one.
func (u User) before(other User) int {
	last := func(u User) int {
		if u.Provider.Credentials != nil {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(last(u), last(other)), cmp.Compare(u.Provider.ID, other.Provider.ID))
}

// TraitName is "users".
func (Users) TraitName() string { return name }

// Demands is trait.Demanding: a token of the user.
func (us Users) Demands(method, path string) string {
	for _, u := range us.Of {
		if u.Require && u.Takes(method, path) {
			_, of, _ := strings.Cut(u.Provider.ID, "/")
			return name + ": " + strconv.Quote(of)
		}
	}
	return ""
}

// SignedIn are the requests at which a token of a provider is looked for, and that have a right one.
func (us Users) SignedIn(provider string) ([]space.Test, bool) {
	i := slices.IndexFunc(us.Of, func(u User) bool { return u.Provider.ID == provider })
	if i < 0 {
		return nil, false
	}
	u := us.Of[i]
	return append(u.Tests(), space.Values(space.UserDim(provider), u.Provider.Right()...)), true
}

// Logins are the IDs of those by which browsers sign in.
func (us Users) Logins() []string {
	var out []string
	for _, u := range us.Of {
		if u.Login != nil {
			out = append(out, u.Login.ID)
		}
	}
	return out
}

// Image is what those behind get: headers that say who the user is, or nothing in them, and no token
// of which nobody has said that it goes on. What they say nobody knows before.
func (us Users) Image() space.Image {
	var out space.Image
	add := func(header string) {
		if !slices.ContainsFunc(out.Headers, func(e space.Edit) bool { return e.Name == header }) {
			out.Headers = append(out.Headers, space.Edit{Name: header, Open: true})
		}
	}
	for _, u := range us.Of {
		for _, c := range u.Provider.Claims {
			add(c.Header)
		}
	}
	for _, h := range us.Removed {
		if !slices.ContainsFunc(out.Headers, func(e space.Edit) bool { return e.Name == h }) {
			out.Headers = append(out.Headers, space.Edit{Name: h, Clear: true})
		}
	}
	for _, u := range us.Of {
		if u.Provider.Forward && u.Login == nil {
			continue
		}
		for _, h := range u.Provider.From.Headers {
			add(h.Name)
		}
	}
	return out
}

// Feature is the row.
var Feature = feature.Feature{
	Rule: resolve.Rule{
		Name: name, Field: field, On: []resolve.On{resolve.OnService, resolve.OnGatewayRoute, resolve.OnHost}, Answers: false, Holds: true,
		Defaults: []resolve.Default{
			{Field: "users.require", Value: "false", Why: "who may come without a token is said by grants and denies"},
			{Field: "jwt.from", Value: `headers: authorization: "Bearer "`, Why: "so tokens are sent that nobody agreed on otherwise (RFC 6750)"},
			{Field: "jwt.forward", Value: "false", Why: "an application that has a token can act with it"},
			{Field: "jwt.keys.url.cache", Value: "10m", Why: "issuers show a new key for longer before they sign by it"},
			{Field: "login.callback", Value: `"/login/callback"`, Why: "a path that applications rarely have"},
			{Field: "login.logout", Value: `"/login/logout"`, Why: "beside it"},
			{Field: "jwt.clockSkew", Value: "60s", Why: "what clocks differ by that nobody looks after"},
		},
		Read: read, Uses: uses,
	},
	Codec:      trait.JSON[Users],
	Meaning:    meaning,
	Change:     change,
	Envoy:      envoy.Join(envoy.OnRoute(onRoute), envoy.OnInbound(onHost), envoy.OnRoutesTo(onRoutesTo)).Needs(envoy.SlotUsers),
	Kubernetes: kubernetes.Nothing("the proxies check tokens"),
	GatewayAPI: gatewayapi.Refuse("Gateway API knows no end users"),
}

// uses are the externals that publish keys, and those that give tokens.
func uses(v trait.Value) []model.Target {
	var out []model.Target
	for _, u := range v.(Users).Of {
		if f := u.Provider.Fetched; f != nil {
			out = append(out, f.Target())
		}
		if u.Login != nil {
			out = append(out, u.Login.Target())
		}
	}
	return out
}

func read(n intent.Node, x *resolve.Place) trait.Value {
	var out Users
	for _, e := range n.Fields() {
		p, ok := x.Provider(e.Name, e.Node)
		if !ok {
			continue
		}
		x.CredentialsHere(p, e.Node)
		u := User{Provider: p, Require: e.Node.Field("require").Bool(), Asked: x.Asked(e.Node), Login: x.Login(p, e.Node.Field("login"))}
		if u.Login != nil {
			u.Host = x.Host
		}
		if u.Login != nil && len(out.Logins()) > 0 {
			x.Problem(diag.New(diag.CodeLogin, e.Node.Pos(), "browsers are sent to two logins, %q and %q, and can follow one", out.Logins()[0], u.Login.ID).WithFix("keep one of them, or let them be on routes of their own"))
		}
		for _, other := range out.Of {
			if other.Provider.ID == p.ID {
				x.Problem(diag.New(diag.CodeDuplicate, e.Node.Pos(), "provider %q is named twice, with and without its namespace", p.ID).WithFix("keep one of them"))
			} else if at := p.From.Meets(other.Provider.From); at != "" {
				x.Problem(diag.New(diag.CodeToken, e.Node.Pos(), "providers %q and %q look for their tokens in the same place (%s): one's token is a wrong one for the other, and every request would be refused",
					other.Provider.ID, p.ID, at).WithFix("give one of them another place in its `from`, or let them be on routes of their own"))
			}
		}
		for _, c := range p.Claims {
			if slices.Contains(out.Removed, c.Header) {
				x.Problem(diag.New(diag.CodeToken, e.Node.Pos(), "two providers write header %s, and nobody behind could tell whose user it names", c.Header).WithFix("let each write a header of its own"))
			}
			out.Removed = append(out.Removed, c.Header)
		}
		out.Of = append(out.Of, u)
	}
	if x.Gateway {
		out.Removed = x.ClaimHeaders()
	}
	if len(out.Of)+len(out.Removed) == 0 {
		return nil
	}
	slices.Sort(out.Removed)
	slices.SortFunc(out.Of, User.before)
	return out
}

func meaning(v trait.Value) []space.Act {
	us := v.(Users)
	out := space.Labels(space.AtUsers, fields(us)...)
	for _, u := range us.Of {
		out = append(out, u.signsIn(len(us.Of) > 1)...)
	}
	for _, u := range us.Of {
		dim := space.UserDim(u.Provider.ID)
		refuse := func(status int, t space.Test) {
			out = append(out, space.Act{At: space.AtUsers, When: append(u.Tests(), t), Answer: &space.Reply{Status: status}})
		}
		let := u.Provider.Right()
		if len(u.Provider.Audiences) > 0 {
			refuse(forbidden, space.Values(dim, space.OtherAudience))
		}
		if !u.Require {
			let = append(let, space.NoToken)
		}
		t := space.Values(dim, let...)
		t.Not = true
		refuse(unauthorized, t)
	}
	return out
}

func fields(us Users) []space.Field {
	var out []space.Field
	var others []string
	for _, e := range us.Image().Headers {
		if e.Clear {
			others = append(others, e.Name)
		}
	}
	if len(others) > 0 {
		out = append(out, space.Field{Feature: name, Name: "removes", Value: strings.Join(others, ", ")})
	}
	for _, u := range us.Of {
		p := u.Provider
		put := func(what, value string) {
			out = append(out, space.Field{Feature: name, Name: p.ID + " " + what, Value: value})
		}
		put("may be absent", strconv.FormatBool(!u.Require))
		u.fieldsOfKeys(put)
		put("tokens", places(p.From))
		if u.Login != nil {
			u.fieldsOfLogin(put)
		}
		if p.Forward {
			put("forward", "true")
		}
		for _, c := range p.Claims {
			put("header "+c.Header, c.Name)
		}
		if p.Credentials == nil {
			put("clock skew", strconv.FormatUint(uint64(p.Skew), 10)+"s")
		}
		if only := u.Asked.Words(); only != "" {
			put("only", only)
		}
		if not := u.Not.Words(); not != "" {
			put("not", not)
		}
	}
	return out
}

// fieldsOfKeys say by what the provider knows users.
func (u User) fieldsOfKeys(put func(what, value string)) {
	p := u.Provider
	if c := p.Credentials; c != nil {
		put("credentials", c.Ref().String())
		if c.Realm != "" {
			put("realm", c.Realm)
		}
		return
	}
	put("issuer", p.Issuer)
	if len(p.Audiences) > 0 {
		put("audiences", strings.Join(p.Audiences, ", "))
	}
	if f := p.Fetched; f != nil {
		put("keys", "from "+p.KeyID()+", again after "+strconv.FormatUint(uint64(f.Cache), 10)+"s")
	} else {
		put("keys", canon.Fingerprint([]byte(p.Keys)))
	}
}

func places(t model.Tokens) string {
	var out []string
	for _, h := range t.Headers {
		out = append(out, strings.TrimSpace("header "+h.Name+" "+h.Prefix))
	}
	for _, q := range t.Query {
		out = append(out, "parameter "+q)
	}
	for _, c := range t.Cookies {
		out = append(out, "cookie "+c)
	}
	return strings.Join(out, ", ")
}

// change: to believe another, or to look at fewer requests, weakens what was asked; who is asked
// for more is told as access.
func change(before, after []space.Field) (plan.Class, string) {
	if len(before) == 0 {
		return plan.Narrowing, plan.Arrow("end users", before, after)
	}
	return plan.Weakening, plan.Arrow("end users", before, after)
}
