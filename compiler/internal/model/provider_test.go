package model_test

import (
	"testing"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
)

// A token is judged in the order in which Envoy looks at it: who says it, for whom, and last by which key.
func TestATokenIsJudgedAsEnvoyLooksAtIt(t *testing.T) {
	own := model.Provider{ID: "a/own", Issuer: "https://id.test", Audiences: []string{"shop"}, Keys: "one"}
	for _, c := range []struct {
		name string
		of   model.Provider
		said space.User
		want string
	}{
		{"its own", own, space.User{Token: space.SignedIn}, space.SignedIn},
		{"for somebody else", own, space.User{Token: space.OtherAudience}, space.OtherAudience},
		{"forged", own, space.User{Token: space.BadToken}, space.BadToken},
		{"by another key", model.Provider{Issuer: own.Issuer, Audiences: own.Audiences, Keys: "two"}, space.User{Token: space.SignedIn}, space.BadToken},
		{"by another key, for somebody else", model.Provider{Issuer: own.Issuer, Audiences: []string{"till"}, Keys: "two"}, space.User{Token: space.SignedIn}, space.OtherAudience},
		{"of another issuer, for somebody else", model.Provider{Issuer: "https://other.test", Audiences: []string{"till"}, Keys: "one"}, space.User{Token: space.SignedIn}, space.BadToken},
	} {
		if got := own.Judges(c.of, c.said); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// Where Envoy finds no token there is none, be it one for an application.
func TestATokenIsFoundWhereEnvoyFindsIt(t *testing.T) {
	in := model.Tokens{Headers: []model.TokenHeader{{Name: "x-id"}, {Name: "authorization", Prefix: "Bearer "}}, Query: []string{"t"}, Cookies: []string{"sid"}}
	for _, c := range []struct {
		header, value, query string
		want                 bool
	}{
		{"x-id", "", "", true},
		{"authorization", "Bearer x", "", true},
		{"authorization", "Basic x", "", false},
		{"cookie", "sid=x", "", true},
		{"cookie", "a=b;   sid=", "", true},
		{"cookie", "sid =x", "", false},
		{"cookie", "\tsid=x", "", false},
		{"cookie", "sid", "", false},
		{"cookie", "SID=x; asid=y", "", false},
		{"x-other", "sid=x", "", false},
		{"", "", "a=b&t", true},
		{"", "", "%74=x", true},
		{"", "", "tt=x", false},
	} {
		if got := in.Found(space.Request{Headers: []space.Header{{Name: c.header, Value: c.value}}, Query: c.query}); got != c.want {
			t.Errorf("%s: %s ?%s: %t", c.header, c.value, c.query, got)
		}
	}
}
