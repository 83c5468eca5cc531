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
