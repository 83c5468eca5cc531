package certref

import "testing"

func TestNamesLeadToOnePlace(t *testing.T) {
	for _, r := range []Ref{{File: "shop-tls"}, {File: "shop.example"}, {Namespace: "edge", Secret: "shop-tls"}, {Namespace: "edge", Secret: "shop.example"},
		{Kind: Authorities, File: "partners"}, {Kind: Revoking, Namespace: "edge", Secret: "partners"}} {
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
