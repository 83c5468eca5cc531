package trait

import "strings"

// CountedBy is what requests have in common that are counted together: all that it says, nothing
// for all requests.
type CountedBy struct {
	Identity bool `json:"identity,omitempty"`
	Client   bool `json:"client,omitempty"`
	Method   bool `json:"method,omitempty"`
	Path     bool `json:"path,omitempty"` // without its query
	// Headers are in lower case, sorted, each once.
	Headers []string `json:"headers,omitempty"`
	// Claims are sorted, each once.
	Claims []CountedClaim `json:"claims,omitempty"`
}

// CountedClaim is a text that a user's token says.
type CountedClaim struct {
	// Provider is "namespace/name", Name is the claim's, or those on the way to it, joined by dots.
	Provider string `json:"provider"`
	Name     string `json:"name"`
}

// Counting is a value that counts requests by what users' tokens say.
type Counting interface {
	Value
	// Claims are those by which it counts.
	Claims() []CountedClaim
}

// IsZero reports whether all requests count together.
func (b CountedBy) IsZero() bool {
	return !b.Identity && !b.Client && !b.Method && !b.Path && len(b.Headers) == 0 && len(b.Claims) == 0
}

// Words are "identity and header x-tenant"; "" for all requests.
func (b CountedBy) Words() string {
	var out []string
	for _, k := range []struct {
		is   bool
		word string
	}{{b.Identity, "identity"}, {b.Client, "client"}, {b.Method, "method"}, {b.Path, "path"}} {
		if k.is {
			out = append(out, k.word)
		}
	}
	for _, h := range b.Headers {
		out = append(out, "header "+h)
	}
	for _, c := range b.Claims {
		out = append(out, "claim "+c.Name+" of "+c.Provider)
	}
	return strings.Join(out, " and ")
}
