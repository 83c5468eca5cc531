package space

import (
	"slices"
	"strings"
)

const claimPrefix = "claim:"

// Claims is the family of ClaimDim.
const Claims Dim = claimPrefix

// ClaimDim is the dimension of a claim of the end user's token, as a provider reads it: multi-valued, for
// a claim may be a list. Only a token that is right says anything, so who tests one tests UserDim too.
func ClaimDim(provider, name string) Dim { return Dim(claimPrefix + provider + " " + name) }

var claim = Dimension{ //nolint:gochecknoglobals // a constant that Go cannot express
	Name:  claimPrefix,
	Lines: true,
	Late:  true,
	Values: func(q Request, name string) []string {
		var out []string
		provider, name, _ := strings.Cut(name, " ")
		for _, c := range q.saidBy(provider) {
			if c.Name == name {
				out = append(out, c.Value)
			}
		}
		return out
	},
	With:     Request.withClaim,
	Universe: fixed(`[ -~\x{80}-\x{10FFFF}]*`),
	Fixes: func(q Request, name string) bool {
		provider, name, _ := strings.Cut(name, " ")
		return slices.ContainsFunc(q.saidBy(provider), func(c Claim) bool { return c.Name == name })
	},
	Word:  "claims",
	Place: Addition,
	Words: func(name string, t Test) string {
		provider, name, _ := strings.Cut(name, " ")
		return fieldWords("claim", name+" of "+provider, t)
	},
}

// saidBy are the claims of a provider's token that is right.
func (q Request) saidBy(provider string) []Claim {
	i := slices.IndexFunc(q.Users, func(u User) bool { return u.Provider == provider && u.Token == SignedIn })
	if i < 0 {
		return nil
	}
	return q.Users[i].Claims
}

// withClaim is the request with one more thing that a token says, if there is one that is right.
func (q Request) withClaim(name, value string) Request {
	provider, name, _ := strings.Cut(name, " ")
	q.Users = slices.Clone(q.Users)
	for i, u := range q.Users {
		if u.Provider == provider && u.Token == SignedIn {
			q.Users[i].Claims = append(slices.Clip(u.Claims), Claim{name, value})
		}
	}
	return q
}
