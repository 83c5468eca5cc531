package space

import (
	"slices"
	"strings"
)

const userPrefix = "user:"

// UserDim is the dimension of the end user as one provider of tokens knows him: what a request
// brings along for it.
func UserDim(provider string) Dim { return Dim(userPrefix + provider) }

// User is the provider of which d is UserDim.
func (d Dim) User() (provider string, ok bool) { return strings.CutPrefix(string(d), userPrefix) }

// What a request brings along for a provider.
const (
	// NoToken is nothing: nobody is signed in.
	NoToken = ""
	// SignedIn is a token that the provider has signed for one of its audiences, and that holds now.
	SignedIn = "signed-in"
	// OtherAudience is one that the provider has signed for somebody else.
	OtherAudience = "other-audience"
	// BadToken is one that is expired, forged, of another issuer, or no token at all.
	BadToken = "invalid"
)

// User is what a request brings along for a provider.
type User struct {
	// Provider is "namespace/name".
	Provider string `json:"provider"`
	// Token is SignedIn, OtherAudience or BadToken.
	Token string `json:"token"`
	// Claims are what a token says that is right, one for each element of a list.
	Claims []Claim `json:"claims,omitempty"`
}

// Claim is one thing that a token says.
type Claim struct {
	// Name is the claim's, "a.b" for b within a.
	Name  string `json:"name"`
	Value string `json:"value"`
}

var user = Dimension{ //nolint:gochecknoglobals // a constant that Go cannot express
	Name:     userPrefix,
	Late:     true,
	Values:   func(q Request, provider string) []string { return one(q.user(provider)) },
	With:     Request.withUser,
	Universe: fixed(`(?:` + strings.Join([]string{SignedIn, OtherAudience, BadToken}, "|") + `)?`),
	Likely:   []string{NoToken, SignedIn},
	Fixes:    func(q Request, provider string) bool { return q.user(provider) != NoToken },
	Word:     "user",
	Place:    Addition,
	Words:    userWords,
}

// user is what the request brings along for a provider.
func (q Request) user(provider string) string {
	if i := slices.IndexFunc(q.Users, func(u User) bool { return u.Provider == provider }); i >= 0 {
		return q.Users[i].Token
	}
	return NoToken
}

func (q Request) withUser(provider, token string) Request {
	var said []Claim
	if i := slices.IndexFunc(q.Users, func(u User) bool { return u.Provider == provider }); i >= 0 && token == SignedIn {
		said = q.Users[i].Claims
	}
	q.Users = slices.DeleteFunc(slices.Clone(q.Users), func(u User) bool { return u.Provider == provider })
	if token != NoToken {
		q.Users = append(q.Users, User{Provider: provider, Token: token, Claims: said})
	}
	return q
}

// UserWords say what a token is, of a provider.
func UserWords(provider, token string) string {
	switch token {
	case NoToken:
		return "without a token of " + provider
	case SignedIn:
		return "signed in by " + provider
	case OtherAudience:
		return "with a token that " + provider + " signed for others"
	default:
		return "with a token that " + provider + " did not sign, or that has expired"
	}
}

func userWords(provider string, t Test) string {
	all := []string{SignedIn, NoToken, BadToken, OtherAudience}
	taken := slices.DeleteFunc(slices.Clone(all), func(v string) bool { return !t.Admits(v) })
	left := len(all) - len(taken)
	switch {
	case left == 0:
		return ""
	case left == 1 && !t.Admits(SignedIn):
		return "not " + UserWords(provider, SignedIn)
	}
	for i, v := range taken {
		taken[i] = UserWords(provider, v)
	}
	return strings.Join(taken, " or ")
}
