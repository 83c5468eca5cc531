package space

// IdentityDim is the caller: a SPIFFE ID
// ("spiffe://trust-domain/ns/namespace/sa/account"), "" if it has none.
const IdentityDim Dim = "identity"

const (
	label       = `[a-z0-9](?:[-a-z0-9]*[a-z0-9])?`
	trustDomain = `[a-z0-9][-._a-z0-9]*`
)

var identity = Dimension{ //nolint:gochecknoglobals // a constant that Go cannot express
	Name:     string(IdentityDim),
	Values:   func(q Request, _ string) []string { return one(q.From) },
	With:     func(q Request, _, v string) Request { q.From = v; return q },
	Universe: fixed(`(?:spiffe://` + trustDomain + `/ns/` + label + `/sa/` + label + `)?`),
}
