package ca

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"meshc.dev/meshc/internal/diag"
)

// A token that nobody signed is read, or refused, and nothing else; a join token is
// never taken for one.
func TestPodTokensAreReadWithoutTrust(t *testing.T) {
	claims := func(text string) string { return "e30." + base64.RawURLEncoding.EncodeToString([]byte(text)) + ".AA" }
	const pod = `"kubernetes.io":{"namespace":"shop","pod":{"name":"web-1","uid":"u"}}`
	for token, want := range map[string]string{
		claims(`{"sub":"system:serviceaccount:shop:web","aud":"meshc.dev",` + pod + `}`):       "shop/web [meshc.dev]",
		claims(`{"sub":"system:serviceaccount:shop:web","aud":["a","meshc.dev"],` + pod + `}`): "shop/web [a meshc.dev]",
		claims(`{"sub":"system:serviceaccount:shop:web.v1","aud":[],` + pod + `}`):             "MESH0624",
		claims(`{"sub":"system:serviceaccount:other:web","aud":[],` + pod + `}`):               "MESH0634",
		claims(`{"sub":"admin","aud":[],` + pod + `}`):                                         "MESH0634",
		claims(`{"sub":"system:serviceaccount:shop:web","aud":[]}`):                            "MESH0634",
		claims(`{"sub":"system:serviceaccount:shop:web","aud":{},` + pod + `}`):                "MESH0634",
		claims(`[]`): "MESH0634",
		"a.b":        "MESH0634",
		"":           "MESH0634",
		strings.Repeat("a", maxPodToken) + ".e30.a": "MESH0634",
	} {
		got := ""
		if c, err := ReadPodToken(token); err != nil {
			got = string(codeOf(err))
		} else {
			got = fmt.Sprint(c.Identity, c.Audiences)
			got = strings.Replace(got, "web[", "web [", 1)
		}
		if got != want {
			t.Errorf("%.200s: got %s, want %s", token, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.Map(rapid.String(), claims)).Draw(t, "token")
		if _, err := ReadPodToken(text); err != nil && codeOf(err) != diag.CodePodToken && codeOf(err) != diag.CodeIdentity {
			t.Fatalf("%q: %v", text, err)
		}
	})
	join, err := newSite(t, nil).tokens.Create(t.Context(), spiffe(t, web), MaxTokenTTL)
	if err != nil || isPodToken(join) || !isPodToken("e30.e30.AA") {
		t.Errorf("%q, %v", join, err)
	}
}

// Nobody has more than his share of places, and all come back.
func TestRoomIsShared(t *testing.T) {
	s := newSite(t, nil)
	service := NewService(s.a, s.tokens, nil, nil)
	r := &service.looking
	var leave []func()
	enter := func(addr string) bool {
		f, ok := r.enter(addr)
		if ok {
			leave = append(leave, f)
		}
		return ok
	}
	for i := range attestOne {
		if !enter(fmt.Sprintf("10.0.0.1:%d", i+1)) {
			t.Fatal("too few places")
		}
	}
	if enter("10.0.0.1:99") || !enter("10.0.0.2:1") || !enter("[fd00::1]:1") {
		t.Error("one address has more than its share, or another none")
	}
	for i := range 250 {
		enter(fmt.Sprintf("10.1.0.%d:1", i))
	}
	if len(leave) != attestAll {
		t.Errorf("%d at one time", len(leave))
	}
	for _, f := range leave {
		f()
	}
	if r.all != 0 || len(r.one) != 0 {
		t.Errorf("left behind: %d, %v", r.all, r.one)
	}
}
