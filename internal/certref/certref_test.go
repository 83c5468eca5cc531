package certref

import (
	"strings"
	"testing"
)

func TestNamesLeadToOnePlace(t *testing.T) {
	for _, r := range []Ref{{File: "shop-tls"}, {File: "shop.example"}, {Namespace: "edge", Secret: "shop-tls"}, {Namespace: "edge", Secret: "shop.example"},
		{Kind: Keys, File: "partners"}, {Kind: Passwords, Namespace: "edge", Secret: "staff"}, {Kind: ClientSecret, File: "web"}, {Kind: SessionKey, Namespace: "edge", Secret: "web"}, {Kind: Authorities, File: "partners"}, {Kind: Revoking, Namespace: "edge", Secret: "partners"}} {
		if back, ok := Parse(r.String()); !ok || back != r {
			t.Errorf("%q is read as %+v, %v", r, back, ok)
		}
	}
	for _, name := range []string{
		"", "default", "ROOTCA", "certificate/file/", "certificate/file/..", "certificate/file/a/../b", "certificate/file/a..b",
		"certificate/file//etc", "certificate/file/A", "certificate/other/a",
		"certificate/secret/", "certificate/secret/a", "certificate/secret/a/", "certificate/secret//b", "certificate/secret/a/b/c", "certificate/secret/a/..",
		"certificate/secret/../b", "certificate/secret/a.b/c", "certificate/secret/a/b?watch=1", "certificate/secret/a/B", "authorities", "authorities/", "authorities/file/..", "authorities-crl/secret/a", "roots/file/a", "/file/a",
	} {
		if r, ok := Parse(name); ok {
			t.Errorf("%q is read as %+v", name, r)
		}
	}
}

func TestQuestionsAreAboutOnePlace(t *testing.T) {
	for _, a := range []Ask{{Ref: "keys/file/partners", Query: "a%b", Name: "x-client", Optional: true}, {Ref: "passwords/secret/edge/staff", Header: "authorization", Realm: "a & b"}} {
		back, _, err := ParseAsk(a.Encode())
		if err != nil || back != a || strings.Contains(a.Encode(), "%") {
			t.Errorf("%s is read as %+v, %v", a.Encode(), back, err)
		}
	}
	for _, text := range []string{"", "{}", `{"ref":"certificate/file/shop","header":"x"}`, `{"ref":"keys/file/..","header":"x"}`, `{"ref":"keys/file/a"}`, `{"ref":"keys/file/a","header":"x","query":"y"}`} {
		if a, _, err := ParseAsk(text); err == nil {
			t.Errorf("%s is read as %+v", text, a)
		}
	}
}
