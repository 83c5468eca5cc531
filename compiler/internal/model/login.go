package model

import (
	"slices"

	"meshc.dev/meshc/internal/certref"
)

// Login is a client of a provider of OpenID Connect, as which a gateway has users sign in with browsers. Its secret lies
// where its Certificate says, and nothing of that is part of a mesh.
type Login struct {
	Certificate
	// Client is its name, which is in the "aud" of its tokens.
	Client string `json:"client"`
	// Authorization is the https URL where browsers sign in.
	Authorization string `json:"authorization"`
	// To is the ID of an external, Port one of its ports and Path the path there that gives tokens.
	To   string `json:"to"`
	Port string `json:"port"`
	Path string `json:"path"`
	// Scopes are what is asked for, sorted, "openid" among them.
	Scopes []string `json:"scopes"`
	// Callback is the path at which browsers come back, Logout that at which a session ends.
	Callback string `json:"callback"`
	Logout   string `json:"logout"`
	// End is the https URL where they go then, "" for "/" of the host.
	End string `json:"end,omitempty"`
}

// Target is who gives tokens, as a destination.
func (l Login) Target() Target { return Target{Service: l.To, Port: l.Port} }

// Refs are the names by which the proxy's agent is asked for the client's secret, and for the key of sessions, which follows
// from it: all proxies of a gateway have the same.
func (l Login) Refs() (secret, sessions certref.Ref) {
	secret, sessions = l.Ref(), l.Ref()
	secret.Kind, sessions.Kind = certref.ClientSecret, certref.SessionKey
	return secret, sessions
}

// LoginsAt are those by which browsers sign in to some of those hosts of a gateway, sorted by ID.
func (m *Mesh) LoginsAt(g *Gateway, hosts ...Host) []Login {
	used := m.LoginIDsAt(g, hosts...)
	return slices.DeleteFunc(slices.Clone(m.Logins), func(l Login) bool { return !slices.Contains(used, l.ID) })
}

// LoginIDsAt are their IDs, sorted, which a mesh without lists knows as well: see Watched.
func (m *Mesh) LoginIDsAt(g *Gateway, hosts ...Host) []string {
	var used []string
	for _, h := range hosts {
		for _, r := range m.GatewayRoutes(g, h) {
			used = append(used, r.Traits.Logins()...)
		}
	}
	slices.Sort(used)
	return slices.Compact(used)
}
